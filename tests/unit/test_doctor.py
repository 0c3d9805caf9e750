import pytest
from typer.testing import CliRunner

from cli.host.checks import broker, data, outside, worker
from cli.host.checks.finding import Level
from cli.host.checks.machine import judge_torch
from cli.main import app
from shared.db.jobs import JobRepository
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.settings import HubSettings
from tests.broker import serving_broker
from tests.builders import new_job
from tests.factories import demo_report
from tests.language_model import serving_language_model
from tests.stack import free_port

CARD = {"name": "NVIDIA GeForce RTX 5090", "bytes": 34_190_917_632, "arch": "sm_120"}


def torch_build(**changes):
    return {"version": "2.13.0", "cuda": "13.0", "archs": ["sm_90", "sm_120"], "cards": [CARD], **changes}


class TestTorch:
    def test_a_card_that_torch_has_code_for_is_fine(self):
        findings = list(judge_torch(torch_build(), has_driver=True))
        assert {finding.level for finding in findings} == {Level.OK}
        assert "RTX 5090, 31.8 GiB, sm_120" in findings[-1].text

    def test_a_build_without_the_cards_code_is_named(self):
        findings = list(judge_torch(torch_build(archs=["sm_80", "sm_90"]), has_driver=True))
        assert findings[-1].level is Level.PROBLEM
        assert "no code for sm_120" in findings[-1].text

    def test_a_driver_without_a_visible_card_is_a_problem(self):
        findings = list(judge_torch(torch_build(cuda=None, archs=[], cards=[]), has_driver=True))
        assert findings[-1].level is Level.PROBLEM
        assert "this is a CPU build" in findings[-1].text

    def test_a_machine_without_card_is_no_problem(self):
        findings = list(judge_torch(torch_build(cuda=None, archs=[], cards=[]), has_driver=False))
        assert {finding.level for finding in findings} == {Level.OK}

    def test_a_missing_torch_is(self):
        assert [finding.level for finding in judge_torch(None, has_driver=False)] == [Level.PROBLEM]


class TestWorker:
    def test_what_a_child_sees_is_told(self):
        answer = {"device": "RTX 5090, 31.8 GiB", "defaults": {"generate": "schnell (here)"}, "wanted": "auto"}
        findings = list(worker.judge_child(answer))
        assert {finding.level for finding in findings} == {Level.OK}
        assert "RTX 5090" in findings[0].text

    def test_a_child_that_gets_no_card_is_a_problem_in_its_own_words(self):
        answer = {"error": "RuntimeError: Cannot re-initialize CUDA in forked subprocess.", "wanted": "auto"}
        findings = list(worker.judge_child(answer))
        assert [finding.level for finding in findings] == [Level.PROBLEM]
        assert "Cannot re-initialize CUDA" in findings[0].text

    @pytest.fixture
    def settings(self, tmp_path, database):
        return HubSettings(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path / 'flux.db'}")

    @pytest.fixture
    def asked(self, monkeypatch):
        """How often a child was asked; each sees no card."""
        asked = []
        monkeypatch.setattr(worker, "_ask_child", lambda _: asked.append(1) or {"error": "no card"})
        return asked

    def test_a_worker_that_works_speaks_for_itself_and_no_other_process_takes_room_on_its_card(
        self, settings, database, asked
    ):
        workers = WorkerRepository(database)
        workers.register("wrk_1", Lane.GPU, "host", 1, WorkerState.IDLE, heartbeat_seconds=5)
        workers.publish("wrk_1", demo_report().model_dump(mode="json"))
        findings = list(worker.check(settings))
        assert [finding.level for finding in findings] == [Level.OK]
        assert demo_report().device in findings[0].text
        assert asked == []

    def test_a_worker_in_trouble_says_why_and_a_child_is_asked(self, settings, database, asked):
        WorkerRepository(database).register(
            "wrk_1", Lane.GPU, "host", 1, WorkerState.UNHEALTHY, "ImportError: libcuda", heartbeat_seconds=5
        )
        findings = list(worker.check(settings))
        assert [finding.level for finding in findings] == [Level.PROBLEM, Level.PROBLEM]
        assert "ImportError: libcuda" in findings[0].text
        assert "no card" in findings[1].text

    def test_without_a_worker_that_runs_a_child_is_asked(self, settings, asked):
        assert [finding.level for finding in worker.check(settings)] == [Level.NOTE, Level.PROBLEM]


@pytest.fixture(autouse=True)
def room(monkeypatch):
    """The disk of whoever runs the tests is not under test."""
    monkeypatch.setattr(data, "free_gigabytes", lambda _: 100.0)


class TestData:
    @pytest.fixture
    def settings(self, tmp_path, database):
        return HubSettings(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path / 'flux.db'}")

    def test_a_sound_database_is_fine(self, settings):
        assert {finding.level for finding in data.check(settings)} == {Level.OK}
        assert {finding.level for finding in data.check_invariants(settings)} == {Level.OK}

    def test_an_older_schema_is_a_problem_in_words(self, settings, database):
        with database.write() as connection:
            connection.exec_driver_sql("DELETE FROM alembic_version")
        texts = [finding.text for finding in data.check(settings) if finding.level is Level.PROBLEM]
        assert len(texts) == 1
        assert "flux-image migrate" in texts[0]

    def test_a_broken_promise_is_a_problem(self, settings, database):
        job = JobRepository(database).add(new_job(), 10)
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET status = 'succeeded', finished_at = created_at")
        problems = [finding for finding in data.check_invariants(settings) if finding.level is Level.PROBLEM]
        assert [job.id in finding.text for finding in problems] == [True]

    def test_no_database_yet_is_worth_a_note(self, tmp_path):
        findings = list(data.check(HubSettings(data_dir=tmp_path / "new")))
        assert [finding.level for finding in findings] == [Level.OK, Level.NOTE]

    def test_room_is_measured_by_the_limit_below_which_the_api_takes_no_jobs(self, settings, monkeypatch):
        monkeypatch.setenv("FLUX_MIN_FREE_BYTES", str(200 * 10**9))
        found = next(data.check(settings))
        assert found.level is Level.PROBLEM
        assert "no job is accepted below 200.0 GB (FLUX_MIN_FREE_BYTES)" in found.text


class TestBroker:
    def test_a_broker_that_may_evict_is_a_problem(self):
        with serving_broker(**{"maxmemory-policy": "allkeys-lru"}) as url:
            findings = list(broker.check(HubSettings(redis_url=url)))
        assert [finding.level for finding in findings] == [Level.OK, Level.PROBLEM]

    def test_a_broker_that_is_away_is_a_problem(self):
        findings = list(broker.check(HubSettings(redis_url="redis://127.0.0.1:1")))
        assert [finding.level for finding in findings] == [Level.PROBLEM]


def test_the_command_ends_with_the_verdict(tmp_path):
    healthy = CliRunner().invoke(app, ["doctor", "--data-dir", str(tmp_path)])
    assert healthy.exit_code == 0, healthy.output
    assert "0 problems" in healthy.output
    assert "a child of the worker runs on " in healthy.output
    (tmp_path / "flux-image.db").write_bytes(b"this is no database, but it is long enough to look like one" * 100)
    broken = CliRunner().invoke(app, ["doctor", "--data-dir", str(tmp_path)])
    assert broken.exit_code == 1
    assert "the database cannot be read" in broken.output


class TestOutside:
    def test_nothing_is_configured_by_default(self, tmp_path):
        findings = list(outside.check(HubSettings(_env_file=None, data_dir=tmp_path)))
        assert {finding.level for finding in findings} == {Level.OK}
        assert "every picture is made on this machine" in findings[0].text

    def test_it_says_what_leaves_the_house_and_whether_the_language_model_answers(self, tmp_path, monkeypatch):
        with serving_language_model() as model:
            monkeypatch.setenv("FLUX_REMOTE_SPACE", "black-forest-labs/FLUX.1-schnell")
            monkeypatch.setenv("FLUX_ENHANCER_URL", model.url)
            monkeypatch.setenv("FLUX_ENHANCER_MODEL", "nemo")
            findings = list(outside.check(HubSettings(_env_file=None, data_dir=tmp_path)))
            assert [finding.level for finding in findings] == [Level.OK, Level.NOTE, Level.OK]
            monkeypatch.setenv("FLUX_ENHANCER_MODEL", "other")
            assert "has no model other" in list(outside.check(HubSettings(_env_file=None, data_dir=tmp_path)))[-1].text

    def test_a_language_model_that_is_away_is_a_problem(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FLUX_ENHANCER_URL", f"http://127.0.0.1:{free_port()}/v1")
        findings = list(outside.check(HubSettings(_env_file=None, data_dir=tmp_path)))
        assert findings[-1].level is Level.PROBLEM
        assert "enhanced jobs go on without it" in findings[-1].text
