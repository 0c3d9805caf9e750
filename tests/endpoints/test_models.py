from __future__ import annotations

from shared.catalog import CATALOG
from shared.domain.report import ChoiceReport, SpeedReport
from shared.schemas.models import ModelsRead
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.factories import demo_report


def models(server: Server) -> ModelsRead:
    response = server.client.get("/api/models")
    assert response.status_code == 200
    return ModelsRead.model_validate_json(response.content)


def test_the_list_says_what_the_worker_can_run_and_what_to_do_about_the_rest(server: Server):
    # when
    listed = models(server)

    # then
    assert [model.id for model in listed.models] == list(CATALOG)
    assert {model.id for model in listed.models if model.available} == {"demo", "demo-kontext", "demo-fill"}
    assert all("flux-image pull" in model.reason for model in listed.models if not model.available)
    assert listed.device == "cpu"


def test_the_list_names_the_default_of_each_kind_and_why(server: Server):
    # when
    listed = models(server)

    # then
    assert listed.defaults == {"generate": "demo", "edit": "demo-kontext", "fill": "demo-fill"}
    assert {model.id for model in listed.models if model.default} == set(listed.defaults.values())
    assert set(listed.default_reasons) == {"generate", "edit", "fill"}
    assert all(listed.default_reasons.values())


def test_defaults_and_limits_are_those_of_the_model(server: Server):
    # when
    by_id = {model.id: model for model in models(server).models}

    # then
    fast = {"num_inference_steps": 4, "guidance_scale": 0, "strength": 0.6}
    assert by_id["demo"].defaults == {**fast, "width": 256, "height": 256}
    assert by_id["schnell"].defaults == {**fast, "width": 1024, "height": 1024}
    assert by_id["demo"].limits["max_pixels"] == 768 * 768
    assert by_id["dev"].gated
    assert by_id["dev"].licence_url == "https://huggingface.co/black-forest-labs/FLUX.1-dev"


def test_before_any_worker_the_catalog_is_listed_without_promises(start_server: ServerFactory):
    # given
    server = start_server(worker=False)

    # when
    listed = models(server)

    # then
    assert {model.available for model in listed.models} == {None}
    assert (listed.defaults, listed.default_reasons, listed.device) == ({}, {}, None)


def test_each_model_says_what_a_job_may_ask_of_it(server: Server):
    # when
    by_id = {model.id: model for model in models(server).models}

    # then
    plain, stable = by_id["schnell"].capabilities, by_id["sd15"].capabilities
    assert (plain.negative_prompt, plain.samplers, plain.image, plain.reference) == (False, [], True, False)
    assert (stable.negative_prompt, stable.image, stable.reference) == (True, True, True)
    assert stable.samplers[0] == "DPM++ 2M Karras"
    assert by_id["dev"].capabilities.reference
    assert by_id["dev"].defaults["ip_adapter_scale"] == 1.0


def test_the_list_says_how_fast_the_worker_runs_models_and_why(server: Server):
    # given
    assert models(server).speed is None
    speed = SpeedReport(
        compile=ChoiceReport(value="off", reason="on a CPU it takes longer than it saves"),
        attention=ChoiceReport(value="native", reason="PyTorch's own; the others are for cards"),
    )

    # when
    server.worker.publish(demo_report().model_copy(update={"speed": speed}))

    # then
    assert models(server).speed == speed


def test_each_model_says_whether_it_may_skip_steps(server: Server):
    by_id = {model.id: model for model in models(server).models}
    assert (plain := by_id["schnell"]).capabilities.step_caches == ["off"]
    assert "step_cache_threshold" not in plain.defaults
    for name in ("dev", "kontext", "fill", "demo-kontext", "demo-fill"):
        assert by_id[name].capabilities.step_caches == ["off", "first_block"]
        assert by_id[name].defaults["step_cache_threshold"] == 0.08
