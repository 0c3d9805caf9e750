"""The OpenAI-compatible enhancer against a real server: good answers, and every way in which one is none."""

import threading
import time

import pytest

from shared.domain.params import JobKind
from shared.settings import EnhancerSettings
from tests.language_model import KEY, serving_language_model
from tests.stack import free_port
from worker.cancellation import JobInterrupted, StopReason, StopSignal
from worker.enhancers.interface import NotEnhanced
from worker.enhancers.openai_chat import OpenAIChatEnhancer

PROMPT = "a red fox"


@pytest.fixture(scope="module")
def language_model():
    with serving_language_model() as running:
        yield running


def enhance(url, model="nemo", timeout=30.0, kind=JobKind.GENERATE, words=100, look=lambda: None):
    settings = EnhancerSettings(
        _env_file=None, enhancer_url=url, enhancer_model=model, enhancer_key=KEY, enhancer_timeout_seconds=timeout
    )
    return OpenAIChatEnhancer.from_settings(settings).enhance(PROMPT, kind, words, look)


def test_a_prompt_comes_back_richer_and_says_by_whom(language_model):
    made = enhance(language_model.url)
    assert (made.by, made.prompt) == ("nemo", "a red fox, softly lit, oil on canvas")
    # And the request is the one every such server understands
    request = language_model.requests[-1]
    assert (request["path"], request["model"], request["stream"]) == ("/v1/chat/completions", "nemo", False)
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert request["messages"][1]["content"] == PROMPT
    assert "At most 100 words" in request["messages"][0]["content"]
    assert language_model.keys[-1] == f"Bearer {KEY}"


@pytest.mark.usefixtures("dead_proxies")
def test_a_language_model_on_this_machine_is_asked_without_a_proxy(language_model):
    assert enhance(language_model.url).by == "nemo"


@pytest.mark.usefixtures("dead_proxies")
def test_proxy_settings_that_make_no_sense_are_a_reason_in_words():
    with pytest.raises(NotEnhanced, match=r"cannot be asked: .*(proxy|SOCKS)"):
        enhance("https://example.org/v1")


def test_an_instruction_is_made_precise_and_not_embellished(language_model):
    enhance(language_model.url, kind=JobKind.EDIT)
    assert "Keep the meaning" in language_model.requests[-1]["messages"][0]["content"]


def test_quotes_and_line_breaks_around_a_prompt_are_taken_off(language_model):
    assert enhance(language_model.url, "quoting").prompt == "a red fox, softly lit"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("empty", "the answer is empty"),
        ("chatty", "500 words; the model reads about 100"),
        ("cut", "cut off at its length limit"),
        ("silent", "holds no text"),
        ("garbage", "control characters"),
        ("html", "no chat completion"),
        ("list", "no chat completion"),
        ("huge", "larger than 1000000 bytes"),
        ("broken", "answered with 500: .*the model crashed"),
        ("missing", "answered with 404: .*try pulling it first"),
    ],
)
def test_an_answer_that_is_none_is_told_in_words(language_model, model, words):
    with pytest.raises(NotEnhanced, match=words):
        enhance(language_model.url, model)


def test_a_server_that_is_not_there_is_told_in_words():
    with pytest.raises(NotEnhanced, match="cannot be asked"):
        enhance(f"http://127.0.0.1:{free_port()}/v1")


@pytest.mark.parametrize("model", ["asleep", "dripping"])
def test_the_deadline_is_for_the_whole_answer(language_model, model):
    # Given a server that sends nothing, or byte by byte so that no single read takes long
    with pytest.raises(NotEnhanced, match=r"no answer within 0\.5 s"):
        enhance(language_model.url, model, timeout=0.5)


def test_a_cancel_is_heard_while_the_model_thinks(language_model):
    # Given a call that is on its way to a sleeping model
    language_model.asked.clear()
    signal = StopSignal()

    def cancel():
        language_model.asked.wait(30)
        signal.stop(StopReason.USER_REQUEST)

    threading.Thread(target=cancel).start()
    started = time.monotonic()
    # When somebody cancels, then the call ends long before its deadline
    with pytest.raises(JobInterrupted):
        enhance(language_model.url, "asleep", timeout=60, look=signal.raise_if_stopped)
    assert time.monotonic() - started < 30


def test_without_an_address_there_is_no_enhancer():
    assert OpenAIChatEnhancer.from_settings(EnhancerSettings(_env_file=None)) is None
