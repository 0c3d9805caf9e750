"""Reaching a Space: by id through the Hub, by URL, with and without a token, in each of its states."""

from datetime import timedelta

import pytest

from shared.clock import utc_now
from shared.domain.errors import QuotaExceeded, RemoteFailed, RemoteRefused, RemoteUnavailable
from tests.space.contexts import RecordingContext
from tests.space.server import TOKEN
from worker.generators.flux_client import FluxImageGenerator
from worker.generators.flux_client.availability import AvailabilityRecord


@pytest.fixture
def by_id(spaces, monkeypatch):
    """Makes generators for Spaces of the loopback Hub."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return lambda name, token=None: FluxImageGenerator(f"owner/{name}", token, hub_endpoint=spaces.url)


class TestById:
    def test_a_running_space_is_found(self, by_id):
        generator = by_id("schnell")
        assert [endpoint.api_name for endpoint in generator.connect().endpoints] == ["/infer"]
        generator.close()
        assert generator.availability().available

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("building", "is starting"),
            ("paused", "only its owner can start it"),
            ("sleeping", "wakes up now"),
            ("busy", "too many requests"),
        ],
    )
    def test_a_space_that_is_not_ready_says_when_to_come_back(self, by_id, name, words):
        generator = by_id(name)
        with pytest.raises(RemoteUnavailable, match=words) as failure:
            generator.connect()
        assert failure.value.retryable
        assert failure.value.retry_after_seconds >= 30
        assert not generator.availability().available

    @pytest.mark.usefixtures("dead_proxies")
    def test_a_space_on_this_machine_is_called_without_a_proxy(self, spaces):
        # Given a Space by its URL, and proxies that do not exist
        generator = FluxImageGenerator(f"{spaces.url}/schnell")
        # When it makes a picture, then every request reached it
        image = generator.generate_image("a fox", width=256, height=256, seed=1, context=RecordingContext())
        generator.close()
        assert image.size == (256, 256)

    def test_a_sleeping_space_is_woken(self, by_id, spaces):
        with pytest.raises(RemoteUnavailable):
            by_id("sleeping").connect()
        assert ["wake", "/sleeping"] in spaces.log()["visits"]

    def test_a_broken_space_is_its_owners_business(self, by_id):
        with pytest.raises(RemoteRefused, match=r"RUNTIME_ERROR.*owner"):
            by_id("broken").connect()

    @pytest.mark.parametrize("name", ["missing", "private"])
    def test_a_missing_or_private_space_says_what_to_set(self, by_id, name):
        with pytest.raises(RemoteRefused, match=r"FLUX_REMOTE_SPACE.*FLUX_REMOTE_TOKEN") as refusal:
            by_id(name).connect()
        assert not refusal.value.retryable


class TestToken:
    def test_a_private_space_opens_for_its_token(self, by_id, spaces):
        generator = by_id("private", TOKEN)
        generator.generate_image("a fox", seed=1)
        generator.close()
        assert [call[0] for call in spaces.calls()] == ["private"]

    def test_the_token_is_in_no_message_and_no_repr(self, spaces):
        generator = FluxImageGenerator(f"{spaces.url}/private", "hf_wrong")
        with pytest.raises(RemoteRefused, match=r"401.*FLUX_REMOTE_TOKEN") as refusal:
            generator.connect()
        assert "hf_wrong" not in f"{refusal.value} {generator!r} {generator.availability()}"

    def test_a_token_does_not_travel_unencrypted(self):
        with pytest.raises(ValueError, match=r"unencrypted to example\.org"):
            FluxImageGenerator("http://example.org/space", "hf_x")


class TestByUrl:
    @pytest.mark.parametrize(
        ("name", "error", "words"),
        [
            ("down", RemoteUnavailable, "answers 503: it is starting"),
            ("forbidden", RemoteRefused, "answers 403"),
            ("nowhere", RemoteRefused, "answers 404"),
            ("website", RemoteRefused, "no Gradio app"),
            ("moved", RemoteRefused, "answers 301: it has moved"),
            ("ancient", RemoteRefused, r"runs Gradio 3\.30\.0, which is too old"),
        ],
    )
    def test_what_answers_is_no_usable_space(self, spaces, name, error, words):
        with pytest.raises(error, match=words):
            FluxImageGenerator(f"{spaces.url}/{name}").connect()

    def test_nothing_listens(self):
        with pytest.raises(RemoteUnavailable, match="cannot be reached"):
            FluxImageGenerator("http://127.0.0.1:1").connect()

    def test_the_deadline_holds_whatever_the_space_does(self, spaces):
        generator = FluxImageGenerator(f"{spaces.url}/silent", connect_seconds=0.5)
        with pytest.raises(RemoteUnavailable, match=r"within 0\.5 s"):
            generator.connect(RecordingContext())

    @pytest.mark.parametrize("src", ["flux", "a/b/c", "ftp://example.org", "https://", "https://me:secret@example.org"])
    def test_what_is_no_space_is_refused_at_once(self, src):
        with pytest.raises(ValueError, match=r"neither|no host|password"):
            FluxImageGenerator(src)


class TestAvailability:
    @pytest.fixture
    def clock(self):
        class Clock:
            now = utc_now()

            def __call__(self):
                return self.now

        return Clock()

    def test_a_quota_is_remembered_until_it_is_over(self, clock):
        record = AvailabilityRecord(clock)
        record.failed(QuotaExceeded("used up", retry_after_seconds=600))
        away = record.current()
        assert (away.available, away.reason, away.until) == (False, "used up", clock.now + timedelta(seconds=600))
        clock.now += timedelta(seconds=600)
        assert record.current().available

    def test_a_refusal_stays_until_the_space_answers(self, clock):
        record = AvailabilityRecord(clock)
        record.failed(RemoteRefused("private"))
        clock.now += timedelta(days=30)
        assert not record.current().available
        record.answered()
        assert record.current().available

    def test_a_failed_job_says_nothing_about_the_next(self, clock):
        record = AvailabilityRecord(clock)
        record.failed(RemoteFailed("bad prompt"))
        assert record.current().available
