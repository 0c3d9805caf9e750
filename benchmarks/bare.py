"""The yardstick of ``overhead``: a loop that calls diffusers and saves PNG files, and nothing else.

``python -m benchmarks.bare MODELS_DIR OUT_DIR`` loads the demo model as the worker does, then answers each line of
stdin, ``{"params": {...}, "seeds": [...]}``, with the seconds it took to make those pictures.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline

from shared.catalog import find_model
from worker.pipelines.weights import Weights


def main() -> None:
    """Load, say so, and serve stdin until it ends."""
    out_dir = Path(sys.argv[1])
    spec = find_model("demo")
    pipeline = FluxPipeline.from_pretrained(
        Weights().folder(spec), dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    _answer({"threads": torch.get_num_threads()})
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        for seed in asked["seeds"]:
            image = pipeline(
                **asked["params"],
                generator=torch.Generator("cpu").manual_seed(seed),
                max_sequence_length=spec.max_sequence_length,
            ).images[0]
            image.save(out_dir / f"{seed}.png")
        _answer({"seconds": time.perf_counter() - began})


def _answer(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
