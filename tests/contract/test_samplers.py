"""Every sampler name builds a scheduler of diffusers, for the noise schedules of both published families."""

import pytest
import torch

from shared.domain.samplers import SAMPLERS
from worker.pipelines.samplers import SCHEDULERS, make_scheduler

_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
CONFIGS = {
    "sd15": {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False, **_NOISE},
    "sdxl": {
        "_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon", "timestep_spacing": "leading",
        "interpolation_type": "linear", "use_karras_sigmas": False, **_NOISE,
    },
    "a model that comes with Karras": {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True, **_NOISE},
}  # fmt: skip


def sigmas(sampler: str, config: str) -> torch.Tensor:
    scheduler = make_scheduler(sampler, CONFIGS[config])
    scheduler.set_timesteps(8)
    return scheduler.sigmas


def test_the_names_are_those_that_the_catalog_offers():
    assert set(SCHEDULERS) == set(SAMPLERS)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_it_keeps_the_model_s_noise_schedule(sampler, config):
    scheduler = make_scheduler(sampler, CONFIGS[config])
    scheduler.set_timesteps(8)
    assert type(scheduler).__name__ == SCHEDULERS[sampler][0]
    assert (scheduler.config.beta_schedule, scheduler.config.beta_end) == ("scaled_linear", 0.012)
    assert len(scheduler.timesteps) >= 8


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name.endswith(" Karras")])
def test_karras_is_another_spacing_of_the_noise(sampler, config):
    karras, plain = sigmas(sampler, config), sigmas(sampler.removesuffix(" Karras"), config)
    assert karras.shape == plain.shape
    assert not torch.allclose(karras, plain)
