"""Adapters that are missing, damaged or made for something else, each refused in words; and what `pull` fetches."""

from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from PIL import Image
from safetensors.torch import load_file, save_file

from shared.adapters import ADAPTERS, FLUX_IP_ADAPTER, SD15_IP_ADAPTER
from shared.catalog import CATALOG
from shared.domain.errors import ModelUnavailable
from tests.contract.generators.conformance import same
from tests.contract.generators.models.lesson import adapter_file, repository
from worker.generators.ip_adapter_local import IPAdapterLocalAdapter
from worker.pipelines.device import Device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

pytestmark = pytest.mark.timeout(600)  # the small models learn while other processes may hold the machine
QUICK = {"width": 256, "height": 256, "num_inference_steps": 1, "seed": 7}
RED = Image.new("RGB", (32, 32), "red")


@pytest.fixture
def own_hub(hub: Path, flux: str, tmp_path: Path) -> Path:
    """A cache with the FLUX model and CLIP of the others, and no adapter yet."""
    for repo_id in (CATALOG[flux].repo_id, FLUX_IP_ADAPTER.image_encoder_repo_id):
        folder = f"models--{repo_id.replace('/', '--')}"
        (tmp_path / folder).symlink_to(hub / folder)
    return tmp_path


@pytest.fixture
def generator(own_hub: Path, large_card: Device) -> IPAdapterLocalAdapter:
    return IPAdapterLocalAdapter(PipelineStore(Weights(cache_dir=own_hub), large_card))


def refusal(generator: IPAdapterLocalAdapter) -> str:
    with pytest.raises(ModelUnavailable) as refused:
        generator.generate("x", model="dev", reference=RED, **QUICK)
    return refused.value.message


def test_a_missing_adapter_names_the_remedy(generator):
    assert "flux-image pull flux-ip-adapter" in refusal(generator)


def test_a_worker_says_which_models_can_follow_a_reference(hub, flux, own_hub):
    assert Weights(cache_dir=hub).report(CATALOG[flux]).follows_reference
    without = Weights(cache_dir=own_hub).report(CATALOG[flux])
    assert (without.available, without.follows_reference) == (True, False)


def test_a_missing_image_encoder_names_the_remedy(hub, own_hub, generator):
    save_file(load_file(adapter_file(hub, FLUX_IP_ADAPTER)), adapter_file(own_hub, FLUX_IP_ADAPTER))
    (own_hub / "models--openai--clip-vit-large-patch14").unlink()
    assert "flux-image pull flux-ip-adapter" in refusal(generator)


def test_an_adapter_in_instantx_s_layout_is_refused_in_words(own_hub, generator):
    # Given the names of InstantX's adapter: a projection of several layers, and keys and values of other blocks
    tensors = {
        "image_proj.proj.0.weight": torch.zeros(64, 1152),
        "image_proj.proj.2.weight": torch.zeros(128 * 128, 64),
        "image_proj.norm.weight": torch.ones(128),
        "ip_adapter.0.to_k_ip.weight": torch.zeros(128, 128),
        "ip_adapter.0.to_v_ip.weight": torch.zeros(128, 128),
    }
    save_file(tensors, adapter_file(own_hub, FLUX_IP_ADAPTER))
    message = refusal(generator)
    assert "InstantX" in message
    assert "XLabs-AI/flux-ip-adapter" in message


def for_another_encoder(tensors):
    return tensors | {"ip_adapter_proj_model.proj.weight": torch.zeros(512, 99)}


def with_fewer_blocks(tensors):
    return {name: tensor for name, tensor in tensors.items() if "blocks.1." not in name}


def of_another_width(tensors):
    return tensors | {"double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight": torch.zeros(9, 9)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (for_another_encoder, "made for another encoder"),
        (with_fewer_blocks, "1.to_k_ip.weight"),
        (of_another_width, "shape"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_the_model_as_it_was(hub, own_hub, generator, change, says):
    before = generator.generate("x", model="dev", **QUICK)[0]
    save_file(change(load_file(adapter_file(hub, FLUX_IP_ADAPTER))), adapter_file(own_hub, FLUX_IP_ADAPTER))
    assert says in refusal(generator)
    assert same(before, generator.generate("x", model="dev", **QUICK)[0])


def test_a_damaged_adapter_is_refused_in_words(hub, own_hub, generator):
    adapter_file(own_hub, FLUX_IP_ADAPTER).write_bytes(adapter_file(hub, FLUX_IP_ADAPTER).read_bytes()[:1000])
    assert "incomplete (missing: " in refusal(generator)


@pytest.mark.parametrize("model", ["sd15", "sdxl"])
def test_pull_fetches_what_the_loaders_read_and_nothing_else(hub, request, model):
    # Given a model as it is published, with the copies in other layouts that lie beside it
    spec = CATALOG[request.getfixturevalue(model)]
    folder = repository(hub, spec.repo_id)
    read = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    beside = {"unet/diffusion_pytorch_model.safetensors", "unet/model.onnx", "v1-5-pruned.ckpt", "safety_checker/x.bin"}
    # When the patterns choose, then it is what the loaders read in these tests
    assert set(filter_repo_objects(read | beside, allow_patterns=list(spec.files))) == read


@pytest.mark.parametrize("adapter", [FLUX_IP_ADAPTER, SD15_IP_ADAPTER])
def test_pull_fetches_an_adapter_with_its_image_encoder(hub, flux, sd15, adapter):
    for repo_id, patterns in adapter.downloads.items():
        folder = repository(hub, repo_id)
        assert all((folder / pattern).is_file() for pattern in patterns)


def test_every_adapter_of_the_catalog_can_be_pulled_by_its_name():
    used = [spec.capabilities.ip_adapter for spec in CATALOG.values() if spec.capabilities.ip_adapter]
    assert {adapter.adapter for adapter in used} == set(ADAPTERS)
