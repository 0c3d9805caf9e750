"""Any server with OpenAI's ``POST /chat/completions``: Ollama, vLLM, llama.cpp, or a hosted one.

Request and answer: https://platform.openai.com/docs/api-reference/chat/create (``choices[0].message.content`` and
``finish_reason``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import httpx2

from shared.domain.addresses import is_own_url
from shared.domain.params import MAX_PROMPT_CHARACTERS, JobKind
from shared.domain.route import Enhancement
from shared.secrets import public_url
from shared.settings import EnhancerSettings
from worker.enhancers.instructions import instruction
from worker.enhancers.interface import EnhancerInterface, NotEnhanced

_LOOK_SECONDS: Final = 0.2
_MOST_BYTES: Final = 1_000_000
_TOKENS_PER_WORD: Final = 2
_QUOTES: Final = {'"': '"', "'": "'", "“": "”", "«": "»"}


class OpenAIChatEnhancer(EnhancerInterface):
    """One call per prompt, under one deadline; nothing is kept between two calls."""

    def __init__(self, url: str, model: str, key: str | None, timeout_seconds: float) -> None:
        self._url = url
        self._shown = public_url(url)
        self._model = model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout_seconds = timeout_seconds

    @classmethod
    def from_settings(cls, settings: EnhancerSettings) -> OpenAIChatEnhancer | None:
        """Return the configured enhancer, or ``None`` when there is none."""
        if settings.enhancer_url is None:
            return None
        key = settings.enhancer_key.get_secret_value() if settings.enhancer_key else None
        return cls(settings.enhancer_url, settings.enhancer_model, key, settings.enhancer_timeout_seconds)

    def enhance(
        self, prompt: str, kind: JobKind, max_words: int, raise_if_cancelled: Callable[[], None]
    ) -> Enhancement:
        """Return the enhanced prompt; see ``EnhancerInterface.enhance``."""
        request = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": instruction(kind, max_words)},
                {"role": "user", "content": prompt},
            ],
            "max_tokens": max_words * _TOKENS_PER_WORD,
            "temperature": 0.7,
            "stream": False,
        }
        answer = asyncio.run(self._ask(request, raise_if_cancelled))
        return Enhancement(by=self._model, prompt=_checked(_text_of(answer), max_words))

    async def _ask(self, request: dict[str, Any], raise_if_cancelled: Callable[[], None]) -> bytes:
        """Return the body of the answer; the deadline is for all of it, since a slow server may send byte by byte."""
        call = asyncio.create_task(self._post(request))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while not (await asyncio.wait({call}, timeout=_LOOK_SECONDS))[0]:
                    raise_if_cancelled()
                return call.result()
        except TimeoutError:
            raise NotEnhanced(f"{self._shown} gave no answer within {self._timeout_seconds:g} s") from None
        except (httpx2.HTTPError, ImportError, ValueError) as error:  # the last two: proxy settings that make no sense
            raise NotEnhanced(f"{self._shown} cannot be asked: {error or type(error).__name__}") from error
        finally:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    async def _post(self, request: dict[str, Any]) -> bytes:
        body = bytearray()
        async with (
            httpx2.AsyncClient(
                timeout=self._timeout_seconds, headers=self._headers, trust_env=not is_own_url(self._url)
            ) as client,
            client.stream("POST", f"{self._url}/chat/completions", json=request) as answer,
        ):
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise NotEnhanced(f"the answer is larger than {_MOST_BYTES} bytes")
        if answer.is_error:
            detail = body[:200].decode(errors="replace")
            raise NotEnhanced(f"{self._shown} answered with {answer.status_code}: {detail}")
        return bytes(body)


def _text_of(body: bytes) -> str:
    try:
        choice = json.loads(body)["choices"][0]
        text, finish_reason = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise NotEnhanced("the answer is no chat completion") from error
    if not isinstance(text, str):
        raise NotEnhanced("the answer holds no text")
    if finish_reason == "length":
        raise NotEnhanced("the answer was cut off at its length limit")
    return text


def _checked(text: str, max_words: int) -> str:
    """Return the prompt in an answer, in one line and without the quotes that models like to put around it.

    Raises:
      NotEnhanced: it is empty, too long, or no text.
    """
    words = text.split()
    line = " ".join(words)
    if len(line) > 1 and _QUOTES.get(line[0]) == line[-1]:
        line = line[1:-1].strip()
    if not line:
        raise NotEnhanced("the answer is empty")
    if len(words) > max_words or len(line) > MAX_PROMPT_CHARACTERS:
        raise NotEnhanced(f"the answer has {len(words)} words; the model reads about {max_words}")
    if not line.isprintable():
        raise NotEnhanced("the answer holds control characters")
    return line
