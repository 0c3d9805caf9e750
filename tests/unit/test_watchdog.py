"""Budgets of phases and steps, and the thread that notices when one is over."""

import math
import threading

import pytest

from shared.domain.job import Claim
from shared.domain.status import Phase
from tests.builders import params
from worker.budgets import Budgets, RunWatch, StepTimes
from worker.watchdog import Watch, Watchdog

CLAIM = Claim(job_id="job_1", attempt=1, owner="w1")


@pytest.fixture
def bitten():
    """What the watchdog said, and a way to wait for it."""

    class Bitten:
        def __init__(self):
            self.happened = threading.Event()

        def __call__(self, hung, others):
            self.hung, self.others = hung, others
            self.happened.set()

    return Bitten()


@pytest.fixture
def watchdog(bitten):
    watchdog = Watchdog(bitten)
    yield watchdog
    watchdog.close()


def test_work_over_its_budget_is_named_with_the_work_beside_it(watchdog, bitten):
    other = Claim(job_id="job_2", attempt=1, owner="w1")
    with watchdog.watch(CLAIM) as watch, watchdog.watch(other) as beside:
        watch.expect("decoding", 600)
        beside.expect("saving", 600)
        watch.expect("decoding", 0.01)
        assert bitten.happened.wait(60)
    assert (bitten.hung.claim, bitten.hung.what, bitten.hung.seconds) == (CLAIM, "decoding", 0.01)
    assert [watch.claim for watch in bitten.others] == [other]


def test_work_that_rests_or_has_ended_is_not_watched(watchdog, bitten):
    with watchdog.watch(CLAIM) as resting, watchdog.watch(CLAIM) as sentinel:
        with watchdog.watch(CLAIM) as ended:
            ended.expect("denoising", 600)
        resting.expect("decoding", 600)
        resting.rest()
        # When something later is over its budget, then that is the only news
        sentinel.expect("saving", 0.01)
        assert bitten.happened.wait(60)
    assert bitten.hung is sentinel
    assert resting.deadline == math.inf


class Steps:
    """A run's watch, a clock that a test moves, and the budget in force."""

    def __init__(self, monkeypatch, num_images=1, times=None):
        self.now = 0.0
        monkeypatch.setattr("worker.budgets.time.monotonic", lambda: self.now)
        watch = self.watch = Watch(CLAIM, threading.Condition())
        job = type("Job", (), {"model": "demo", "params": params(num_images=num_images)})
        self.run = RunWatch(None, watch, Budgets(600, 300, 60, 120), times or StepTimes(), job)

    def step(self, seconds):
        self.now += seconds
        return self.run.on_step()


def test_each_phase_has_its_budget(monkeypatch):
    steps = Steps(monkeypatch, num_images=2)
    budgets = {}
    for phase in (Phase.LOADING, Phase.ENCODING, Phase.DENOISING, Phase.DECODING):
        steps.run.on_phase(phase)
        budgets[phase.value] = steps.watch.seconds
    assert budgets == {"loading": 600, "encoding": 240, "denoising": 300, "decoding": 240}


@pytest.mark.parametrize(("seconds", "budget"), [(1, 60), (20, 200)])
def test_a_step_may_take_ten_times_the_usual_one_but_at_least_the_setting(monkeypatch, seconds, budget):
    steps = Steps(monkeypatch)
    steps.run.on_phase(Phase.DENOISING)
    for _ in range(8):
        steps.step(seconds)
    assert steps.watch.seconds == budget


def test_the_first_step_may_compile_and_is_not_taken_for_usual(monkeypatch):
    steps = Steps(monkeypatch)
    steps.run.on_phase(Phase.DENOISING)
    steps.step(250)
    for _ in range(8):
        steps.step(1)
    assert steps.watch.seconds == 60


def test_a_step_far_above_the_usual_is_said_so_also_in_the_next_job(monkeypatch):
    # Given a job whose steps take a second
    times = StepTimes()
    before = Steps(monkeypatch, times=times)
    before.run.on_phase(Phase.DENOISING)
    assert [before.step(1) for _ in range(8)] == [None] * 8
    # When the next one of this model and size has a step of six
    steps = Steps(monkeypatch, times=times)
    steps.run.on_phase(Phase.DENOISING)
    steps.step(1)
    assert steps.step(6) == "a denoising step took 6.0 s; 1 s is usual for this model and size"
    assert steps.step(1.1) is None


def test_short_steps_are_never_slow(monkeypatch):
    steps = Steps(monkeypatch)
    steps.run.on_phase(Phase.DENOISING)
    assert [steps.step(seconds) for seconds in [0.01] * 8 + [0.9]] == [None] * 9


def test_waiting_for_another_server_is_progress_and_says_nothing_of_the_steps_here(monkeypatch):
    # Given a job whose steps are made elsewhere
    times = StepTimes()
    steps = Steps(monkeypatch, times=times)
    steps.run.on_phase(Phase.DENOISING)
    for _ in range(8):
        steps.step(0)
        # When the other side is silent for minutes, while this side keeps asking
        steps.now += 200
        steps.run.on_wait()
        # Then the time starts anew
        assert steps.watch.deadline == steps.now + 120
    assert times.median(("demo", 256, 256)) is None
