"""The run on a rented card: every part within its time, nothing measured is lost, and on paper all of it fits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from benchmarks.gpu.lease import TOTAL_SECONDS
from benchmarks.gpu.lease_paper import LIMITS, Machine, exceeded, paper
from benchmarks.gpu.lease_parts import PARTS, Part, Skipped, subject_for
from benchmarks.gpu.lease_run import LeaseRun
from benchmarks.gpu.pack import command
from benchmarks.gpu.preflight import BROUGHT, missing_modules
from benchmarks.gpu.random_weights import WeightTiles
from benchmarks.gpu.time_limit import TimeIsUp, time_limit

ROOT = Path(__file__).parents[2]


@pytest.fixture
def result(tmp_path):
    return tmp_path / "lease.json"


@pytest.fixture
def run(result):
    return LeaseRun(subject_for(dry_run=True), result, 100.0, {"weights": "none"})


def never(_subject, _seconds):
    while True:
        time.sleep(1)


def test_every_part_is_told_as_it_ended_and_the_next_one_runs(run, result):
    # Given a part that measures, one that cannot, one that fails, and one that never ends
    def cannot(_subject, _seconds):
        raise Skipped("no card")

    def fails(_subject, _seconds):
        raise RuntimeError("broken")

    parts = [
        Part("good", 50, lambda *_: ({"figure": 1}, [])),
        Part("cannot", 50, cannot),
        Part("fails", 50, fails),
        Part("never", 0.05, never),
        Part("after", 50, lambda *_: ({}, [])),
    ]
    # When they run
    assert not run.run(parts)
    # Then the file says of each how it went
    told = json.loads(result.read_text())["parts"]
    states = {name: part["state"] for name, part in told.items()}
    assert states == {
        "good": "measured",
        "cannot": "skipped",
        "fails": "failed",
        "never": "over its time",
        "after": "measured",
    }
    assert told["good"]["figures"] == {"figure": 1}
    assert told["cannot"]["reason"] == "no card"
    assert "broken" in told["fails"]["reason"]


def test_what_was_measured_is_on_disk_before_the_next_part_begins(run, result):
    seen = []

    def look(_subject, _seconds):
        seen.append(json.loads(result.read_text())["parts"])
        return {}, []

    assert run.run([Part("first", 50, lambda *_: ({"figure": 1}, [])), Part("second", 50, look)])
    assert seen[0]["first"]["figures"] == {"figure": 1}
    assert seen[0]["second"]["state"] == "running"


def test_without_time_left_a_part_is_skipped_with_that_reason(result):
    run = LeaseRun(subject_for(dry_run=True), result, 0.0, {})
    assert run.run([Part("late", 50, never)])
    assert "all the time" in json.loads(result.read_text())["parts"]["late"]["reason"]


def test_a_time_limit_passes_those_who_catch_every_exception():
    def stubborn():
        while True:
            try:
                time.sleep(1)
            except Exception:  # noqa: BLE001  # as torch's compiler does
                continue

    with pytest.raises(TimeIsUp), time_limit(0.05):
        stubborn()


def test_a_timer_that_was_there_before_goes_on():
    outer, _ = signal.getitimer(signal.ITIMER_REAL)
    with time_limit(50):
        assert signal.getitimer(signal.ITIMER_REAL)[0] <= 50
    after, _ = signal.getitimer(signal.ITIMER_REAL)
    assert (after > 0) == (outer > 0)
    assert after <= outer


@pytest.mark.parametrize("gib", [79, 140])
def test_on_paper_everything_fits_an_h100_and_an_h200(gib):
    machine = Machine(gib)
    assert exceeded(paper(machine), machine, TOTAL_SECONDS) == []
    assert [row.part for row in paper(machine)] == [part.name for part in PARTS]
    assert sum(LIMITS.values()) <= TOTAL_SECONDS


@pytest.mark.parametrize(
    ("machine", "trouble"),
    [
        (Machine(32), "image_time needs 34.6 of the card's 32.0 GiB"),
        (Machine(79, host_gib=64), "switch needs 85.0 of the host's 64.0 GiB"),
        (Machine(79, tflops=50), "step_roofline takes"),
    ],
)
def test_on_paper_what_does_not_fit_is_named(machine, trouble):
    assert any(line.startswith(trouble) for line in exceeded(paper(machine), machine, TOTAL_SECONDS))


def test_the_dry_run_executes_every_part_or_says_why_not(result):
    # Given no card to use
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    # When the whole lease runs with the demo family
    command = (sys.executable, "-m", "benchmarks.gpu.lease", str(result), "--dry-run")
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    # Then nothing failed, and what was not measured has a reason
    assert ended.returncode == 0, ended.stderr[-2000:]
    told = json.loads(result.read_text())["parts"]
    assert list(told) == [part.name for part in PARTS]
    assert {name for name, part in told.items() if part["state"] == "measured"} >= {
        "step_roofline",
        "image_time",
        "switch",
    }
    assert all(part["reason"] for part in told.values() if part["state"] == "skipped")


def test_a_bare_machine_is_told_what_to_bring_before_anything_else():
    # Given a Python without packages
    bare = subprocess.run(
        (sys.executable, "-S", "-m", "benchmarks.gpu.lease", "--dry-run"),
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )  # fmt: skip
    # Then it names them, without a traceback
    assert bare.returncode == 2
    assert bare.stderr.startswith("Missing here: ")
    assert all(name in bare.stderr for name in BROUGHT.values())


def test_all_that_is_brought_is_pinned_and_here():
    pinned = {
        line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()
    }
    assert {name.lower().replace("_", "-") for name in BROUGHT.values()} <= pinned
    assert missing_modules() == []
    assert "--no-deps" in command(ROOT / "wheels", "3.12")


@pytest.mark.parametrize(
    "make",
    [
        lambda: T5EncoderModel(T5Config(d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=1, vocab_size=50)),
        lambda: CLIPTextModel(
            CLIPTextConfig(
                vocab_size=50, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=1
            )
        ),
    ],
    ids=["t5", "clip"],
)
def test_tiled_weights_are_random_and_leave_buffers_and_ties_alone(make):
    # Given a model as its class makes it, and one with tiled weights
    plain = make()
    tiled = WeightTiles(torch.device("cpu"), torch.bfloat16).build(make)
    # Then they differ in the values of parameters only
    shapes = [[(name, p.shape) for name, p in model.named_parameters()] for model in (plain, tiled)]
    assert shapes[0] == shapes[1]
    assert all(torch.equal(b, dict(plain.named_buffers())[name]) for name, b in tiled.named_buffers())
    assert {p.dtype for p in tiled.parameters()} == {torch.bfloat16}
    assert all(0.01 < p.float().std() < 0.04 for p in tiled.parameters() if p.numel() > 100)
