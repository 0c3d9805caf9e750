"""Prompt embeddings are computed once and change no bit, with the demo family and its shared encoders."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import CATALOG
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.device import pick_device
from worker.pipelines.loader import Loader
from worker.pipelines.prompt_cache import PromptCache, PromptEmbeds, PromptKey
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import DEMO_CHECKPOINT, Weights

FAST = {"width": 64, "height": 64, "num_inference_steps": 2, "seed": 7}
CPU = torch.device("cpu")


def store_with(cache_bytes):
    return PipelineStore(Weights(), pick_device("cpu"), prompt_cache_bytes=cache_bytes)


@pytest.fixture
def encodings(request):
    """Counts the runs of the T5 encoder of a store."""

    def count(store):
        calls = []
        encoder = store.get(CATALOG["demo"]).text_encoder_2
        hook = encoder.register_forward_pre_hook(lambda *_: calls.append(1))
        request.addfinalizer(hook.remove)
        return calls

    return count


def test_a_hit_makes_the_same_bytes_as_no_cache_at_all(encodings):
    # Given a store with a cache and one without
    cached, plain = store_with(2**20), store_with(0)
    runs_cached, runs_plain = encodings(cached), encodings(plain)
    # When the same prompt is painted twice with each
    pictures = [
        FluxLocalGenerator(store).generate("a red circle", model="demo", **FAST)[0]
        for store in (cached, cached, plain, plain)
    ]
    # Then the text is encoded once with a cache, each time without, and the pictures are equal
    assert (len(runs_cached), len(runs_plain)) == (1, 2)
    assert all(np.array_equal(np.asarray(pictures[0]), np.asarray(other)) for other in pictures[1:])


def test_models_that_share_encoders_share_embeddings(encodings):
    # Given a prompt that one model has painted
    store = store_with(2**20)
    runs = encodings(store)
    generator, plain = FluxLocalGenerator(store), FluxLocalGenerator(store_with(0))
    generator.generate("a blue square", model="demo", **FAST)
    # When another of the family gets the same words
    options = {"model": "demo-kontext", "image": Image.new("RGB", (64, 64), "red"), **FAST}
    edited = generator.generate("a blue square", **options)[0]
    # Then nothing is encoded again, and the picture is the one that a fresh encoding makes
    assert len(runs) == 1
    assert np.array_equal(np.asarray(edited), np.asarray(plain.generate("a blue square", **options)[0]))


def embeds(size):
    return PromptEmbeds(torch.zeros(1, size // 4 - 1, 1), torch.zeros(1, 1))


def keys(*prompts):
    return [PromptKey("encoders", 24, prompt) for prompt in prompts]


def test_the_least_recently_used_goes_when_the_bytes_are_spent():
    # Given a cache for two prompts of 100 bytes
    cache = PromptCache(200)
    made = []

    def get(key):
        return cache.get(key, CPU, lambda: made.append(key.prompt) or embeds(100))

    one, two, three = keys("1", "2", "3")
    for key in (one, two, one, three, one, two):
        get(key)
    # Then the second, unused for longest, made room for the third
    assert made == ["1", "2", "3", "2"]
    assert cache.nbytes == 200


def test_what_is_larger_than_the_cache_is_not_kept():
    cache = PromptCache(99)
    cache.get(keys("x")[0], CPU, lambda: embeds(100))
    assert cache.nbytes == 0


def test_any_difference_in_the_key_is_another_entry():
    cache = PromptCache(10_000)
    made = []
    for key in (PromptKey("a", 24, "x"), PromptKey("b", 24, "x"), PromptKey("a", 25, "x"), PromptKey("a", 24, "y")):
        cache.get(key, CPU, lambda key=key: made.append(key) or embeds(100))
    assert len(made) == 4


def test_components_with_other_weights_are_not_shared(tmp_path):
    # Given a family in which the editing model brings a VAE and an encoder of its own, one of them changed
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(DEMO_CHECKPOINT, checkpoint)
    for name in ("vae", "text_encoder"):
        shutil.copytree(checkpoint / "demo" / name, checkpoint / "demo-kontext" / name)
    weights = checkpoint / "demo-kontext" / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    # When both are loaded
    loader = Loader(Weights(checkpoint), pick_device("cpu"))
    demo, kontext = (loader.load(CATALOG[model]) for model in ("demo", "demo-kontext"))
    # Then what is equal is shared, and what differs is not
    assert demo.pipeline.text_encoder is kontext.pipeline.text_encoder
    assert demo.pipeline.vae is not kontext.pipeline.vae
    assert demo.encoders == kontext.encoders
