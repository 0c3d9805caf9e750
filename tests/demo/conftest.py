from pathlib import Path

import pytest
from diffusers import DiffusionPipeline

from worker.demo.family import build_family, load_pipelines


@pytest.fixture(scope="session")
def random_family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("family")
    build_family(directory, seed=3)
    return directory


@pytest.fixture(scope="session")
def random_pipelines(random_family: Path) -> dict[str, DiffusionPipeline]:
    return load_pipelines(random_family)
