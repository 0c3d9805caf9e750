"""`flux-image plan` for cards that nobody here has."""

import json

import pytest
from typer.testing import CliRunner

from cli.main import app
from shared.adapters import FLUX_IP_ADAPTER


def run(*arguments):
    return CliRunner().invoke(app, ["plan", *arguments])


def test_it_says_what_is_warm_what_moves_what_it_costs_and_why():
    # When a 32 GB card is asked about
    result = run("--gpu-gib", "32", "--host-gib", "128", "--models", "schnell,kontext,fill", "--precision", "exact")
    # Then every part of the plan is there, and that nothing was measured
    assert result.exit_code == 0
    assert "warm       schnell (16.1 GiB)" in result.output
    assert "moves      kontext: 17.2 GB from pinned memory, about 0.69 s before overlap" in result.output
    assert "not measured" in result.output
    assert "why        exact: the weights as published; 1 of 3 models fit at once; a table per job" in result.output


def test_a_faster_link_makes_the_switch_cheaper():
    made = [
        json.loads(run("--gpu-gib", "32", "--host-gib", "128", "--link-gb-per-second", rate, "--json").output)
        for rate in ("25", "50")
    ]
    assert made[0]["transfers"][0]["seconds"] == pytest.approx(2 * made[1]["transfers"][0]["seconds"], rel=0.01)
    assert made[0]["transfers"][0]["residency"] == "kontext"


def test_without_a_precision_the_best_one_that_fits_is_chosen():
    assert json.loads(run("--gpu-gib", "16", "--json").output)["precision"] == "balanced"


def test_a_plan_that_cannot_be_is_an_error_with_a_remedy():
    result = run("--gpu-gib", "12", "--precision", "exact")
    assert result.exit_code == 1
    assert "Try precision balanced or compact" in result.stderr


def test_a_host_without_room_for_quantized_masters_makes_them_again_and_says_so():
    # Given 16 GB of pinned memory for two models of 12 GB and their encoders
    arguments = ("--gpu-gib", "16", "--host-gib", "24", "--models", "schnell,kontext")
    output = run(*arguments).output
    assert "kontext: 8.7 GB from its files, quantized again first" in output
    assert "read and quantized again when its job comes" in output
    assert "ring" not in output


def test_a_model_without_quantized_forms_is_refused_in_words():
    result = run("--gpu-gib", "24", "--models", "sd15", "--precision", "compact")
    assert result.exit_code == 1
    assert "sd15 has no 8-bit and no 4-bit form here, only exact works" in result.stderr


def test_an_unknown_model_is_named():
    result = run("--gpu-gib", "12", "--models", "sdxl-turbo")
    assert result.exit_code == 1
    assert "no model 'sdxl-turbo'" in result.stderr


def test_no_card_is_a_plan_too():
    result = run("--gpu-gib", "0", "--models", "demo")
    assert result.exit_code == 0
    assert "host memory" in result.output


def test_an_adapter_is_planned_for_with_its_model():
    # When a model is asked about, alone and with the adapter that follows pictures
    plain, adapted = (
        json.loads(run("--gpu-gib", "80", "--models", models, "--json").output)
        for models in ("dev", "dev+flux-ip-adapter")
    )
    # Then the plan names it and has room for it and for what it looks with
    assert adapted["warm"] == ["dev+flux-ip-adapter"]
    assert adapted["peak_bytes"] - plain["peak_bytes"] == sum(FLUX_IP_ADAPTER.component_bytes.values())
    assert "warm       dev+flux-ip-adapter" in run("--gpu-gib", "80", "--models", "dev+flux-ip-adapter").output


@pytest.mark.parametrize("models", ["schnell+flux-ip-adapter", "dev+ip-adapter-sd15"])
def test_an_adapter_of_another_model_is_refused(models):
    result = run("--gpu-gib", "80", "--models", models)
    assert result.exit_code == 1
    assert "There is no adapter" in result.stderr
