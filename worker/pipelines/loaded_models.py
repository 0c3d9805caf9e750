"""The models that are in host memory, each at the precisions that jobs asked for: made once, dropped for others."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterable

import structlog

from shared.domain.model import PipelineSpec
from shared.domain.precision import Precision, ResidencyKey
from shared.planner import Budget, leaving
from worker.pipelines.loader import LoadedPipeline, Loader
from worker.pipelines.planning import GPU_SPECS

Forget = Callable[[LoadedPipeline, Iterable[LoadedPipeline]], None]

log = structlog.get_logger(__name__)


class LoadedModels:
    """Loads through ``loader``; ``forget`` hears which model is dropped and which ones stay, and lets go of it."""

    def __init__(self, loader: Loader, budget: Budget, forget: Forget) -> None:
        self._loader = loader
        self._budget = budget
        self._forget = forget
        self._models: OrderedDict[ResidencyKey, LoadedPipeline] = OrderedDict()

    def __contains__(self, key: object) -> bool:
        return key in self._models

    def get(self, spec: PipelineSpec, precision: Precision) -> LoadedPipeline:
        """Return a model at a precision.

        Raises:
          ModelUnavailable: the weights are missing or cannot be read.
        """
        key = ResidencyKey(spec.model, precision)
        if key not in self._models:
            self._make_room(key)
            self._models[key] = self._loader.load(spec, precision)
        self._models.move_to_end(key)
        return self._models[key]

    def _make_room(self, coming: ResidencyKey) -> None:
        specs = {key: GPU_SPECS[key.model] for key in (*self._models, coming)}
        gone = leaving(tuple(self._models), coming, specs, self._budget)
        for key in gone:
            log.info("dropped from host memory", action="drop_model", item=str(key), coming=str(coming))
            self._forget(self._models.pop(key), self._models.values())
        if gone:
            self._loader.keep_only({digest for model in self._models.values() for digest in model.digests.values()})
            gc.collect()  # the parts of a pipeline refer to each other
