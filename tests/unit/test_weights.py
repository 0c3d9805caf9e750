"""Whether weights are there and whole has one answer, whoever asks: the worker's report, its jobs, and the doctor."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.host.checks.finding import Level
from cli.host.checks.hub import judge_weights
from shared.adapters import FLUX_IP_ADAPTER, SD15_IP_ADAPTER
from shared.catalog import CATALOG
from shared.domain.errors import ModelUnavailable
from shared.weights import find_weights, revision_of
from worker.pipelines.weights import Weights

SCHNELL = CATALOG["schnell"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NETWORKS = ("transformer", "text_encoder", "text_encoder_2", "vae")


def safetensors(size: int = 64) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def snapshot(cache: Path, repo_id: str) -> Path:
    """A repository in Hugging Face's cache, as a download leaves it."""
    repository = cache / f"models--{repo_id.replace('/', '--')}"
    write(repository / "refs" / "main", COMMIT.encode())
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """FLUX.1 [schnell] in its published layout, each tensor file tiny; the transformer in two shards."""
    folder = snapshot(tmp_path, SCHNELL.repo_id)
    parts = {name: ["diffusers", "Any"] for name in (*NETWORKS, "scheduler", "tokenizer", "tokenizer_2")}
    write(folder / "model_index.json", json.dumps({"_class_name": "FluxPipeline", **parts}).encode())
    for name in NETWORKS:
        write(folder / name / "config.json", b"{}")
        write(folder / name / "model.safetensors", safetensors())
    for name in ("scheduler", "tokenizer", "tokenizer_2"):
        write(folder / name / f"{name}_config.json", b"{}")
    transformer = folder / "transformer"
    (transformer / "model.safetensors").unlink()
    shards = {f"tensor{number}": f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    write(transformer / "diffusion_pytorch_model.safetensors.index.json", json.dumps({"weight_map": shards}).encode())
    for shard in shards.values():
        write(transformer / shard, safetensors())
    return folder


def answers(cache: Path) -> list[bool]:
    """What each asker says about schnell: the worker's report, a job's check, the doctor."""
    weights = Weights(cache_dir=cache)
    try:
        weights.folder(SCHNELL)
        can_run = True
    except ModelUnavailable:
        can_run = False
    return [weights.report(SCHNELL).available, can_run, judge_weights(SCHNELL, cache).level is Level.OK]


def test_whole_weights_are_whole_for_everybody(tmp_path: Path, folder: Path):
    assert answers(tmp_path) == [True, True, True]
    assert revision_of(folder) == COMMIT


def test_weights_that_were_never_pulled_are_worth_a_note(tmp_path: Path):
    assert answers(tmp_path) == [False, False, False]
    found = judge_weights(SCHNELL, tmp_path)
    assert found.level is Level.NOTE
    assert "`flux-image pull schnell` downloads 34 GB" in found.text


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def leave_a_dangling_link(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.parent / "nowhere")


SHARD = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("file", "harm", "missing"),
    [
        pytest.param(SHARD, Path.unlink, "transformer", id="a shard is missing"),
        pytest.param(SHARD, cut, "transformer", id="a shard is cut off"),
        pytest.param("vae/model.safetensors", cut, "vae", id="a file is cut off"),
        pytest.param("vae/model.safetensors", leave_a_dangling_link, "vae", id="a link without its file"),
        pytest.param("vae/model.safetensors", lambda file: file.write_bytes(b""), "vae", id="an empty file"),
        pytest.param("vae/model.safetensors", lambda file: file.write_bytes(b"\xff" * 99), "vae", id="another format"),
        pytest.param("tokenizer/tokenizer_config.json", Path.unlink, "tokenizer", id="an empty part"),
        pytest.param("model_index.json", Path.unlink, "model_index.json", id="no index"),
        pytest.param("model_index.json", cut, "model_index.json", id="a damaged index"),
        pytest.param(
            "transformer/diffusion_pytorch_model.safetensors.index.json", cut, "transformer", id="a damaged shard index"
        ),
    ],
)
def test_what_is_not_whole_is_named_alike_by_everybody(
    tmp_path: Path, folder: Path, file: str, harm: Callable[[Path], object], missing: str
):
    # when
    harm(folder / file)

    # then
    assert answers(tmp_path) == [False, False, False]
    assert find_weights(SCHNELL, tmp_path).missing == (missing,)
    words = f"its weights are incomplete (missing: {missing})"
    found = judge_weights(SCHNELL, tmp_path)
    assert found.level is Level.PROBLEM
    assert words in found.text
    assert words in Weights(cache_dir=tmp_path).report(SCHNELL).reason


@pytest.mark.parametrize("spec", [FLUX_IP_ADAPTER, SD15_IP_ADAPTER])
def test_an_adapter_is_asked_about_in_the_same_way(tmp_path: Path, spec):
    # given
    file = snapshot(tmp_path, spec.repo_id) / spec.weight_name
    encoder = snapshot(tmp_path, spec.image_encoder_repo_id) / spec.image_encoder_folder
    write(file, safetensors())
    write(encoder / "model.safetensors", safetensors())
    write(encoder / "config.json", b"{}")
    assert Weights(cache_dir=tmp_path).adapter(spec) == (file, encoder)
    assert judge_weights(spec, tmp_path).level is Level.OK

    # when
    cut(encoder / "model.safetensors")

    # then
    with pytest.raises(ModelUnavailable, match=r"missing: model\.safetensors"):
        Weights(cache_dir=tmp_path).adapter(spec)
    assert judge_weights(spec, tmp_path).level is Level.PROBLEM
