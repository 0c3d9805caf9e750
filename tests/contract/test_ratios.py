"""What the benchmarks put into seconds, as order, counts and equality, which hold on any machine.

B5 (a mixed queue) is ``test_residency.TestMixedQueue`` and ``test_gpu_benchmarks``, B10 (the prompt cache) is
``test_prompt_cache``, B14 (the modulation table) is ``test_modulation`` and ``test_ahead``; here are B6, B7 and B8.
B12 (what the API does per request) is ``tests/endpoints/test_costs.py``.
"""

import threading
from collections import Counter

import numpy as np
import pytest
import redis
import torch
from sqlalchemy import event
from torch.overrides import TorchFunctionMode

from shared.broker.urls import redis_url
from shared.catalog import CATALOG
from shared.domain.status import JobStatus, Phase
from tests.builders import new_job, params
from tests.contract.scripted import paint, run_to_its_end
from tests.contract.small_card import OPTIONS, ROOM_FOR_ALL, SHAPE, SIDE, card, store_on
from worker import pictures
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.pipelines.decode import decode_latents


class TestDuty:
    """B6: between two jobs of one model there is nothing but their own work."""

    @pytest.fixture
    def generator(self):
        return FluxLocalGenerator(store_on(card(ROOM_FOR_ALL)))

    def test_a_second_job_moves_and_encodes_nothing_and_runs_each_network_as_often_as_it_must(self, generator):
        # Given a model that has painted a prompt
        store = generator.store
        options = {**OPTIONS["demo"], "model": "demo", "num_inference_steps": 3}
        generator.generate("a red circle", **options)
        moved, calls = dict(store.residency.brought), Counter()
        pipeline = store.load(CATALOG["demo"]).pipeline
        networks = {
            "transformer": pipeline.transformer,
            "decoder": pipeline.vae.decoder,
            "encoder": pipeline.vae.encoder,
            "t5": pipeline.text_encoder_2,
            "clip": pipeline.text_encoder,
        }
        hooks = [
            network.register_forward_pre_hook(lambda *_, name=name: calls.update([name]))
            for name, network in networks.items()
        ]
        # When two more jobs of two images come
        for seed in (1, 2):
            generator.generate("a red circle", **{**options, "seed": seed, "num_images": 2})
        for hook in hooks:
            hook.remove()
        # Then each image costs its steps and one decode, and nothing came or was encoded again
        assert calls == {"transformer": 2 * 2 * 3, "decoder": 2 * 2}
        assert store.residency.brought == moved

    def test_every_image_is_finished_before_the_next_one_is_begun(self, generator):
        told = []

        class Context(SilentContext):
            def on_phase(self, phase):
                told.append(phase)

            def on_image(self, index, image):
                told.append(index)

        generator.generate("a red circle", context=Context(), model="demo", **{**OPTIONS["demo"], "num_images": 3})
        each = [(Phase.DENOISING, Phase.DECODING, index) for index in range(3)]
        assert told == [Phase.LOADING, Phase.ENCODING, *(item for image in each for item in image)]

    def test_pixels_leave_the_device_with_8_bits_each_and_nothing_larger_does(self, generator):
        # Given latents, and an eye on what is copied to the host
        left = []

        class Leaving(TorchFunctionMode):
            def __torch_function__(self, function, types, arguments=(), changes=None):
                if function is torch.Tensor.cpu:
                    left.append((arguments[0].dtype, arguments[0].numel()))
                return function(*arguments, **(changes or {}))

        store = generator.store
        loaded = store.load(CATALOG["demo"])
        # When they are decoded
        with Leaving(), store.place(loaded, SHAPE).decoding():
            decode_latents(loaded, torch.zeros(1, (SIDE // 16) ** 2, 64, dtype=torch.bfloat16), SIDE, SIDE)
        # Then three bytes per pixel left
        assert left == [(torch.uint8, SIDE * SIDE * 3)]


class TestBesideTheComputingThread:
    """B7: the thread that computes encodes and writes nothing."""

    def test_pictures_are_encoded_and_written_in_the_saver_s_thread(self, make_runner, jobs, storage, monkeypatch):
        jobs.add(new_job(params=params(num_images=2)), 10)
        threads = []
        encode, put = pictures.encode, storage.put
        here = threading.current_thread()

        def watched(work):
            def run(*arguments):
                threads.append(threading.current_thread())
                return work(*arguments)

            return run

        monkeypatch.setattr(pictures, "encode", watched(encode))
        monkeypatch.setattr(storage, "put", watched(put))
        run_to_its_end(make_runner(lambda context: paint(context, 2)))
        assert len(threads) == 4
        assert here not in threads
        assert len(set(threads)) == 1


class TestOverhead:
    """B8: what a job costs beside its own work does not grow with its steps."""

    @pytest.fixture
    def cost(self, make_runner, jobs, database, broker_url):
        """Run a job of so many steps; return its synced commits and its Redis commands."""

        def run(steps):
            job = jobs.add(new_job(), 10)
            commits, client = Counter(), redis.Redis.from_url(redis_url(broker_url))

            def count(connection):
                commits[connection.get_execution_options().get("write")] += 1

            def script(context):
                context.on_phase(Phase.DENOISING)
                for step in range(steps):
                    context.on_step(step + 1, steps)
                paint(context)

            event.listen(database.engine, "commit", count)
            client.config_resetstat()
            run_to_its_end(make_runner(script))
            event.remove(database.engine, "commit", count)
            commands = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
            client.close()
            assert jobs.get(job.id).status is JobStatus.SUCCEEDED
            return commits["FULL"], commands

        return run

    def test_a_job_is_one_synced_commit_and_each_step_one_round_trip_to_redis(self, cost):
        few, many = cost(3), cost(23)
        assert (few[0], many[0]) == (1, 1)
        grown = {name: many[1][name] - few[1][name] for name in many[1] if many[1][name] != few[1].get(name)}
        assert grown == {"cmdstat_set": 20, "cmdstat_publish": 20, "cmdstat_exists": 20}  # one pipeline


def test_a_watched_job_computes_no_more_than_an_unwatched_one():
    """Previews read latents; no network runs for them."""
    generator = FluxLocalGenerator(store_on(card(ROOM_FOR_ALL)))

    class Watched(SilentContext):
        def __init__(self):
            self.previews, self.shown = self, []

        def is_due(self):
            return True

        def offer(self, render):
            self.shown.append(render())

    options = {**OPTIONS["demo"], "model": "demo", "num_inference_steps": 4}
    generator.generate("a red circle", **options)
    pipeline, calls = generator.store.load(CATALOG["demo"]).pipeline, Counter()
    hooks = [
        part.register_forward_pre_hook(lambda *_, name=name: calls.update([name]))
        for name, part in (("transformer", pipeline.transformer), ("decoder", pipeline.vae.decoder))
    ]
    watched = Watched()
    with_previews = generator.generate("a red circle", context=watched, **options)[0]
    for hook in hooks:
        hook.remove()
    assert (len(watched.shown), calls) == (3, {"transformer": 4, "decoder": 1})
    assert np.array_equal(np.asarray(with_previews), np.asarray(generator.generate("a red circle", **options)[0]))
