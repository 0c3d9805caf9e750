"""The local FLUX generator keeps what every generator promises; the demo family is real FLUX in small."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from PIL import Image

from shared.catalog import CATALOG
from shared.domain.errors import NumericError, OutOfMemory
from tests.contract.generators.conformance import Failure, GeneratorConformance, Subject
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.device import pick_device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights


@pytest.fixture(scope="module")
def store() -> PipelineStore:
    return PipelineStore(Weights(), pick_device("cpu"))


def out_of_memory(module: torch.nn.Module) -> Failure:
    """The device runs out of memory inside of ``module``."""

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    @contextmanager
    def provoke() -> Iterator[None]:
        with module.register_forward_pre_hook(fail):
            yield

    return Failure(name="out of memory", provoke=provoke, raises=OutOfMemory, retryable=True)


def not_a_number(module: torch.nn.Module) -> Failure:
    """``module`` puts out NaN."""

    def poison(_module: object, _inputs: object, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (output[0] * float("nan"),)

    @contextmanager
    def provoke() -> Iterator[None]:
        with module.register_forward_hook(poison):
            yield

    return Failure(name="NaN", provoke=provoke, raises=NumericError, retryable=False)


class TestFluxLocalGenerator(GeneratorConformance):
    @pytest.fixture
    def subject(self, store: PipelineStore) -> Subject:
        transformer = store.get(CATALOG["demo"]).transformer
        return Subject(
            generator=FluxLocalGenerator(store),
            options={"model": "demo", "width": 64, "height": 64, "num_inference_steps": 2, "seed": 7},
            unsupported=[
                {"negative_prompt": "blurry"},
                {"sampler": "Euler a"},
                {"reference": Image.new("RGB", (64, 64), "red")},
                {"num_inference_steps": 51},
            ],
            failures=[out_of_memory(transformer), not_a_number(transformer)],
        )
