"""`generator` and `enhance` over HTTP: what is decided at submit, what is refused, and what the job shows of it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.clock import utc_now
from shared.domain.job import Lane
from shared.domain.report import RemoteReport, SpaceReport
from shared.schemas.models import ModelsRead
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server, StandInWorker
from tests.factories import decoded, demo_report, mask_bytes, png_bytes

SPACE = "black-forest-labs/FLUX.1-schnell"
LLM = "http://127.0.0.1:11434/v1"
ANSWERS = RemoteReport(
    space=SpaceReport(available=True, reason="the Space answers", learned_at=utc_now()), enhancer="nemo"
)

AWAY = RemoteReport(space=SpaceReport(available=False, reason="it is building", learned_at=utc_now()), enhancer=None)


def submit(server: Server, **body: object) -> dict[str, Any]:
    response = server.client.post("/api/generate", json={"prompt": "a red circle", **body})
    assert response.status_code == 202, response.text
    return response.json()


def refused(server: Server, **body: object) -> dict[str, Any]:
    response = server.client.post("/api/generate", json={"prompt": "a red circle", **body})
    assert response.status_code == 422, response.text
    server.assert_nothing_left()
    return response.json()["error"]


def job(server: Server, job_id: str) -> dict[str, Any]:
    return server.client.get(f"/api/jobs/{job_id}").json()


def remote_worker(server: Server, report: RemoteReport = ANSWERS) -> StandInWorker:
    worker = StandInWorker(server.database, server.storage, "wrk_remote", Lane.REMOTE, report)
    worker.join()
    return worker


def shares(body: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(leg["generator"], leg["first"], leg["count"]) for leg in body["route"]]


class TestChoice:
    def test_without_a_space_everything_is_made_here(self, server: Server):
        body = submit(server)
        assert body["generator"] == "local"
        assert body["generator_reason"] == "auto: this machine has no CUDA device, but no Space is configured"
        assert body["route"] == [{"generator": "local", "lane": "gpu", "model": "demo", "first": 0, "count": 1}]

    def test_auto_goes_to_the_space_that_answers_when_there_is_no_cuda(self, start_server: ServerFactory):
        # Given a machine without CUDA and a Space that answers
        server = start_server(remote_space=SPACE)
        remote_worker(server)
        # When nothing is said about the generator
        body = submit(server)
        # Then the Space does it, with the defaults of its model
        assert (body["generator"], body["model"]) == ("remote", "schnell")
        assert body["generator_reason"] == f"auto: this machine has no CUDA device; the Space {SPACE} does it"
        assert (body["params"]["width"], body["params"]["num_inference_steps"]) == (1024, 4)

    def test_auto_stays_here_while_the_space_is_away(self, start_server: ServerFactory):
        server = start_server(remote_space=SPACE)
        remote_worker(server, AWAY)
        assert submit(server)["generator_reason"] == "auto: this machine has no CUDA device, but it is building"

    def test_an_upload_leaves_the_house_only_on_request(self, start_server: ServerFactory):
        server = start_server(remote_space="black-forest-labs/FLUX.1-Kontext-dev")
        remote_worker(server)
        for generator, wanted in (("auto", "local"), ("remote", "remote")):
            response = server.client.post(
                "/api/edit", data={"prompt": "make it green", "generator": generator}, files={"file": png_bytes()}
            )
            assert response.json()["generator"] == wanted

    def test_remote_can_be_asked_for_before_its_worker_runs_and_says_that_it_waits(self, start_server: ServerFactory):
        server = start_server(worker=False, remote_space=SPACE)
        body = submit(server, generator="remote")
        assert body["route"][0]["lane"] == "remote"
        assert "the job waits: no remote worker has started yet" in body["generator_reason"]

    def test_a_paused_gpu_is_away(self, start_server: ServerFactory):
        server = start_server(remote_space=SPACE)
        remote_worker(server)
        server.client.post("/api/queue/pause")
        assert "the GPU queue is paused; the Space" in submit(server)["generator_reason"]


class TestRefusals:
    @pytest.mark.parametrize("generator", ["remote", "fallback", "merge"])
    def test_a_remote_choice_without_a_space_says_what_to_configure(self, server: Server, generator: str):
        error = refused(server, generator=generator, num_images=2)
        assert (error["code"], error["details"]["field"]) == ("capability", "generator")
        assert "FLUX_REMOTE_SPACE" in error["message"]

    def test_a_fill_cannot_go_to_a_space_that_paints(self, start_server: ServerFactory):
        server = start_server(remote_space=SPACE)
        files = {"image": png_bytes(), "mask": mask_bytes()}
        response = server.client.post("/api/fill", data={"prompt": "a square", "generator": "remote"}, files=files)
        assert response.status_code == 422
        assert "does generate, not fill" in response.json()["error"]["message"]

    def test_consistent_needs_a_reference(self, server: Server):
        assert "reference" in refused(server, generator="consistent")["message"]

    def test_an_unknown_generator_is_refused_with_the_known_ones(self, server: Server):
        error = refused(server, generator="cloud")
        assert error["details"]["field"] == "generator"
        assert "'fallback'" in error["message"]

    def test_merge_needs_two_pictures(self, start_server: ServerFactory):
        error = refused(start_server(remote_space=SPACE), generator="merge")
        assert error["details"]["limit"] == 2

    def test_a_value_only_one_side_takes_is_refused_for_both(self, start_server: ServerFactory):
        # Given a local model with a larger limit of steps than the Space's
        server = start_server(remote_space=SPACE)
        error = refused(server, generator="fallback", width=2048, height=2048, model="demo")
        assert "demo takes at most" in error["message"]

    def test_the_same_key_for_another_generator_is_a_conflict(self, start_server: ServerFactory):
        server = start_server(remote_space=SPACE)
        for generator, status in (("local", 202), ("remote", 422)):
            response = server.client.post(
                "/api/generate",
                json={"prompt": "a red circle", "generator": generator},
                headers={"Idempotency-Key": "k"},
            )
            assert response.status_code == status


class TestHybrid:
    def test_merge_is_one_result_set_of_two_makers_with_a_grid(self, start_server: ServerFactory):
        # Given three pictures shared out to both sides
        server = start_server(remote_space=SPACE)
        elsewhere = remote_worker(server)
        body = submit(server, generator="merge", num_images=3, seed=5)
        assert shares(body) == [("local", 0, 2), ("remote", 2, 1)]
        # When this machine has made its half
        server.worker.run_one()
        # Then it is there to be seen while the job waits in the other lane
        waiting = job(server, body["id"])
        assert (waiting["status"], waiting["leg"], waiting["queue_position"]) == ("queued", 1, 0)
        assert [image["generator"] for image in waiting["images"]] == ["local", "local"]
        # And the other half ends it
        elsewhere.run_one()
        done = job(server, body["id"])
        assert done["status"] == "succeeded"
        assert [(image["index"], image["seed"], image["generator"]) for image in done["images"]] == [
            (0, 5, "local"),
            (1, 6, "local"),
            (2, 7, "remote"),
        ]
        grid = server.client.get(done["urls"]["grid"])
        assert grid.headers["content-type"] == "image/png"
        assert min(decoded(grid.content).size) > 2 * 256

    def test_the_other_side_gets_its_own_defaults_but_the_same_size(self, start_server: ServerFactory):
        # Given a Space whose model wants more steps than the one here
        server = start_server(remote_space="black-forest-labs/FLUX.1-dev")
        elsewhere = remote_worker(server)
        body = submit(server, generator="merge", num_images=2)
        assert (body["model"], body["params"]["num_inference_steps"], body["params"]["width"]) == ("demo", 4, 256)
        server.worker.run_one()
        # When the Space's leg is claimed
        claimed, _ = elsewhere.start()
        # Then its parameters are those of its model, but for what makes one set of the pictures
        assert claimed.route.current.model == "dev"
        mine = claimed.leg_params
        assert (mine.num_inference_steps, mine.guidance_scale, mine.width, mine.num_images) == (28, 3.5, 256, 1)
        assert job(server, body["id"])["progress"]["total_steps"] == 28

    def test_fallback_starts_here_and_names_the_way_out(self, start_server: ServerFactory):
        server = start_server(remote_space=SPACE)
        body = submit(server, generator="fallback", num_images=2)
        assert shares(body) == [("local", 0, 2)]
        assert body["generator_reason"] == f"fallback: this machine first, the Space {SPACE} if that fails"

    def test_a_job_without_pictures_has_no_grid(self, server: Server):
        body = submit(server)
        assert body["urls"]["grid"] is None
        for job_id in (body["id"], "job_nothing"):
            assert server.client.get(f"/api/jobs/{job_id}/grid").status_code == 404


class TestEnhance:
    def test_without_a_language_model_it_says_what_to_configure(self, server: Server):
        error = refused(server, enhance=True)
        assert (error["code"], error["details"]["field"]) == ("capability", "enhance")
        assert "FLUX_ENHANCER_URL" in error["message"]

    def test_a_language_model_goes_first_and_holds_no_gpu(self, start_server: ServerFactory):
        server = start_server(enhancer_url=LLM, enhancer_model="nemo")
        body = submit(server, enhance=True)
        assert body["route"][0] == {"generator": "enhancer", "lane": "remote", "model": "nemo", "first": 0, "count": 0}
        assert body["route"][1]["generator"] == "local"
        assert server.client.get("/api/queue").json()["next"] == []
        assert [item["id"] for item in server.client.get("/api/queue?lane=remote").json()["next"]] == [body["id"]]

    @pytest.mark.parametrize(
        ("field", "first_leg", "warned"), [("enhance", "local", True), ("enhance_instruction", "enhancer", False)]
    )
    def test_an_instruction_is_rewritten_only_when_that_is_asked_for(
        self, start_server: ServerFactory, field: str, first_leg: str, warned: bool
    ):
        server = start_server(enhancer_url=LLM)
        answer = server.client.post(
            "/api/edit", data={"prompt": "make it green", field: "true"}, files={"file": png_bytes()}
        )
        assert answer.json()["route"][0]["generator"] == first_leg
        assert any("the instruction was left as it is" in warning for warning in answer.json()["warnings"]) == warned


class TestConsistent:
    def test_a_reference_picture_makes_it_consistent_and_is_recorded_as_the_enhancement(self, server: Server):
        # Given a form with a reference picture, for a model that can follow it
        fields = {"prompt": "a red circle", "model": "sd15", "ip_adapter_scale": "0.4", "enhance": "true"}
        answer = server.client.post("/api/generate", data=fields, files={"reference": png_bytes()})
        body = answer.json()
        # Then the reference decides the generator, and it is what enhances the words
        assert (body["generator"], body["route"][0]["lane"]) == ("consistent", "gpu")
        assert body["enhancement"] == {"by": "reference", "prompt": None, "ip_adapter_scale": 0.4}
        assert any("the words were left as they are" in warning for warning in body["warnings"])

    def test_without_a_model_that_can_follow_it_says_which_to_pull(self, server: Server):
        answer = server.client.post("/api/generate", data={"prompt": "a"}, files={"reference": png_bytes()})
        assert answer.status_code == 422
        assert "flux-image pull" in answer.json()["error"]["message"]


class TestModels:
    def test_each_generator_says_whether_it_could_start_and_why_not(self, start_server: ServerFactory):
        # Given a Space that is configured, but no worker for it
        server = start_server(remote_space=SPACE)
        listed = ModelsRead.model_validate_json(server.client.get("/api/models").content)
        by_id = {generator.id: generator for generator in listed.generators}
        assert by_id["local"].available
        assert (by_id["remote"].available, by_id["remote"].models) == (False, ["schnell"])
        assert by_id["remote"].reason == "no remote worker has started yet"
        assert by_id["fallback"].available
        assert not by_id["merge"].available
        assert "FLUX_ENHANCER_URL" in listed.enhancer.reason

    def test_without_a_space_it_says_what_to_configure(self, server: Server):
        listed = ModelsRead.model_validate_json(server.client.get("/api/models").content)
        remote = next(generator for generator in listed.generators if generator.id == "remote")
        assert (remote.available, remote.kinds) == (False, [])
        assert "FLUX_REMOTE_SPACE" in remote.reason


class TestLanes:
    def test_each_lane_is_paused_and_emptied_on_its_own(self, start_server: ServerFactory):
        server = start_server(remote_space=SPACE)
        here, away = submit(server, generator="local"), submit(server, generator="remote")
        assert server.client.post("/api/queue/pause?lane=remote").json()["paused"]
        assert not server.client.get("/api/queue").json()["paused"]
        assert server.client.post("/api/queue/cancel?lane=remote").json() == {"cancelled": 1}
        assert (job(server, here["id"])["status"], job(server, away["id"])["status"]) == ("queued", "cancelled")

    def test_the_state_of_the_remote_worker_is_shown_and_is_no_part_of_being_ready(self, start_server: ServerFactory):
        server = start_server(remote_space=SPACE)
        ready = server.client.get("/health/ready")
        assert (ready.status_code, ready.json()["remote_worker"]) == (200, "none has started yet")
        remote_worker(server)
        assert server.client.get("/health/ready").json()["remote_worker"] == "idle"


class TestReference:
    """A job that names no model and follows a picture gets one whose adapter is here, too."""

    def painted(self, server: Server):
        files = {"reference": ("mascot.png", png_bytes())}
        return server.client.post("/api/generate", data={"prompt": "a red circle"}, files=files)

    def publish(self, server: Server, follows_reference: bool) -> None:
        report = demo_report()
        models = tuple(
            item.model_copy(update={"available": True, "follows_reference": follows_reference})
            if item.model == "sd15"
            else item
            for item in report.models
        )
        server.worker.publish(report.model_copy(update={"models": models}))

    def test_a_model_that_is_here_with_its_adapter_is_chosen(self, server: Server):
        self.publish(server, follows_reference=True)
        body = self.painted(server).json()
        assert (body["model"], body["generator"]) == ("sd15", "consistent")

    def test_a_model_without_its_adapter_is_not_and_the_remedy_is_named(self, server: Server):
        self.publish(server, follows_reference=False)
        response = self.painted(server)
        assert response.status_code == 422
        error = response.json()["error"]
        assert (error["code"], error["details"]["field"]) == ("capability", "reference")
        assert "`flux-image pull dev` and `flux-image pull flux-ip-adapter`" in error["message"]


class TestStepCache:
    """It is about this machine's card."""

    CACHED = {"model": "dev", "step_cache": "first_block"}

    def test_a_space_refuses_it_and_off_asks_for_nothing(self, start_server: ServerFactory):
        server = start_server(remote_space="black-forest-labs/FLUX.1-dev")
        remote_worker(server)
        error = refused(server, generator="remote", **self.CACHED)
        assert (error["code"], error["details"]["field"]) == ("capability", "step_cache")
        assert "step_cache" not in submit(server, generator="remote", model="dev", step_cache="off")["params"]

    def test_of_two_sides_only_this_one_hears_of_it(self, start_server: ServerFactory):
        server = start_server(remote_space="black-forest-labs/FLUX.1-dev")
        remote_worker(server)
        body = submit(server, generator="fallback", **self.CACHED)
        assert body["params"]["step_cache"] == "first_block"
        assert "remote: step_cache has no effect there" in body["warnings"]
        stored = server.jobs.get(body["id"])
        changes = stored.route.alternatives[1].changes
        assert (changes["step_cache"], changes["step_cache_threshold"]) == (None, None)
