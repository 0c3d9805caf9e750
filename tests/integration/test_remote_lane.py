"""The remote lane as `flux-image up` runs it: its own process and queue, no torch, and jobs that change lanes."""

import subprocess
import sys

import pytest

from shared.domain.status import JobStatus
from tests.language_model import serving_language_model
from tests.stack import RunningStack, wait_for


@pytest.fixture(scope="module")
def language_model():
    with serving_language_model() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory, language_model):
    """A stack with a language model and no Space."""
    env = {"FLUX_ENHANCER_URL": language_model.url, "FLUX_ENHANCER_MODEL": "nemo", "FLUX_REMOTE_CONCURRENCY": "2"}
    data_dir = tmp_path_factory.mktemp("remote") / "data"
    with RunningStack(data_dir, "--no-flower", env=env) as running:
        wait_for(lambda: running.ready_state().get("remote_worker") == "idle", "the remote worker is there", 60)
        yield running
        assert running.stop() == 0


@pytest.fixture
def client(stack):
    with stack.client() as client:
        yield client


def test_a_prompt_is_enhanced_in_one_lane_and_painted_in_the_other(client):
    # Given a job that asks for an enhancement
    job = client.generate("a red circle", enhance=True, seed=1)
    assert [leg.lane for leg in job.route] == ["remote", "gpu"]
    # When it is done
    done = client.wait(job.id, timeout_seconds=60)
    # Then both prompts are shown, and both lanes had their attempt
    assert (done.params["prompt"], done.enhancement.prompt) == (
        "a red circle",
        "a red circle, softly lit, oil on canvas",
    )
    assert [attempt.outcome for attempt in done.attempts] == ["hand over", "finish"]
    assert any("demo model ignores" in warning for warning in done.warnings)  # it got the enhanced words


def test_the_gpu_paints_while_the_language_model_thinks(stack, client):
    # Given both children of the remote lane held by slow answers
    with stack.client() as other:
        held = [other.generate("a red circle", enhance=True, model="demo") for _ in range(2)]
        # When a job without an enhancement comes
        done = client.wait(client.generate("a blue square", seed=2).id, timeout_seconds=60)
        # Then it is painted, whatever the others wait for
        assert done.status is JobStatus.SUCCEEDED
        for job in held:
            client.wait(job.id, timeout_seconds=60)


def test_its_children_are_as_many_as_the_setting_says_and_load_no_torch(stack):
    parents = [process for process in stack.part("worker.remote_app") if process.ppid() == stack.process.pid]
    assert len(parents) == 1
    children = wait_for(lambda: len(found := parents[0].children()) == 2 and found, "both children are there")
    for process in (parents[0], *children):
        assert not any("torch" in region.path for region in process.memory_maps())


def test_a_killed_child_loses_no_job(stack, client, language_model):
    # Given a job whose language model is asked right now
    language_model.asked.clear()
    job = client.generate("a red circle", enhance=True)
    language_model.asked.wait(30)
    # When every child of the remote lane is killed
    for process in stack.part("worker.remote_app"):
        if process.ppid() != stack.process.pid:
            process.kill()
    # Then the job still ends, enhanced or with a stated reason why not
    done = client.wait(job.id, timeout_seconds=120)
    assert done.enhancement is not None or "was not enhanced" in done.warnings[0]


def test_a_stack_without_anything_outside_starts_no_remote_worker(tmp_path):
    with RunningStack(tmp_path / "data", "--no-flower") as stack:
        assert stack.part("worker.remote_app") == []
        wait_for(lambda: stack.ready_state().get("remote_worker") == "off", "the API says that there is none")
        assert stack.stop() == 0


def test_the_remote_app_imports_no_torch():
    program = "import sys; sys.modules['torch'] = None; sys.modules['diffusers'] = None; import worker.remote_app"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
