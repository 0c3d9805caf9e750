"""How a picture was made, in the text that AUTOMATIC1111's web UI writes and other programs read.

Form: the prompt; a line ``Negative prompt: ...`` where there is one; a last line of ``Name: value`` pairs with commas
between them, a value in JSON's quotes where it holds a comma, colon or line break (``infotext_utils.py`` of that
program: the last line is the settings if it holds three pairs or more).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_FIELDS: Final[Mapping[str, str]] = {
    "Steps": "num_inference_steps",
    "Sampler": "sampler",
    "Scheduler": "scheduler",
    "CFG scale": "guidance_scale",
    "Seed": "seed",
    "Size": "size",
    "Model": "model",
    "Model revision": "model_revision",
    "Denoising strength": "strength",
    "Precision": "precision",
    "Accelerations": "accelerations",
    "Step cache threshold": "step_cache_threshold",
    "IP-Adapter": "ip_adapter",
    "IP-Adapter scale": "ip_adapter_scale",
    "Generator": "generator",
    "Space": "space",
    "Enhanced by": "enhanced_by",
    "Original prompt": "original_prompt",
}
"""The text's names (those of that program where it has one) and a record's; "size" is made of width and height."""

_NAMES_IN_WORDS: Final = re.compile(rf"\b(Negative prompt|{'|'.join(map(re.escape, _FIELDS))}):", re.IGNORECASE)
_LINE_BREAKS: Final = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_QUOTED: Final = (",", ":", "\n", '"')


def infotext(record: Mapping[str, Any]) -> str:
    """Return the text for a record of how a picture was made; what the record does not hold is left out.

    Words of a user cannot pass for settings: where they hold a field's name, a space goes before its colon.
    """
    lines = [_words(record["prompt"])]
    if negative := record.get("negative_prompt"):
        lines.append(f"Negative prompt: {_words(negative)}")
    lines.append(", ".join(f"{name}: {_value(value)}" for name, value in _settings(record)))
    return "\n".join(lines)


def _settings(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    values = {**record, "size": f"{record['width']}x{record['height']}"}
    for name, key in _FIELDS.items():
        value = values.get(key)
        if value not in (None, "", []):
            yield name, value


def _value(value: Any) -> str:
    text = _words(" + ".join(value) if isinstance(value, list) else str(value))
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in _QUOTED) else text


def _words(text: str) -> str:
    return _NAMES_IN_WORDS.sub(r"\1 :", _LINE_BREAKS.sub("\n", text))
