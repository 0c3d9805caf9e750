"""What `FLUX_COMPILE` and `FLUX_ATTENTION` become on a device, each with its reason; what does not work is refused."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName

from shared.catalog import CATALOG
from shared.domain.acceleration import Acceleration
from shared.domain.errors import DeviceLost, RequestError
from shared.settings import WorkerSettings
from tests.contract.small_card import OPTIONS
from tests.contract.test_step_cache import Context
from worker.build import make_local_generator
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.attention import choose_attention
from worker.pipelines.device import DeviceUnavailable, pick_device
from worker.pipelines.resident import make_store, pipeline_store
from worker.pipelines.speed import choose_compile, keep_compiled_code
from worker.pipelines.wanted import ATTENTION_BACKENDS, check_settings

CPU = pick_device("cpu")


@dataclasses.dataclass(frozen=True)
class Card:
    """What the choices at start ask a device; its memory is the host's, and its kernels are what a test gives them."""

    capability: tuple[int, int]
    has_fp8: bool = True
    is_lost: bool = False
    is_cuda: bool = True
    dtype: torch.dtype = torch.bfloat16
    torch_device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    def check(self):
        if self.is_lost:
            raise RuntimeError("CUDA error: a word that no table knows")


RTX_5090, H200 = Card((12, 0)), Card((9, 0))


def settings(tmp_path, **values):
    return WorkerSettings(_env_file=None, data_dir=tmp_path, device="cpu", **values)


class TestCompile:
    @pytest.mark.parametrize(
        ("wanted", "value", "reason"),
        [("auto", "off", "takes longer than it saves"), ("off", "off", "FLUX_COMPILE is set")],
    )
    def test_on_a_cpu_it_has_to_be_asked_for(self, wanted, value, reason):
        choice = choose_compile(wanted, CPU)
        assert choice.value == value
        assert reason in choice.reason

    def test_without_a_compiler_it_is_off_and_the_reason_says_what_is_missing(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
        choice = choose_compile("on", CPU)
        assert choice.value == "off"
        assert choice.reason == "FLUX_COMPILE=on is not possible: a compiler (g++) is missing on this machine"

    def test_with_a_card_but_without_triton_it_is_off(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert choose_compile("auto", RTX_5090).reason == "Triton is missing on this machine"

    def test_the_code_is_kept_in_the_data_directory_unless_the_environment_says_otherwise(self, monkeypatch, tmp_path):
        # so that the variable is as before after the test
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/somewhere/else")
        keep_compiled_code(settings(tmp_path).compiled_code_dir)
        assert read_variable() == "/somewhere/else"
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
        keep_compiled_code(settings(tmp_path).compiled_code_dir)
        assert read_variable() == str(tmp_path / "cache" / "inductor")


def read_variable():
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return cache_dir()


class TestAttention:
    @pytest.mark.parametrize(("device", "reason"), [(CPU, "the others are for cards"), (RTX_5090, "fewer bits")])
    def test_auto_takes_pytorch_s_own_where_nothing_better_is_here_and_says_why(self, device, reason):
        choice = choose_attention("auto", device)
        assert choice.value == "native"
        assert reason in choice.reason

    @pytest.mark.parametrize(
        ("milliseconds", "chosen"),
        [
            ({"native": 1.0, "_native_cudnn": 0.5, "_flash_3": 0.6}, "_native_cudnn"),
            ({"native": 1.0, "_native_cudnn": 0.6, "_flash_3": 0.5}, "_flash_3"),
            ({"native": 1.0, "_native_cudnn": 0.5}, "_native_cudnn"),
            # One tenth is what another one has to be worth, so that noise never decides
            ({"native": 1.0, "_native_cudnn": 0.92}, "native"),
            ({"native": 1.0, "_native_cudnn": 0.90}, "_native_cudnn"),
            ({"native": 1.0, "_native_cudnn": 1.1, "_flash_3": 1.0}, "native"),
            ({"native": 1.0}, "native"),
            ({"_native_cudnn": 0.5}, "_native_cudnn"),
            ({}, "native"),
        ],
    )
    def test_on_hopper_the_clearly_fastest_of_those_that_work_is_taken(self, milliseconds, chosen):
        # Given a card of that kind on which some backends work, each with its own time
        def seconds(name):
            if name not in milliseconds:
                raise RuntimeError(f"No available kernel. Aborting execution.\nof {name}")
            return milliseconds[name] / 1000

        choice = choose_attention("auto", H200, seconds)
        # Then the reason holds every time and every refusal
        assert choice.value == chosen
        for name in ("native", "_native_cudnn", "_flash_3"):
            taken = milliseconds.get(name)
            said = f"{name} {taken:.2f} ms" if taken else f"{name} does not work here (No available kernel"
            assert said in choice.reason
        assert "10% faster" in choice.reason

    def test_a_trial_that_costs_the_card_is_no_reason_to_choose_another(self):
        def breaks(_name):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        with pytest.raises(DeviceLost, match="when something was tried on it: CUDA error: an illegal memory access"):
            choose_attention("auto", H200, breaks)

    def test_the_real_trial_takes_time_on_this_machine(self, monkeypatch):
        # Given the small shape, since the large one takes a processor seconds
        monkeypatch.setattr("worker.pipelines.attention._LARGE", (1, 64, 2, 16))
        choice = choose_attention("auto", H200)
        assert re.search(r"on 64 tokens: native \d+\.\d\d ms, _native_cudnn does not work here \(.+\)", choice.reason)

    @pytest.mark.parametrize(
        ("name", "why"), [("flash_9", "not a backend that diffusers knows"), ("sage_hub", "downloads code")]
    )
    def test_an_unknown_name_is_refused_before_the_worker_has_a_child(self, tmp_path, name, why):
        with pytest.raises(RequestError, match=why) as refused:
            check_settings(settings(tmp_path, attention=name))
        assert refused.value.message.startswith(f"FLUX_ATTENTION={name}: ")
        assert "native" in refused.value.message

    @pytest.mark.parametrize("name", ["_native_cudnn", "sage", "_flash_3"])
    def test_one_that_does_not_work_here_is_refused_at_start_in_words(self, tmp_path, name, monkeypatch):
        with pytest.raises(DeviceUnavailable, match=f"FLUX_ATTENTION={name} does not work on this device: ."):
            make_store(settings(tmp_path, attention=name))
        # And the worker's composition root passes it on
        monkeypatch.setenv("FLUX_ATTENTION", name)
        monkeypatch.setenv("FLUX_DEVICE", "cpu")
        pipeline_store.cache_clear()
        with pytest.raises(DeviceUnavailable, match=f"FLUX_ATTENTION={name}"):
            make_local_generator()

    def test_the_names_that_are_known_without_torch_are_those_of_diffusers(self):
        assert set(ATTENTION_BACKENDS) == {n.value for n in AttentionBackendName if not n.value.endswith("_hub")}

    def test_one_that_works_is_used_and_named_in_the_result(self, tmp_path):
        # Given the backend that computes by the book, which works everywhere
        plain = paint(FluxLocalGenerator(make_store(settings(tmp_path))), Context())
        store = make_store(settings(tmp_path, attention="_native_math"))
        assert store.speed.report.attention.reason == "FLUX_ATTENTION is set"
        context = Context()
        try:
            picture = paint(FluxLocalGenerator(store), context)
        finally:
            store.load(CATALOG["demo"]).pipeline.transformer.reset_attention_backend()
        # Then the picture is the same but for rounding
        assert context.accelerations == [Acceleration("attention:_native_math", lossless=False)]
        assert np.abs(plain.astype(int) - picture).max() <= 2


def paint(generator, context):
    return np.asarray(generator.generate("a red circle", context=context, model="demo", **OPTIONS["demo"])[0])
