"""A call's life at the Space: its queue, its progress, its failures, and how it ends early."""

import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from subprocess import PIPE

import pytest

from shared.catalog import CATALOG
from shared.domain.errors import QuotaExceeded, RemoteFailed, RemoteUnavailable
from tests.space.contexts import RecordingContext, stop
from tests.space.harness import ROOT, SpaceServer
from worker.cancellation import JobInterrupted
from worker.generators.flux_client import FluxClientAdapter, FluxImageGenerator

SMALL = {"width": 256, "height": 320, "seed": 7}


@pytest.fixture
def generator(spaces):
    """Makes generators for a Space by its name here."""
    made = []

    def make(name="schnell", **options):
        made.append(FluxImageGenerator(f"{spaces.url}/{name}", **options))
        return made[-1]

    yield make
    for generator in made:
        generator.close()


@pytest.fixture
def occupied(spaces, generator):
    """Keeps a Space's only place busy until the test is over; returns once it is."""
    threads = []

    def occupy(name="schnell"):
        busy = threading.Event()
        context = RecordingContext(at={"denoising": busy.set})
        space = generator(name)

        def work():
            with suppress(RemoteUnavailable):
                space.generate_image("wait: for the test", context=context)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        assert busy.wait(60)

    yield occupy
    spaces.advance(100)
    for thread in threads:
        thread.join(60)


class TestQueueAndProgress:
    def test_the_place_in_the_queue_is_reported_until_the_turn_comes(self, generator, occupied, spaces):
        occupied()
        # When a call has to wait, then its place is reported before its work
        context = RecordingContext(at={("queue", 0): spaces.advance})
        generator().generate_image("a fox", context=context)
        assert context.events.index(("queue", 0)) < context.events.index("denoising")

    def test_each_step_is_reported_when_it_is_done(self, generator, spaces):
        # Given a Space that goes on only when the test has seen the step
        steps = [("step", step, 3) for step in (1, 2)]
        context = RecordingContext(at={"denoising": spaces.advance, **dict.fromkeys(steps, spaces.advance)})
        generator().generate_image("slow: a fox", context=context, num_inference_steps=3)
        assert [event for event in context.events if event[0] == "step"][:2] == steps

    def test_previews_count_as_steps(self, generator, spaces):
        steps = [("step", step, 3) for step in (1, 2)]
        context = RecordingContext(at={"denoising": spaces.advance, **dict.fromkeys(steps, spaces.advance)})
        generator("dev").generate_image("preview: a fox", context=context, num_inference_steps=3)
        assert [event for event in context.events if event in steps] == steps


class TestCancel:
    def test_a_waiting_call_leaves_the_spaces_queue(self, generator, occupied, spaces):
        # Given a call in the queue, behind another
        occupied()
        with pytest.raises(JobInterrupted):
            generator().generate_image("b cancelled", context=RecordingContext(at={("queue", 0): stop}))
        # When the place is free again and others have had their turn
        spaces.wait_for_cancel()
        spaces.advance()
        generator().generate_image("c later")
        # Then it never ran
        assert [call[1] for call in spaces.calls()] == ["wait: for the test", "c later"]

    def test_a_space_that_sends_previews_stops_working(self, generator, spaces):
        context = RecordingContext(at={"denoising": spaces.advance, ("step", 1, 20): stop})
        with pytest.raises(JobInterrupted):
            generator("dev").generate_image("preview: a fox", context=context, num_inference_steps=20)
        # The work ends at its next step, long before the last
        spaces.wait_for_cancel()
        spaces.advance()
        generator("dev").generate_image("afterwards", num_inference_steps=2)
        assert "preview: a fox" in spaces.log()["closed"]

    def test_the_next_job_is_as_if_nothing_had_been(self, spaces, generator):
        adapter = FluxClientAdapter(generator(), CATALOG["schnell"])
        with pytest.raises(JobInterrupted):
            adapter.generate("wait: a fox", context=RecordingContext(at={"denoising": stop}), **SMALL)
        spaces.advance()
        assert len(adapter.generate("a fox", **SMALL)) == 1

    def test_a_cancel_while_connecting(self, spaces):
        generator = FluxImageGenerator(f"{spaces.url}/silent", connect_seconds=60)
        with pytest.raises(JobInterrupted):
            generator.connect(StoppedContext())

    def test_a_hung_space_does_not_hold_up_the_end_of_the_process(self, spaces):
        # Given a process whose job is at work on a Space
        script = f"""
            from tests.space.contexts import RecordingContext, stop
            from worker.generators.flux_client import FluxImageGenerator
            def stop_when_told():
                print("works", flush=True)
                input()
                stop()
            context = RecordingContext(at={{"denoising": stop_when_told}})
            FluxImageGenerator("{spaces.url}/schnell").generate_image("wait: for ever", context=context)
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "works\n"
            # When the Space hangs and the job is cancelled
            with spaces.frozen():
                _, errors = process.communicate("\n", timeout=40)
        # Then the process ends long before the last of its connections gives up, after 60 s
        assert errors.rstrip().endswith("JobInterrupted: user_request")


class StoppedContext(RecordingContext):
    def raise_if_cancelled(self):
        stop()


class TestFailures:
    def test_a_used_up_quota_says_when_to_come_back(self, generator):
        # Given ZeroGPU's words, with its markup
        words = (
            "You have exceeded your GPU quota (60s requested vs. 0s left). <a href='/join'>Join</a> or retry in 0:09:48"
        )
        space = generator()
        with pytest.raises(QuotaExceeded, match=r"0s left\). Join or retry") as failure:
            space.generate_image(f"error:{words}")
        assert (failure.value.retryable, failure.value.retry_after_seconds) == (True, 588)
        assert not space.availability().available

    def test_no_gpu_free_is_tried_again(self, generator):
        with pytest.raises(RemoteUnavailable, match="No GPU was available") as failure:
            generator().generate_image("error:No GPU was available after 60s")
        assert failure.value.retry_after_seconds

    @pytest.mark.parametrize(("prompt", "words"), [("error:too rude", "too rude"), ("crash", "something inside")])
    def test_the_apps_own_errors_are_final_and_quoted(self, generator, prompt, words):
        space = generator()
        with pytest.raises(RemoteFailed, match=words) as failure:
            space.generate_image(prompt)
        assert not failure.value.retryable
        assert space.availability().available

    def test_a_full_queue(self, generator, occupied):
        # Given a Space that lets one call wait, and one that does
        occupied("full")
        waiting, stopped = threading.Event(), threading.Event()

        def wait_in_line():
            waiting.set()
            if stopped.is_set():
                stop()

        class Patient(RecordingContext):
            def on_queue(self, position, eta_seconds):
                wait_in_line()

        def work():
            with suppress(JobInterrupted):
                generator("full").generate_image("second", context=Patient())

        thread = threading.Thread(target=work)
        thread.start()
        assert waiting.wait(60)
        try:
            # When another comes
            with pytest.raises(RemoteUnavailable, match=r"queue of .* is full") as failure:
                generator("full").generate_image("third")
        finally:
            stopped.set()
            thread.join(60)
        assert failure.value.retry_after_seconds

    def test_a_call_that_takes_too_long(self, generator, spaces):
        with pytest.raises(RemoteUnavailable, match=r"did not answer within 2 s") as failure:
            generator(call_seconds=2).generate_image("wait: too long")
        assert failure.value.retryable

    def test_a_space_that_dies_in_the_middle(self, tmp_path):
        # Given a Space of its own, with a call at work
        with SpaceServer(tmp_path) as server:
            context = RecordingContext(at={"denoising": server.kill})
            generator = FluxImageGenerator(f"{server.url}/schnell")
            # When its machine goes away, then the call is one to try again
            with pytest.raises(RemoteUnavailable, match=r"connection to .* was lost"):
                generator.generate_image("wait: for ever", context=context)
            with pytest.raises(RemoteUnavailable, match="cannot be reached"):
                generator.connect()
