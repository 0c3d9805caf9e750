"""Adam for vectors and embeddings, orthogonalised momentum ("Muon") for the matrices inside the blocks.

On this family the second kind needs far fewer steps; both run as one optimiser so that a stage has one
state and one learning-rate schedule.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MATRIX_RATE = 15.0
"""Learning rate of the matrices in units of Adam's: their updates have a fixed size, not one per weight."""


_STACKS = ("transformer_blocks.", ".block.", ".layers.")
"""Where the matrices inside blocks live: FLUX, T5 and CLIP."""


def parameter_groups(networks: nn.Module) -> list[dict[str, Any]]:
    """Split the learning weights into block matrices and all others."""
    inner: list[Tensor] = []
    outer: list[Tensor] = []
    for name, weight in networks.named_parameters():
        if weight.requires_grad:
            (inner if _is_block_matrix(name, weight) else outer).append(weight)
    groups = [{"params": outer, "scale": 1.0, "orthogonal": False}]
    return groups + ([{"params": inner, "scale": MATRIX_RATE, "orthogonal": True}] if inner else [])


def _is_block_matrix(name: str, weight: Tensor) -> bool:
    """Tell maps between states from tables: T5 keeps a table of distances inside its first block."""
    return weight.ndim == 2 and "embedding" not in name and "bias" not in name and any(s in name for s in _STACKS)


class MatrixAdam(torch.optim.Optimizer):
    """Adam with one orthogonalised-momentum group."""

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float] = (0.9, 0.98)) -> None:
        super().__init__(groups, {"lr": 1.0, "betas": betas, "scale": 1.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight once."""
        if closure is not None:
            raise ValueError("MatrixAdam takes no closure")
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            move = self._move_matrices if group["orthogonal"] else self._move_by_adam
            move(weights, group["lr"] * group["scale"], group["betas"])

    def _move_by_adam(self, weights: list[Tensor], rate: float, betas: tuple[float, float]) -> None:
        """Adam without weight decay."""
        for weight in weights:
            assert weight.grad is not None  # the caller leaves others out
            state = self.state[weight]
            if not state:
                state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
            state["step"] += 1
            state["mean"].lerp_(weight.grad, 1 - betas[0])
            state["square"].lerp_(weight.grad.square(), 1 - betas[1])
            mean = state["mean"] / (1 - betas[0] ** state["step"])
            root = (state["square"] / (1 - betas[1] ** state["step"])).sqrt_().add_(1e-8)
            weight.addcdiv_(mean, root, value=-rate)

    def _move_matrices(self, weights: list[Tensor], rate: float, betas: tuple[float, float]) -> None:
        """Move matrices along their orthogonalised momentum, those of one shape together."""
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for weight in weights:
            by_shape.setdefault(weight.shape, []).append(weight)
        for shape, alike in by_shape.items():
            directions = []
            for weight in alike:
                assert weight.grad is not None  # the caller leaves others out
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - betas[0])
                directions.append(torch.lerp(state["momentum"], weight.grad, 1 - betas[0]))
            size = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for weight, direction in zip(alike, orthogonalise(torch.stack(directions)), strict=True):
                weight.add_(direction, alpha=-size)


def orthogonalise(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Bring all singular values near one by a quintic Newton-Schulz iteration.

    Every round multiplies by a polynomial of the Gram matrix, and all of these commute. So the rounds run on
    the small square Gram matrices, and the long ones are multiplied once, at the end.
    """
    wide = matrices.shape[-1] >= matrices.shape[-2]
    start: Tensor = matrices if wide else matrices.mT
    start = start / (start.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = start @ start.mT
    one = torch.eye(gram.shape[-1], device=gram.device)
    whole = one.expand_as(gram)
    for index in range(rounds):
        factor = torch.baddbmm(torch.add(3.4445 * one, gram, alpha=-4.7750), gram, gram, alpha=2.0315)
        whole = factor @ whole if index else factor
        if index < rounds - 1:
            gram = factor @ gram @ factor
    result = whole @ start
    return result if wide else result.mT
