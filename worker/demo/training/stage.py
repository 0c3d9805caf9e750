"""What every training stage has in common: the loop, the learning rate, the average, resuming, the log."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from worker.demo.training.optimiser import MatrixAdam, parameter_groups

LOG_EVERY_STEPS = 20


@dataclass(frozen=True)
class Plan:
    """How long and how hard one stage trains on one kind of machine."""

    steps: int
    batch: int
    learning_rate: float
    warm_up_steps: int = 100
    average_decay: float = 0.999
    sparse_share: float = 0.0
    """Share of the steps that show a quarter of the tokens of four times as many pictures."""


@dataclass(frozen=True)
class Machine:
    """Where training runs."""

    device: torch.device
    autocast: bool

    @classmethod
    def here(cls) -> "Machine":
        """Take the GPU where there is one; bfloat16 only there, since most CPUs are slower with it."""
        if torch.cuda.is_available():
            return cls(torch.device("cuda"), autocast=True)
        return cls(torch.device("cpu"), autocast=False)


@dataclass
class Stage:
    """One stage: which networks learn, what one step loses, and where its state lives."""

    name: str
    plan: Plan
    machine: Machine
    networks: nn.ModuleDict
    loss: Callable[[int], Tensor]
    directory: Path
    seed: int = 0
    save_every_seconds: float = 120.0

    def run(self) -> None:
        """Train from the last saved state to the last step; the networks end as their moving average."""
        if self._saved_step() >= self.plan.steps:
            self.take_average()
            return
        self.networks.train()
        parameters = [weight for weight in self.networks.parameters() if weight.requires_grad]
        optimiser = MatrixAdam(parameter_groups(self.networks))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate(self.plan, step))
        average = {name: value.detach().clone() for name, value in self.networks.state_dict().items()}
        first = self._resume(optimiser, schedule, average)
        saved_at = time.monotonic()
        bar = tqdm(range(first, self.plan.steps), initial=first, total=self.plan.steps, desc=self.name)
        for step in bar:
            # Every step has its own seed, so a resumed run sees the batches that an unbroken one would.
            torch.manual_seed(1_000_003 * self.seed + step)
            with torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.autocast):
                loss = self.loss(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            follow(average, self.networks, min(self.plan.average_decay, (1 + step) / (10 + step)))
            if step % LOG_EVERY_STEPS == 0:
                bar.set_postfix(loss=f"{loss.item():.4f}")
                self._log(step, loss.item())
            if time.monotonic() - saved_at > self.save_every_seconds:
                self._save(step + 1, optimiser, schedule, average)
                saved_at = time.monotonic()
        self._save(self.plan.steps, optimiser, schedule, average)
        self.take_average()

    def take_average(self) -> None:
        """Load the moving average of the saved state."""
        state = torch.load(self.state_path, map_location=self.machine.device, weights_only=True)
        self.networks.load_state_dict(state["average"])
        self.networks.eval()

    @property
    def state_path(self) -> Path:
        """File from which the stage resumes."""
        return self.directory / f"{self.name}.pt"

    def _saved_step(self) -> int:
        """Read how far an earlier run came."""
        if not self.state_path.exists():
            return 0
        return int(torch.load(self.state_path, map_location="cpu", weights_only=True)["step"])

    def _resume(self, optimiser: Any, schedule: Any, average: dict[str, Tensor]) -> int:
        """Load the last state, if any, and return the next step."""
        if not self.state_path.exists():
            return 0
        state = torch.load(self.state_path, map_location=self.machine.device, weights_only=True)
        self.networks.load_state_dict(state["networks"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        average.update(state["average"])
        return int(state["step"])

    def _save(self, step: int, optimiser: Any, schedule: Any, average: dict[str, Tensor]) -> None:
        """Write the whole state; a crash while writing leaves the last one."""
        state = {
            "step": step,
            "networks": self.networks.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "average": average,
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self.state_path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(self.state_path)

    def _log(self, step: int, loss: float) -> None:
        """Append one line to the log of the stage."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / f"{self.name}.log.jsonl").open("a") as log:
            log.write(json.dumps({"time": round(time.time()), "step": step, "loss": round(loss, 5)}) + "\n")


def learning_rate(plan: Plan, step: int) -> float:
    """Warm up in a line, then fall along a cosine to a fiftieth."""
    if step < plan.warm_up_steps:
        return plan.learning_rate * (step + 1) / plan.warm_up_steps
    done = (step - plan.warm_up_steps) / max(1, plan.steps - plan.warm_up_steps)
    return plan.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@torch.no_grad()
def follow(average: dict[str, Tensor], networks: nn.Module, decay: float) -> None:
    """Move the average a little towards the present weights."""
    for name, value in networks.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)
