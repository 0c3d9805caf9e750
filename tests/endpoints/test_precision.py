"""`precision` over HTTP: stored, defaulted by the worker's report, refused in words."""

from __future__ import annotations

import pytest

from shared.catalog import CATALOG
from shared.domain.precision import Precision
from shared.domain.report import ModelReport, PrecisionReport, WorkerReport
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


TOO_SMALL = {precision: f"demo at precision {precision} needs 9.9 GiB." for precision in ("exact", "balanced")}


def report_of(model: str, **precision: object) -> WorkerReport:
    """Return a worker's report about one model."""
    known = PrecisionReport(**{"reason": "the best that fits this device", "refused": {}, **precision})
    models = (ModelReport(model=model, available=True, reason="found", precision=known),)
    return demo_report().model_copy(update={"models": models})


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("kind", ["generate", "edit", "fill"])
def test_the_precision_that_is_asked_for_is_stored(server: Server, kind: str, precision: str):
    response = submit(server, kind, precision=precision)
    assert response.status_code == 202
    assert response.json()["params"]["precision"] == precision


@pytest.mark.parametrize(("kind", "model"), [("generate", "demo"), ("edit", "demo-kontext"), ("fill", "demo-fill")])
def test_one_that_the_device_cannot_is_refused_before_the_job_exists(server: Server, kind: str, model: str):
    # given a worker whose card is too small for all but one
    server.worker.publish(report_of(model, default=Precision.COMPACT, refused=TOO_SMALL))

    # when
    response = submit(server, kind, precision="exact")

    # then
    assert response.status_code == 422
    error = response.json()["error"]
    assert (error["code"], error["details"]) == ("capability", {"field": "precision", "limit": ["compact"]})
    assert error["message"] == TOO_SMALL["exact"]
    assert server.client.get("/api/jobs").json()["jobs"] == []


def test_a_word_that_is_no_precision_is_refused(server: Server):
    error = submit(server, "generate", precision="fp8").json()["error"]
    assert error["code"] == "invalid_request"
    assert error["details"]["field"] == "precision"


def test_what_is_left_out_is_the_worker_s_default_for_that_model(server: Server):
    # given a worker that runs schnell in 8 bits
    server.worker.publish(report_of("schnell", default=Precision.BALANCED))

    # when, then
    assert submit(server, "generate", model="schnell").json()["params"]["precision"] == "balanced"
    assert submit(server, "generate", model="dev").json()["params"]["precision"] == "exact"


def test_the_catalog_says_which_precisions_are_possible_and_why_the_others_are_not(server: Server):
    server.worker.publish(report_of("demo", default=Precision.COMPACT, refused=TOO_SMALL))
    by_id = {model["id"]: model for model in server.client.get("/api/models").json()["models"]}
    assert list(by_id) == list(CATALOG)
    assert by_id["demo"]["precision"] == "compact"
    assert by_id["demo"]["refused_precisions"] == TOO_SMALL


def test_before_any_worker_every_precision_is_accepted(start_server: ServerFactory):
    server = start_server(worker=False)
    job = submit(server, "generate", model="demo", precision="compact").json()
    assert job["params"]["precision"] == "compact"
