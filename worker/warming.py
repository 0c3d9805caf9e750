"""Loads the default models ahead of their jobs: one before the worker is ready, the others while no job waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from shared.channel.progress import ProgressChannel
from shared.domain.errors import DeviceLost, ServiceError
from shared.domain.params import JobKind
from shared.domain.report import LoadingReport, WorkerReport
from worker.generators.interface import ImageGeneratorInterface

log = structlog.get_logger(__name__)

_WARMED: Final = (JobKind.GENERATE, JobKind.EDIT)
"""In this order: the worker is ready as soon as it has the first."""


class GivesWay(Exception):
    """Loading stops here, because something else comes first; what was read stays in the page cache."""


class Warming:
    """The models that are still to be loaded, and the listener to how far each is read.

    ``on_doubt`` hears of an error after which nobody knows whether the device still works.
    """

    def __init__(
        self,
        generator: ImageGeneratorInterface,
        report: WorkerReport,
        channel: ProgressChannel,
        on_doubt: Callable[[], None],
    ) -> None:
        self._generator = generator
        self._report = report
        self._channel = channel
        self._on_doubt = on_doubt
        self._left = list(dict.fromkeys(report.defaults[kind].model for kind in _WARMED))
        self._must_stop: Callable[[], bool] = _never
        generator.tell_loading(self._heard)

    @property
    def is_left(self) -> bool:
        """Whether a model is still to be loaded."""
        return bool(self._left)

    def load_next(self, must_stop: Callable[[], bool]) -> str:
        """Load one model and return a line about it, also when that fails: jobs for it will say why.

        ``must_stop`` is asked while the weights are read; when it says so, the model's turn comes again.
        """
        model = self._left[0]
        self._must_stop = must_stop
        try:
            self._generator.warm(model, self._report.precision_of(model))
        except GivesWay:
            return f"stopped loading {model}: something else comes first"
        except Exception as error:  # whatever it is, jobs for other models may work
            log.exception("cannot load a default model ahead", action="warm_failed", model=model)
            if not isinstance(error, ServiceError) or isinstance(error, DeviceLost):
                self._on_doubt()
            self._left.remove(model)
            return f"cannot load {model}: {error}"
        finally:
            self._must_stop = _never
        self._left.remove(model)
        return f"loaded {model}"

    def _heard(self, report: LoadingReport) -> None:
        """Pass on how far a model is read, for a job or ahead of one."""
        self._channel.report_loading(report)
        if self._must_stop():
            raise GivesWay


def _never() -> bool:
    return False
