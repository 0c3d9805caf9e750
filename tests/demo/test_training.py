from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import nn

from worker.demo.family import make_family
from worker.demo.tokenization import word_pieces
from worker.demo.training.batches import CHANGE_WEIGHT, Batches, change_weights, token_weights
from worker.demo.training.flow import Flow, image_ids
from worker.demo.training.inherit import fill_from_demo, kontext_from_demo
from worker.demo.training.latent_bank import GRID, LatentBank
from worker.demo.training.optimiser import orthogonalise, parameter_groups
from worker.demo.training.prompts import PromptEncoder
from worker.demo.training.stage import Machine, Plan, Stage, learning_rate
from worker.demo.training.stages import CPU_PLANS, CUDA_PLANS
from worker.demo.training.words import share_spellings

CPU = Machine(torch.device("cpu"), autocast=False)


def toy_stage(directory: Path, steps: int, name: str = "toy") -> Stage:
    torch.manual_seed(0)
    network = nn.ModuleDict({"line": nn.Linear(3, 1)})

    def loss(step: int) -> torch.Tensor:
        inputs = torch.randn(16, 3)
        return (network["line"](inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()

    plan = Plan(steps=steps, batch=16, learning_rate=0.05, warm_up_steps=5, average_decay=0.9)
    return Stage(name=name, plan=plan, machine=CPU, networks=network, loss=loss, directory=directory)


def test_a_resumed_stage_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    unbroken = toy_stage(tmp_path, 60, "unbroken")
    unbroken.run()
    broken = toy_stage(tmp_path, 60, "broken")
    whole_loss = broken.loss

    def stop_at_30(step: int) -> torch.Tensor:
        if step == 30:
            raise KeyboardInterrupt
        return whole_loss(step)

    broken.loss = stop_at_30
    broken.save_every_seconds = 0.0
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = toy_stage(tmp_path, 60, "broken")
    resumed.run()
    for name, weight in unbroken.networks.state_dict().items():
        assert torch.equal(weight, resumed.networks.state_dict()[name])
    assert torch.allclose(resumed.networks["line"].weight, torch.ones(1, 3), atol=0.1)


def test_a_finished_stage_does_not_run_again(tmp_path: Path) -> None:
    toy_stage(tmp_path, 10).run()
    again = toy_stage(tmp_path, 10)
    again.loss = partial(pytest.fail, "trained a finished stage")
    again.run()
    assert not again.networks.training


def test_learning_rate_warms_up_and_cools_down() -> None:
    plan = Plan(steps=1000, batch=1, learning_rate=0.5, warm_up_steps=100)
    assert learning_rate(plan, 0) == pytest.approx(0.005)
    assert learning_rate(plan, 100) == pytest.approx(0.5)
    assert learning_rate(plan, 1000) == pytest.approx(0.01)


@pytest.mark.parametrize("model", ["refine", "kontext", "fill"])
@pytest.mark.parametrize("plans", [CPU_PLANS, CUDA_PLANS], ids=["cpu", "cuda"])
def test_every_model_is_trained_to_its_end_on_all_tokens(plans: dict[str, Plan], model: str) -> None:
    """On quarters alone the loss looks as good, but the pipelines show all tokens, and outlines come out ragged."""
    assert plans[model].sparse_share <= 0.5


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_orthogonalised_matrices_have_even_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, *shape)))
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_block_matrices_are_told_from_embeddings_and_ends() -> None:
    family = make_family()
    outer, inner = parameter_groups(nn.ModuleDict({"t5": family.text_encoder_2, "flux": family.transformers["demo"]}))
    assert {weight.shape[-1] for weight in inner["params"]} <= {128, 256, 512, 640}
    assert any(weight is family.text_encoder_2.shared.weight for weight in outer["params"])
    assert any(weight is family.transformers["demo"].proj_out.weight for weight in outer["params"])
    assert any(
        weight is family.transformers["demo"].transformer_blocks[0].attn.to_q.weight for weight in inner["params"]
    )


@pytest.mark.parametrize("kind", ["generate", "kontext", "fill"])
def test_each_loss_reaches_its_transformer_and_is_repeatable(kind: str) -> None:
    family = make_family()
    batches = Batches(LatentBank(1, CPU.device))
    flow = Flow(family, batches, CPU, PromptEncoder(family, CPU.device), batch=4, sparse_until=10)
    loss = getattr(flow, f"{kind}_loss")
    values = []
    for _ in range(2):
        torch.manual_seed(1)
        values.append(loss(3))
    assert values[0].item() == values[1].item()
    values[0].backward()
    transformer = family.transformers["demo" if kind == "generate" else f"demo-{kind}"]
    assert all(weight.grad is not None for weight in transformer.proj_out.parameters())
    assert transformer.x_embedder.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_kontext_begins_by_looking_at_the_same_place_of_the_source() -> None:
    models = make_family().transformers
    kontext = models["demo-kontext"]
    for block in models["demo"].transformer_blocks:
        block.attn.norm_q.weight.uniform_(0.7, 1.2)
        block.attn.norm_k.weight.uniform_(0.7, 1.2)
    kontext_from_demo(kontext, models["demo"])
    attention, size = kontext.transformer_blocks[0].attn, 32
    ids = image_ids(torch.arange(GRID * GRID))
    source = ids + torch.tensor([1.0, 0.0, 0.0])
    states = torch.randn(1, 2 * GRID * GRID, 128)
    query = attention.norm_q(attention.to_q(states)[..., -size:])[:, None]
    key = attention.norm_k(attention.to_k(states)[..., -size:])[:, None]
    rotation = kontext.pos_embed(torch.cat([ids, source]))
    query, key = (apply_rotary_emb(part, rotation) for part in (query, key))
    attention_shares = (query @ key.mT / size**0.5).softmax(dim=-1)[0, 0, : GRID * GRID]
    assert attention_shares.diagonal(offset=GRID * GRID).min() > 0.9


@torch.no_grad()
def test_fill_begins_as_demo_and_kontext_close_to_it() -> None:
    models = make_family().transformers
    kontext_from_demo(models["demo-kontext"], models["demo"])
    fill_from_demo(models["demo-fill"], models["demo"])
    tokens, words = torch.randn(1, 4, 64), torch.randn(1, 5, 128)
    ids = {"img_ids": torch.zeros(4, 3), "txt_ids": torch.zeros(5, 3)}
    common = {"encoder_hidden_states": words, "pooled_projections": torch.randn(1, 128), **ids}
    time, guidance = torch.tensor([0.5]), torch.tensor([30.0])
    demo = models["demo"](tokens, timestep=time, **common).sample
    kontext = models["demo-kontext"](tokens, timestep=time, guidance=guidance, **common).sample
    wide = torch.cat([tokens, torch.randn(1, 4, 320)], dim=2)
    fill = models["demo-fill"](wide, timestep=time, guidance=guidance, **common).sample
    assert torch.allclose(demo, fill, atol=1e-5)
    # Only the heads that now look at the source are missing.
    assert torch.nn.functional.cosine_similarity(demo.flatten(), kontext.flatten(), dim=0) > 0.9


def test_every_spelling_means_the_same_to_t5() -> None:
    family = make_family()
    share_spellings(family)
    table = family.text_encoder_2.shared.weight
    ids = [family.tokenizer_2.get_vocab()[piece] for piece in word_pieces("circle")]
    assert len(ids) == 6
    assert all(torch.equal(table[ids[0]], table[index]) for index in ids)


def test_a_small_object_weighs_as_much_as_a_large_one() -> None:
    coverage = torch.zeros(3, 256)
    coverage[0, :4] = 0.5
    coverage[1, :50] = 1.0
    extra = (token_weights(coverage) - 1).sum(dim=1)
    assert extra[0] == pytest.approx(extra[1])
    assert extra[0] > 0
    assert extra[2] == 0


def test_frozen_encoders_say_the_same_and_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family()
    prompts = ["a red circle", "remove it", "a red circle"]
    live = PromptEncoder(family, CPU.device)(prompts)
    frozen = PromptEncoder(family, CPU.device, frozen=True)
    for first, second in zip(live, frozen(prompts), strict=True):
        assert torch.allclose(first, second, atol=1e-5)
        assert first.requires_grad
        assert not second.requires_grad
    monkeypatch.setattr(family, "text_encoder", None)
    monkeypatch.setattr(family, "text_encoder_2", None)
    states, pooled = frozen(prompts[1:])
    assert torch.equal(states, frozen(prompts)[0][1:])
    assert pooled.shape == (2, 128)


def test_the_tokens_that_an_edit_changes_count_the_same_together_for_small_and_large_changes():
    # Given three edits of four tokens: one token differs, three do, none does
    source = torch.zeros(3, 4, 2)
    clean = source.clone()
    clean[0, 1] = clean[1, 1:] = 1.0
    # Then what differs is weighed up, and nothing else
    weights = change_weights(clean, source)
    assert weights.sum(dim=1).tolist() == pytest.approx([CHANGE_WEIGHT, CHANGE_WEIGHT, 0.0])
    assert weights[0, 1] > 0 == weights[0, 0]
    assert weights[1, 0] == 0
