"""The process's one store, and its pipelines by the names the rest of the world knows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import cast

from diffusers import FluxKontextPipeline, FluxPipeline

from shared.catalog import find_model
from shared.domain.params import JobKind
from shared.settings import WorkerSettings
from worker.pipelines.device import free_cached_memory, pick_device
from worker.pipelines.fp8_trial import choose_balanced
from worker.pipelines.link import choose_link
from worker.pipelines.planning import precision_report
from worker.pipelines.selection import default_models
from worker.pipelines.speed import Speed, keep_compiled_code
from worker.pipelines.store import PipelineStore
from worker.pipelines.weight_formats import FP8_ROWWISE
from worker.pipelines.weights import Weights


@lru_cache(maxsize=1)
def pipeline_store() -> PipelineStore:
    """Return this process's store, made from the environment's settings at the first call."""
    settings = WorkerSettings()
    return make_store(settings)


def make_store(settings: WorkerSettings) -> PipelineStore:
    """Return an empty store for these settings.

    Raises:
      DeviceUnavailable: the device or the attention backend that they demand is not to be had.
      DeviceLost: something that was tried at start cost this process its device.
    """
    keep_compiled_code(settings.compiled_code_dir)
    found = pick_device(settings.device)
    balanced, link = choose_balanced(found), choose_link(settings.link_gb_per_second, found)
    speed = Speed.choose(settings, found, balanced, link)
    device = replace(found, has_fp8=balanced.value == FP8_ROWWISE.name, link_gb_per_second=link.gb_per_second)
    free_cached_memory(device)
    return PipelineStore(
        Weights(),
        device,
        cpu_offload=settings.cpu_offload,
        prompt_cache_bytes=settings.prompt_cache_bytes,
        latent_rgb_folder=settings.data_dir / "latent_rgb",
        speed=speed,
    )


def get_text_pipeline() -> FluxPipeline:
    """Return the resident text-to-image pipeline of the default model, loading it at the first call.

    Raises:
      ModelUnavailable: its weights are missing or unreadable.
    """
    return cast(FluxPipeline, _default_pipeline(JobKind.GENERATE))


def get_kontext_pipeline() -> FluxKontextPipeline:
    """Return the resident editing pipeline of the default model, loading it at the first call.

    Raises:
      ModelUnavailable: its weights are missing or unreadable.
    """
    return cast(FluxKontextPipeline, _default_pipeline(JobKind.EDIT))


def _default_pipeline(kind: JobKind) -> object:
    store, settings = pipeline_store(), WorkerSettings()
    spec = find_model(default_models(settings, store.device, store.weights)[kind].model)
    return store.get(spec, precision_report(spec, store.device, settings, store.budget).default)
