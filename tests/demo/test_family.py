from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from worker.demo.family import SHARED_COMPONENTS, build_family
from worker.demo.tokenization import MAX_SEQUENCE_LENGTH

SIZE = {"width": 64, "height": 48}


def picture(pipeline: DiffusionPipeline, seed: int = 0, prompt: str = "a red circle") -> np.ndarray:
    inputs = {}
    if "Kontext" in type(pipeline).__name__:
        inputs = {"image": Image.new("RGB", (64, 48), "blue"), "max_area": 64 * 48, "_auto_resize": False}
    if "Fill" in type(pipeline).__name__:
        inputs = {"image": Image.new("RGB", (64, 48), "blue"), "mask_image": Image.new("L", (64, 48), 255)}
    pipeline.set_progress_bar_config(disable=True)
    result = pipeline(
        prompt=prompt,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(seed),
        max_sequence_length=MAX_SEQUENCE_LENGTH,
        **SIZE,
        **inputs,
    )
    return np.asarray(result.images[0])


@pytest.mark.parametrize("model", ["demo", "demo-kontext", "demo-fill"])
def test_every_pipeline_returns_the_size_asked_for_and_repeats_itself(
    random_pipelines: dict[str, DiffusionPipeline], model: str
) -> None:
    pipeline = random_pipelines[model]
    first = picture(pipeline)
    assert first.shape == (48, 64, 3)
    assert np.array_equal(first, picture(pipeline))
    assert not np.array_equal(first, picture(pipeline, seed=1))


def test_shared_parts_are_stored_and_loaded_once(
    random_family: Path, random_pipelines: dict[str, DiffusionPipeline]
) -> None:
    for name in SHARED_COMPONENTS:
        parts = {id(getattr(pipeline, name)) for pipeline in random_pipelines.values()}
        assert len(parts) == 1
        assert not (random_family / "demo-kontext" / name).exists()


def test_family_is_small_and_stored_in_16_bit(random_family: Path) -> None:
    weights = list(random_family.rglob("*.safetensors"))
    assert len(weights) == 6
    assert sum(path.stat().st_size for path in weights) <= 24 * 10**6


def test_same_seed_writes_the_same_bytes(random_family: Path, tmp_path: Path) -> None:
    build_family(tmp_path, seed=3)
    for path in sorted(random_family.rglob("*")):
        if path.is_file():
            assert (tmp_path / path.relative_to(random_family)).read_bytes() == path.read_bytes(), path.name


def test_unknown_words_and_other_scripts_do_not_crash(random_pipelines: dict[str, DiffusionPipeline]) -> None:
    assert picture(random_pipelines["demo"], prompt="宇航员 🐴 naïve (RED) top-left " * 40).shape == (
        48,
        64,
        3,
    )
