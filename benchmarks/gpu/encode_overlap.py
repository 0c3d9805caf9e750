"""B7: how long writing a picture takes per format, and what is left of it beside a thread that computes.

``overlap`` is the throughput of jobs whose pictures are encoded in the saver's thread, times the time the GPU's
thread needs per job: 1 means that saving costs nothing. The GPU's part is a pause of a schnell job's length.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from PIL import Image

from benchmarks.figures import Figures, Target, summary
from benchmarks.report import emit, say
from shared.domain.output_format import OutputFormat
from worker.pipelines.encode import encode
from worker.saver import Saver

SIDE = 1024
PARAMETERS = {
    "prompt": "x", "num_inference_steps": 4, "guidance_scale": 0.0, "seed": 1, "width": SIDE, "height": SIDE,
    "model": "schnell",
}  # fmt: skip


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--gpu-seconds", type=float, default=0.75, help="length of the pause")
    options = parser.parse_args()
    image = photograph()
    formats = {}
    for output_format in OutputFormat:
        times = []
        for _ in range(options.jobs):
            began = time.process_time()
            data = encode(image, PARAMETERS, output_format)
            times.append(1000 * (time.process_time() - began))
        formats[output_format.value] = {"cpu_ms": summary(times), "bytes": len(data)}
    say("inline and beside ...")
    inline = seconds_per_job(image, options.jobs, options.gpu_seconds, None)
    saver = Saver()
    beside = seconds_per_job(image, options.jobs, options.gpu_seconds, saver)
    saver.close()
    figures: Figures = {"formats": formats, "inline_seconds": round(inline, 4), "beside_seconds": round(beside, 4)}
    overlap = options.gpu_seconds / beside
    emit("gpu.encode_overlap", figures, [Target("overlap", overlap, 0.98, "", at_least=True)], "none: a pause")


def seconds_per_job(image: Image.Image, jobs: int, gpu_seconds: float, saver: Saver | None) -> float:
    """Return the GPU thread's time per job."""
    began = time.perf_counter()
    for _ in range(jobs):
        time.sleep(gpu_seconds)
        if saver is None:
            encode(image, PARAMETERS, OutputFormat.PNG)
        else:
            saver.start(encode, image, PARAMETERS, OutputFormat.PNG)
    return (time.perf_counter() - began) / jobs


def photograph() -> Image.Image:
    """Return a picture as hard to compress as a photograph: smooth noise of several sizes, and grain."""
    random = np.random.default_rng(0)
    pixels = random.normal(0, 1, (SIDE, SIDE, 3))
    for cells, weight in ((4, 40), (16, 60), (64, 80), (256, 60)):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) * (weight / 240)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
