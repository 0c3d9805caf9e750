"""Stock diffusers in a process of its own: ``python -m tests.real_layout.stock FOLDER``.

Each job's pipeline as `from_pretrained` makes it of the weights in ``HF_HOME``, in bfloat16 as on a card, called with
what the job asks for. The latents of every step go to FOLDER.
"""

import sys
from pathlib import Path

import torch
from diffusers import FluxKontextPipeline, FluxPipeline
from huggingface_hub import snapshot_download
from PIL import Image

from shared.catalog import CATALOG
from tests.real_layout.jobs import JOBS, SEED, SIDE, SOURCE, STEPS, PaintJob
from tests.real_layout.steps import record_steps


def paint(job: PaintJob) -> None:
    spec = CATALOG[job.model]
    folder = snapshot_download(spec.repo_id, local_files_only=True)
    stock, source = FluxPipeline, {}
    if job.is_edit:
        stock = FluxKontextPipeline
        source = {"image": Image.open(SOURCE).convert("RGB"), "max_area": SIDE * SIDE, "_auto_resize": False}
    pipeline = stock.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)
    pipeline(
        prompt=job.prompt,
        width=SIDE,
        height=SIDE,
        num_inference_steps=STEPS,
        guidance_scale=job.guidance_scale,
        max_sequence_length=spec.max_sequence_length,
        generator=torch.Generator("cpu").manual_seed(SEED),
        output_type="latent",
        **source,
    )


if __name__ == "__main__":
    record_steps(Path(sys.argv[1]))
    for job in JOBS:
        paint(job)
