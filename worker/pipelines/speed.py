"""How FLUX transformers run on this device: compiled or not, and with which attention. Chosen once per process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

from shared.domain.acceleration import REGIONAL_COMPILE, Acceleration
from shared.domain.report import ChoiceReport, LinkReport, SpeedReport
from shared.settings import WorkerSettings
from worker.pipelines.attention import NATIVE, choose_attention
from worker.pipelines.compiling import CompiledBlocks
from worker.pipelines.device import Device

_PLAIN: Final = SpeedReport(
    compile=ChoiceReport(value="off", reason="not asked for"),
    attention=ChoiceReport(value=NATIVE, reason="not asked for"),
)


class Speed:
    """The choices, carried out on each transformer, and what a job used of them."""

    def __init__(self, report: SpeedReport = _PLAIN, backend: str = "inductor") -> None:
        self.report = report
        self._backend = backend
        self._prepared: WeakKeyDictionary[Any, CompiledBlocks | None] = WeakKeyDictionary()
        self._calls_before = 0

    @classmethod
    def choose(
        cls,
        settings: WorkerSettings,
        device: Device,
        balanced: ChoiceReport | None = None,
        link: LinkReport | None = None,
    ) -> Self:
        """Return what the settings ask for, or what is best here, each with its reason.

        ``balanced`` and ``link`` are reported beside it; see ``choose_balanced`` and ``choose_link``.

        Raises:
          DeviceUnavailable, RequestError: see ``choose_attention``.
        """
        return cls(
            SpeedReport(
                compile=choose_compile(settings.compile, device),
                attention=choose_attention(settings.attention, device),
                balanced=balanced,
                link=link,
            )
        )

    @property
    def compiles(self) -> bool:
        """Whether blocks are compiled when they are called first."""
        return self.report.compile.value == "on"

    def prepare(self, transformer: Any) -> None:
        """Bring a loaded FLUX transformer into this form."""
        if self.report.attention.value != NATIVE:
            transformer.set_attention_backend(self.report.attention.value)
        self._prepared[transformer] = CompiledBlocks(transformer, self._backend) if self.compiles else None

    def begin_job(self, transformer: Any) -> None:
        """Count from here what a job uses."""
        blocks = self._prepared.get(transformer)
        self._calls_before = blocks.calls if blocks else 0

    def used(self, transformer: Any) -> tuple[Acceleration, ...]:
        """Return what the job has used so far; nothing on a network that is not prepared."""
        if transformer not in self._prepared:
            return ()
        blocks, attention = self._prepared[transformer], self.report.attention.value
        compiled = blocks is not None and blocks.calls > self._calls_before
        return (
            *((REGIONAL_COMPILE,) if compiled else ()),
            *((Acceleration(f"attention:{attention}", lossless=False),) if attention != NATIVE else ()),
        )

    def warning(self, transformer: Any) -> str | None:
        """Return what the job's owner should know."""
        blocks = self._prepared.get(transformer)
        if blocks is None or blocks.trouble is None:
            return None
        return (
            f"the model ran uncompiled, since compiling it failed ({blocks.trouble}); "
            "the worker's log has the whole error, FLUX_COMPILE=off ends the tries"
        )


def choose_compile(wanted: str, device: Device) -> ChoiceReport:
    """Return ``on`` or ``off``, and why."""
    if wanted == "off":
        return ChoiceReport(value="off", reason="FLUX_COMPILE is set")
    if wanted == "auto" and not device.is_cuda:
        return ChoiceReport(value="off", reason="on a CPU it takes longer than it saves")
    if missing := _missing_tool(device):
        asked = "FLUX_COMPILE=on is not possible: " if wanted == "on" else ""
        return ChoiceReport(value="off", reason=f"{asked}{missing} is missing on this machine")
    return ChoiceReport(
        value="on", reason="FLUX_COMPILE is set" if wanted == "on" else "a card and a compiler are here"
    )


def keep_compiled_code(folder: Path) -> None:
    """Let code that was compiled once be found there after a restart, unless the environment names another place."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def _missing_tool(device: Device) -> str | None:
    """Return what torch's compiler needs on this device and does not find."""
    variable, compilers = ("CC", ("gcc", "clang")) if device.is_cuda else ("CXX", ("g++",))
    if device.is_cuda and importlib.util.find_spec("triton") is None:
        return "Triton"
    if not any(shutil.which(name) for name in (os.environ.get(variable) or compilers[0], *compilers)):
        return f"a compiler ({' or '.join(compilers)})"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's header files (Python.h)"
    return None
