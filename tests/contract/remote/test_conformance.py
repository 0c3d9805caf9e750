"""The remote generator keeps what every generator promises, on a Space with a public signature."""

import pytest
from PIL import Image

from shared.catalog import CATALOG
from shared.domain.errors import QuotaExceeded, RemoteFailed, RemoteUnavailable
from tests.contract.generators.conformance import Failure, GeneratorConformance, Subject
from worker.generators.flux_client import FluxClientAdapter, FluxImageGenerator

PICTURE = Image.new("RGB", (64, 64), "red")


def failures(spaces):
    for name, words, raises, retryable in (
        ("quota", "You have exceeded your GPU quota (60s requested vs. 0s left)", QuotaExceeded, True),
        ("no GPU", "No GPU was available after 60s", RemoteUnavailable, True),
        ("its own error", "I will not paint that", RemoteFailed, False),
    ):
        yield Failure(
            name=name, provoke=lambda words=words: spaces.mood(f"error:{words}"), raises=raises, retryable=retryable
        )


class TestFluxClientAdapter(GeneratorConformance):
    @pytest.fixture
    def subject(self, spaces):
        return Subject(
            generator=FluxClientAdapter(FluxImageGenerator(f"{spaces.url}/schnell"), CATALOG["schnell"]),
            options={"model": "schnell", "width": 256, "height": 320, "num_inference_steps": 2, "seed": 7},
            unsupported=[
                {"guidance_scale": 2.0},
                {"negative_prompt": "blurry"},
                {"sampler": "Euler a"},
                {"precision": "compact"},
                {"reference": PICTURE},
                {"image": PICTURE},
                {"num_inference_steps": 51},
                {"model": "dev"},
            ],
            failures=list(failures(spaces)),
        )
