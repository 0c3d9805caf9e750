"""The map from latents to colours: fitted with each VAE, kept by its digest, read again."""

import copy

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from worker.demo.renderer import render
from worker.demo.world import Scene, Thing
from worker.pipelines.device import pick_device
from worker.pipelines.latent_rgb import LatentRgb, LatentRgbMaps, file_name
from worker.pipelines.latent_rgb_fit import fit_latent_rgb
from worker.pipelines.loader import Loader
from worker.pipelines.weights import SHIPPED_LATENT_RGB, Weights

CPU = torch.device("cpu")
MAP = LatentRgb(torch.eye(4, 3), torch.tensor([0.5, 0.0, -0.5]), 0.9)
SCENE = Scene("blue", Thing("red", "circle", "large", "top left"))


@pytest.fixture(scope="module")
def demo():
    return Loader(Weights(), pick_device("cpu")).load(CATALOG["demo"])


def never():
    raise AssertionError("fitted although a map is known")


@torch.no_grad()
def scaled_latents(vae, picture):
    values = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    return (vae.encode(values).latent_dist.mode() - vae.config.shift_factor) * vae.config.scaling_factor


@pytest.mark.parametrize(("scaling", "shift"), [(1.0, 0.0), (0.3611, 0.1159)])
def test_the_map_shows_the_mean_colour_of_each_place_whatever_the_vae_s_scale(demo, scaling, shift):
    # Given a VAE with a scale of its own, and a picture that was in no fit
    vae = copy.deepcopy(demo.pipeline.vae)
    vae.register_to_config(scaling_factor=scaling, shift_factor=shift)
    picture = np.asarray(render(SCENE))
    # When its latents are mapped
    shown = fit_latent_rgb(vae, CPU).pixels(scaled_latents(vae, picture))
    # Then each pixel is the mean of its 8 x 8 pixels, but for rounding
    means = picture.reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))
    assert shown.shape == (32, 32, 3)
    assert abs(shown.numpy() - means).max() < 2


def test_the_shipped_map_is_the_one_of_the_demo_s_vae(demo):
    # If this fails, the VAE was trained anew: run `python -m worker.pipelines.latent_rgb_fit`.
    shipped = LatentRgbMaps(SHIPPED_LATENT_RGB).get(demo.digests["vae"], never)
    fitted = fit_latent_rgb(demo.pipeline.vae, CPU)
    torch.testing.assert_close(shipped.weight, fitted.weight, rtol=0, atol=1e-4)
    torch.testing.assert_close(shipped.bias, fitted.bias, rtol=0, atol=1e-4)
    assert shipped.explained > 0.99


def test_a_vae_is_fitted_once_also_over_restarts(tmp_path):
    folder = tmp_path / "maps"
    made = []
    maps = LatentRgbMaps(SHIPPED_LATENT_RGB, folder)
    for _ in range(2):
        maps.get("a" * 64, lambda: made.append(1) or MAP)
    again = LatentRgbMaps(SHIPPED_LATENT_RGB, folder).get("a" * 64, never)
    assert made == [1]
    assert torch.equal(again.weight, MAP.weight)
    assert torch.equal(again.bias, MAP.bias)


@pytest.mark.parametrize("damage", ["", "{}", '{"weight": [[1, 2]], "bias": [0, 0, 0], "explained": 1}', "[1]"])
def test_a_damaged_map_is_fitted_anew(tmp_path, damage):
    (tmp_path / file_name("b" * 64)).write_text(damage)
    assert LatentRgbMaps(SHIPPED_LATENT_RGB, tmp_path).get("b" * 64, lambda: MAP) is MAP
    assert torch.equal(LatentRgb.read(tmp_path / file_name("b" * 64)).weight, MAP.weight)


def test_a_folder_that_cannot_be_written_costs_no_more_than_the_next_fit(tmp_path):
    (tmp_path / "maps").write_text("a file where the folder should be")
    assert LatentRgbMaps(SHIPPED_LATENT_RGB, tmp_path / "maps").get("c" * 64, lambda: MAP) is MAP
