"""What `FLUX_COMPILE` and `FLUX_ATTENTION` become on a device, each with its reason; what does not work is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from diffusers.models.attention_dispatch import AttentionBackendName

from shared.catalog import CATALOG
from shared.domain.acceleration import Acceleration
from shared.domain.errors import RequestError
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
RTX_5090 = SimpleNamespace(is_cuda=True, capability=(12, 0))
H200 = SimpleNamespace(is_cuda=True, capability=(9, 0))


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
    @pytest.mark.parametrize(
        ("device", "reason"),
        [(CPU, "the others are for cards"), (RTX_5090, "fewer bits"), (H200, "FlashAttention 3 for this card is not")],
    )
    def test_auto_takes_pytorch_s_own_where_nothing_better_is_here_and_says_why(self, device, reason, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        choice = choose_attention("auto", device)
        assert choice.value == "native"
        assert reason in choice.reason

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
