"""The host's memory as a card of a few megabytes, where an absent weight is empty: computing with one fails."""

import dataclasses

import torch
from PIL import Image

from shared.catalog import CATALOG
from shared.planner import Shape
from shared.planner.sizes import decoding_bytes, denoising_bytes, encode_bytes
from worker.pipelines.device import pick_device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

SIDE = 64
FAST = {"width": SIDE, "height": SIDE, "num_inference_steps": 2, "seed": 7}
MASK = Image.new("L", (SIDE, SIDE), 255)
RED = Image.new("RGB", (SIDE, SIDE), "red")
OPTIONS = {
    "demo": {**FAST},
    "demo-kontext": {**FAST, "image": RED},
    "demo-fill": {**FAST, "image": RED, "mask": MASK},
}
SHAPE = Shape(SIDE * SIDE, SIDE * SIDE)
WORKING = max(
    encode_bytes(24),
    denoising_bytes(SIDE * SIDE, 24, attended_pixels=SIDE * SIDE, source_pixels=SIDE * SIDE),
    decoding_bytes(SIDE * SIDE),
)


def card(weights_bytes, working=WORKING, dtype=torch.bfloat16, kind="cpu"):
    """A device of the size that leaves ``weights_bytes`` for weights; 16 bits per weight, as on a card."""
    usable = weights_bytes + working
    total = round((usable + 2**29) / 0.98) + 1
    return dataclasses.replace(pick_device(kind), dtype=dtype, total_bytes=total, description="a small card")


def store_on(device):
    return PipelineStore(Weights(), device, cpu_offload="off")


def shared_bytes():
    sizes = dict(CATALOG["demo"].component_bytes)
    sizes.pop("transformer")
    return sum(sizes.values())


TRANSFORMER = CATALOG["demo-fill"].component_bytes["transformer"]
ROOM_FOR_ONE = shared_bytes() + TRANSFORMER + 100_000
ROOM_FOR_ALL = shared_bytes() + 3 * TRANSFORMER + 100_000
