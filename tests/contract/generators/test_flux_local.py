"""The local FLUX generator keeps what every generator promises; the demo family is real FLUX in small."""

import pytest
from PIL import Image

from shared.catalog import CATALOG
from tests.contract.generators.conformance import GeneratorConformance, Subject
from tests.contract.generators.failures import not_a_number, out_of_memory
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.device import pick_device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights


@pytest.fixture(scope="module")
def store() -> PipelineStore:
    return PipelineStore(Weights(), pick_device("cpu"))


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
