"""What is tried and measured on a card at start, and what is done where that fails; without a card here."""

import dataclasses

import pytest
import torch

from shared.domain.errors import DeviceLost
from shared.settings import WorkerSettings
from tests.contract.test_speed import Card
from worker.pipelines.device import pick_device
from worker.pipelines.fp8_trial import choose_balanced
from worker.pipelines.link import TRIAL_BYTES, choose_link
from worker.pipelines.planning import machine_budget
from worker.pipelines.resident import make_store
from worker.pipelines.selection import worker_report
from worker.pipelines.trial import problem_of, seconds_of
from worker.pipelines.weight_formats import FP8_ROWWISE

CPU = pick_device("cpu")
RTX_5090, LOST = Card((12, 0)), Card((12, 0), is_lost=True)


def raising(text, kind=RuntimeError):
    def fail(*_):
        raise kind(text)

    return fail


class TestATry:
    def test_what_works_has_no_problem(self):
        assert problem_of(lambda: None, RTX_5090) is None

    @pytest.mark.parametrize("kind", [RuntimeError, ImportError, AssertionError, TypeError])
    def test_whatever_it_throws_is_its_problem_in_one_line(self, kind):
        assert problem_of(raising("no kernel here\nand a long stack", kind), RTX_5090) == "no kernel here"
        assert problem_of(raising("", kind), RTX_5090) == kind.__name__

    def test_an_error_that_comes_late_is_one_too(self):
        # Given a card that tells of a kernel's failure only when it is waited for, once
        untold = ["CUDA error: no kernel image is available for execution on the device"]

        class Late(Card):
            def check(self):
                if untold:
                    raise RuntimeError(untold.pop())

        assert problem_of(lambda: None, Late((12, 0))).startswith("CUDA error: no kernel image")

    @pytest.mark.parametrize(
        ("device", "text"), [(RTX_5090, "CUDA error: misaligned address"), (LOST, "CUDA error: a word like any other")]
    )
    def test_one_that_costs_the_card_ends_the_search(self, device, text):
        with pytest.raises(DeviceLost, match="when something was tried on it: CUDA error"):
            problem_of(raising(text), device)

    def test_its_time_is_that_of_the_quickest_call_after_the_first_two(self, monkeypatch):
        # Given a clock, and calls of which the first are slow and one later is quick
        now, durations = [0.0], iter([9.0, 8.0, 4.0, 2.0, 3.0, 4.0, 5.0])
        monkeypatch.setattr("time.perf_counter", lambda: now[0])

        def attempt():
            now[0] += next(durations)

        assert seconds_of(attempt, CPU) == 2.0
        assert next(durations, None) is None


class TestTheLink:
    def test_without_a_card_nothing_is_measured(self):
        link = choose_link(None, CPU, raising("not asked for"))
        assert (link.gb_per_second, link.reason) == (25.0, "without a card nothing is copied")

    def test_a_setting_is_taken_as_it_is(self):
        link = choose_link(12.5, RTX_5090, raising("not asked for"))
        assert (link.gb_per_second, link.reason) == (12.5, "FLUX_LINK_GB_PER_SECOND is set")

    def test_a_copy_of_256_mib_is_measured(self):
        # Given a card to which that takes five milliseconds
        asked = []

        def allocate(size):
            asked.append(size)
            return torch.empty(size, dtype=torch.uint8)

        link = choose_link(None, RTX_5090, allocate, lambda attempt, _device: attempt() is None or 0.005)
        assert asked == [TRIAL_BYTES] == [256 * 2**20]
        assert link.gb_per_second == 53.7
        assert link.reason == "measured at start: 256 MiB of pinned memory in 5.0 ms"

    def test_the_real_clock_measures_this_machine_s_memory(self):
        link = choose_link(None, RTX_5090, lambda size: torch.empty(size, dtype=torch.uint8))
        assert 0.1 < link.gb_per_second < 1000

    @pytest.mark.parametrize(
        "refusal", [torch.AcceleratorError("CUDA error: out of memory\nadvice"), RuntimeError("pinning is refused")]
    )
    def test_where_pinning_is_refused_a_rate_is_assumed_and_said_to_be(self, refusal):
        def refuse(_size):
            raise refusal

        link = choose_link(None, RTX_5090, refuse)
        assert link.gb_per_second == 25.0
        assert link.reason == f"assumed (PCIe 4.0 x16), since it could not be measured: {str(refusal).splitlines()[0]}"

    def test_plans_are_made_with_it(self):
        card = dataclasses.replace(CPU, link_gb_per_second=53.7)
        assert machine_budget(card, None).link_bytes_per_second == 53_700_000_000
        assert machine_budget(card, 12.5).link_bytes_per_second == 12_500_000_000


class TestFp8:
    TOKENS = 16

    def test_a_card_that_multiplies_as_it_should_gets_it(self):
        choice = choose_balanced(RTX_5090, tokens=self.TOKENS)
        assert (choice.value, choice.reason) == ("fp8", "an fp8 product of FLUX's size was tried at start")

    @pytest.mark.parametrize(
        ("device", "reason"),
        [(CPU, "fp8 products are for cards"), (Card((8, 6), has_fp8=False), "a card of this kind has no fp8 products")],
    )
    def test_nothing_is_tried_where_it_cannot_be(self, device, reason):
        untouchable = dataclasses.replace(FP8_ROWWISE, pack=raising("not asked for"))
        choice = choose_balanced(device, untouchable)
        assert (choice.value, choice.reason) == ("int8", reason)

    @pytest.mark.parametrize(
        "text",
        [
            "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmulAlgoGetHeuristic( ltHandle)`",
            "Rowwise scaling is not currently supported on your device",
            "cutlass cannot implement",
        ],
    )
    def test_a_card_of_the_right_kind_that_cannot_gets_int8_and_says_why(self, text):
        choice = choose_balanced(RTX_5090, dataclasses.replace(FP8_ROWWISE, multiply=raising(text)), self.TOKENS)
        assert choice.value == "int8"
        assert choice.reason == f"an fp8 product of FLUX's size does not work here: {text}"

    @pytest.mark.parametrize("factor", [0.0, 1.5, float("nan")])
    def test_a_card_that_multiplies_wrongly_gets_int8(self, factor):
        wrong = dataclasses.replace(FP8_ROWWISE, multiply=lambda *given: factor * FP8_ROWWISE.multiply(*given))
        choice = choose_balanced(RTX_5090, wrong, self.TOKENS)
        assert choice.value == "int8"
        assert "the product of 1 rows is" in choice.reason


def test_what_was_found_is_what_the_worker_says_and_plans_with(tmp_path):
    settings = WorkerSettings(_env_file=None, data_dir=tmp_path, device="cpu", link_gb_per_second=12.5)
    store = make_store(settings)
    assert (store.device.link_gb_per_second, store.device.has_fp8) == (12.5, False)
    speed = worker_report(settings, store.device, store.weights, store.speed.report).speed
    assert speed.link.gb_per_second == 12.5
    assert (speed.balanced.value, speed.balanced.reason) == ("int8", "fp8 products are for cards")
