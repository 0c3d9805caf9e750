"""A card that should be there and is not is said, never silently replaced by the processor."""

import pytest
import torch

from worker.pipelines import device, driver
from worker.pipelines.device import DeviceUnavailable, pick_device


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine whose torch sees no card; ``machine(driver=..., build=...)`` says what it has."""
    sign = tmp_path / "nvidiactl"

    def set_up(*, driver_is_there, cuda_build):
        if driver_is_there:
            sign.touch()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.version, "cuda", "13.0" if cuda_build else None)
        monkeypatch.setattr(device, "has_nvidia_driver", lambda: driver.has_nvidia_driver([sign]))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return set_up


def test_auto_refuses_the_processor_where_a_driver_is_but_no_card_is_seen(machine):
    machine(driver_is_there=True, cuda_build=True)
    with pytest.raises(DeviceUnavailable, match="FLUX_DEVICE=cpu runs without the card"):
        pick_device("auto")


@pytest.mark.parametrize(("driver_is_there", "cuda_build"), [(False, True), (True, False), (False, False)])
def test_auto_takes_the_processor_where_there_is_nothing_to_miss(machine, driver_is_there, cuda_build):
    machine(driver_is_there=driver_is_there, cuda_build=cuda_build)
    assert not pick_device("auto").is_cuda


def test_the_processor_can_be_asked_for_beside_a_driver(machine):
    machine(driver_is_there=True, cuda_build=True)
    assert not pick_device("cpu").is_cuda


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_cards_that_are_hidden_on_purpose_are_not_missed(machine, monkeypatch, hidden):
    machine(driver_is_there=True, cuda_build=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not pick_device("auto").is_cuda
