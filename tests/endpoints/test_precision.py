"""`precision` over HTTP: stored, defaulted by the worker's report, refused in words."""

from __future__ import annotations

import pytest

from shared.catalog import CATALOG
from shared.domain.precision import Precision
from shared.domain.report import ModelReport, PrecisionReport
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.factories import demo_report, mask_bytes, png_bytes

FILES = {
    "edit": lambda: {"file": ("a.png", png_bytes())},
    "fill": lambda: {"image": ("a.png", png_bytes()), "mask": ("m.png", mask_bytes())},
}


def submit(server: Server, kind: str, **fields: object):
    body = {"prompt": "a red circle", **fields}
    if kind == "generate":
        return server.client.post("/api/generate", json=body)
    return server.client.post(f"/api/{kind}", data=body, files=FILES[kind]())


@pytest.mark.parametrize("kind", ["generate", "edit", "fill"])
def test_the_precision_that_is_asked_for_is_stored(server: Server, kind: str):
    response = submit(server, kind, precision="exact")
    assert response.status_code == 202
    assert response.json()["params"]["precision"] == "exact"


@pytest.mark.parametrize("kind", ["generate", "edit", "fill"])
def test_one_that_the_device_cannot_is_refused_before_the_job_exists(server: Server, kind: str):
    # when a worker on a CPU has reported
    response = submit(server, kind, precision="compact")

    # then
    assert response.status_code == 422
    error = response.json()["error"]
    assert (error["code"], error["details"]) == ("capability", {"field": "precision", "limit": ["exact"]})
    assert "only exact works" in error["message"]
    assert server.client.get("/api/jobs").json()["jobs"] == []


def test_a_word_that_is_no_precision_is_refused(server: Server):
    error = submit(server, "generate", precision="fp8").json()["error"]
    assert error["code"] == "invalid_request"
    assert error["details"]["field"] == "precision"


def test_what_is_left_out_is_the_worker_s_default_for_that_model(server: Server):
    # given a worker that runs schnell in 8 bits
    balanced = PrecisionReport(default=Precision.BALANCED, reason="the best that fits this device", refused={})
    models = (ModelReport(model="schnell", available=True, reason="found", precision=balanced),)
    server.worker.publish(demo_report().model_copy(update={"models": models}))

    # when, then
    assert submit(server, "generate", model="schnell").json()["params"]["precision"] == "balanced"
    assert submit(server, "generate", model="dev").json()["params"]["precision"] == "exact"


def test_the_catalog_says_which_precisions_are_possible_and_why_the_others_are_not(server: Server):
    by_id = {model["id"]: model for model in server.client.get("/api/models").json()["models"]}
    assert list(by_id) == list(CATALOG)
    assert by_id["demo"]["precision"] == "exact"
    assert set(by_id["demo"]["refused_precisions"]) == {"balanced", "compact"}


def test_before_any_worker_every_precision_is_accepted(start_server: ServerFactory):
    server = start_server(worker=False)
    job = submit(server, "generate", model="demo", precision="compact").json()
    assert job["params"]["precision"] == "compact"
