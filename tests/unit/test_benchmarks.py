"""The benchmarks' arithmetic and the form of their results; nothing here is timed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import moves
from benchmarks.figures import Target, median, minus_commits, percentile, summary
from benchmarks.overhead import steps_for
from benchmarks.report import emit, last_object


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1, 1), (50, 50), (99, 99), (100, 100)],
)
def test_a_percentile_of_the_numbers_to_100_is_the_number(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_a_percentile_is_always_a_measured_value() -> None:
    assert percentile([1.0, 2.0], 50) == 1.0
    assert percentile([1.0, 2.0], 51) == 2.0
    assert percentile([7.0], 99) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_a_percentile_of_nothing_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"no values|is not a share"):
        percentile(values, share)


def test_the_median_is_not_moved_by_an_outlier() -> None:
    assert median([1.0, 2.0, 1000.0]) == 2.0


def test_a_summary_names_its_count() -> None:
    assert summary([3.0, 1.0, 2.0]) == {"count": 3, "min": 1.0, "p50": 2.0, "p99": 3.0, "max": 3.0}


def test_the_median_commit_is_taken_out_n_times() -> None:
    assert minus_commits(20.0, 2, [1.0, 3.0, 100.0]) == 14.0
    assert minus_commits(20.0, 0, [1.0]) == 20.0


@pytest.mark.parametrize(("value", "met"), [(9.9, True), (10.0, True), (10.1, False)])
def test_a_target_is_met_up_to_its_limit(value: float, met: bool) -> None:
    assert Target("submit", value, 10.0, "ms").as_json()["met"] is met


def test_the_last_line_is_one_object_that_says_where_and_how(capsys: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("something before\n")
    emit("latency", {"submit_ms": summary([1.0])}, [Target("submit", 1.0, 10.0, "ms")])

    output = capsys.readouterr().out
    result = last_object(output)

    assert json.loads(output.splitlines()[-1]) == result
    assert result["benchmark"] == "latency"
    assert result["command"].startswith("python -m benchmarks.latency")
    assert result["targets"] == [{"name": "submit", "value": 1.0, "limit": 10.0, "unit": "ms", "met": True}]
    assert {"cpu", "cores", "ram_gib"} <= result["machine"].keys()
    assert {"python", "torch", "diffusers", "celery", "sqlite"} <= result["versions"].keys()
    assert result["weights"].startswith("demo, trained")
    assert result["commit"]
    assert result["date"].endswith("+00:00")


@pytest.mark.parametrize("output", ["", "\n", "[1]", "{}\nnot json"])
def test_output_without_a_final_object_is_refused(output: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON object|Expecting value"):
        last_object(output)


@pytest.mark.parametrize(("seconds", "expected"), [(0.65, 20), (1.3, 10), (5.0, 10), (0.01, 50)])
def test_jobs_get_as_many_steps_as_make_them_long_enough(seconds: float, expected: int) -> None:
    assert steps_for(seconds, 10) == expected


def test_the_page_of_what_jobs_wait_for_is_the_one_the_planner_prints() -> None:
    # If this fails, the planner changed: run `python -m benchmarks.moves > docs/benchmarks/moves.md`.
    committed = Path(__file__).parents[2] / "docs" / "benchmarks" / "moves.md"
    assert committed.read_text() == moves.page()


def test_no_mix_of_jobs_waits_for_more_than_before() -> None:
    for (gib, megapixels), before in moves.BEFORE.items():
        for mix, earlier in zip(moves.MIXES.values(), before, strict=True):
            made = moves.planned(gib, moves.SIDES[megapixels], mix)
            assert made.moves.per_job(mix) <= (earlier + 0.05) * 1e9, (gib, megapixels, mix)
