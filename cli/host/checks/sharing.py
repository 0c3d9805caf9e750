"""Which models of a family have the same text encoders and VAE on disk, so that one copy in memory serves them all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_PARTS: Final = ("text_encoder", "text_encoder_2", "vae")


def shared_parts(folders: Mapping[str, Path]) -> Iterator[str]:
    """Yield a sentence for each part of models in the Hugging Face cache, whose files are named by their content.

    ``folders`` are those of one family, by model. Weights only: the worker also compares what is set otherwise.
    """
    for part in _PARTS:
        models: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for model, folder in folders.items():
            if files := sorted((folder / part).glob("*.safetensors")):
                models[tuple(path.resolve().name for path in files)].append(model)
        alike = " and ".join(", ".join(names) for names in models.values())
        if len(models) == 1 and len(folders) > 1:
            yield f"{part}: one copy serves {alike}"
        elif len(models) > 1:
            yield f"{part}: {len(models)} different ones, for {alike}; each takes memory of its own"
