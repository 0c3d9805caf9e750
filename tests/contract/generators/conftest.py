import dataclasses
from pathlib import Path

import pytest

from tests.contract.generators.models.flux import write_flux
from tests.contract.generators.models.stable_diffusion import write_stable_diffusion
from worker.pipelines.device import Device, pick_device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache, empty until a fixture below writes into it."""
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="session")
def flux(hub: Path) -> str:
    """The name of a FLUX model whose weights and adapter are in ``hub``."""
    write_flux(hub)
    return "dev"


@pytest.fixture(scope="session")
def sd15(hub: Path) -> str:
    write_stable_diffusion(hub, "sd15")
    return "sd15"


@pytest.fixture(scope="session")
def sdxl(hub: Path) -> str:
    write_stable_diffusion(hub, "sdxl")
    return "sdxl"


@pytest.fixture(scope="session")
def large_card() -> Device:
    """The host's memory as a card that has room, by the catalog's bytes, for every model that stands in here."""
    return dataclasses.replace(pick_device("cpu"), total_bytes=141 * 10**9, description="a large card")


@pytest.fixture(scope="session")
def hub_store(hub: Path, large_card: Device) -> PipelineStore:
    """One store for all tests that leave it as it was."""
    return PipelineStore(Weights(cache_dir=hub), large_card)
