"""GPU, driver and torch build. torch is asked in a process of its own: the command line must not load it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from cli.host.checks.finding import Finding, note, ok, problem
from shared.host_memory import is_wsl, pinning_limit
from shared.settings import HubSettings

_ASK_TORCH: Final = """
import json, torch
cards = [
    {"name": card.name, "bytes": card.total_memory, "arch": f"sm_{card.major}{card.minor}"}
    for card in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
]
build = {"version": torch.__version__, "cuda": torch.version.cuda, "archs": torch.cuda.get_arch_list()}
print(json.dumps({**build, "cards": cards}))
"""
_TIMEOUT_SECONDS: Final = 120


def check(_settings: HubSettings) -> Iterator[Finding]:
    """Yield what was found about the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield ok(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, {memory:.0f} GiB RAM")
    if is_wsl():
        yield note(pinning_limit(in_wsl=True))
    driver = _driver()
    yield (
        ok(f"NVIDIA driver {driver}")
        if driver
        else note("no NVIDIA driver (nvidia-smi): only the demo model runs here")
    )
    yield from judge_torch(_ask_torch(), has_driver=driver is not None)


def judge_torch(torch: dict[str, Any] | None, *, has_driver: bool) -> Iterator[Finding]:
    """Yield what torch's own words about itself mean for running FLUX."""
    if torch is None:
        yield problem("torch cannot be imported; run `make setup`, or install the `worker` extra")
        return
    build = f"CUDA {torch['cuda']}" if torch["cuda"] else "CPU build"
    yield ok(f"torch {torch['version']}, {build}")
    if has_driver and not torch["cards"]:
        yield problem(
            "there is an NVIDIA driver, but torch sees no card: install a CUDA build of torch "
            f"that this driver supports (this is a {build})"
        )
    for card in torch["cards"]:
        size = f"{card['name']}, {card['bytes'] / 2**30:.1f} GiB"
        if card["arch"] in torch["archs"] or any(arch.startswith("compute_") for arch in torch["archs"]):
            yield ok(f"{size}, {card['arch']}")
        else:
            yield problem(f"{size}: this torch has no code for {card['arch']} ({', '.join(torch['archs'])})")


def _driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError):
        return None
    return answer.stdout.splitlines()[0] if answer.stdout else None


def _ask_torch() -> dict[str, Any] | None:
    try:
        command = [sys.executable, "-P", "-c", _ASK_TORCH]  # -P: a torch.py of the caller's folder is none
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True)
        return dict(json.loads(answer.stdout.splitlines()[-1]))
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return None
