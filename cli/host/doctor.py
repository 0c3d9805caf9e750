"""`flux-image doctor [--audit]`: what this machine can do, what is missing, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.markup import escape

from cli.host.checks import broker, data, hub, machine, outside, worker
from cli.host.checks.finding import Finding, Level
from cli.host.terminal import visible
from shared.settings import HubSettings

_MARKS: Final = {
    Level.OK: "[green]ok     [/]",
    Level.NOTE: "[yellow]note   [/]",
    Level.PROBLEM: "[red]problem[/]",
}


@dataclass(frozen=True, slots=True)
class Group:
    """Checks that belong together."""

    title: str
    run: Callable[[HubSettings], Iterator[Finding]]


_GROUPS: Final = (
    Group("machine", machine.check),
    Group("worker", worker.check),
    Group("weights", hub.check),
    Group("data", data.check),
    Group("broker", broker.check),
    Group("outside", outside.check),
)


def run_doctor(settings: HubSettings, *, with_audit: bool) -> int:
    """Print every finding; return 0 when there is no problem, else 1."""
    console = Console()
    groups = (*_GROUPS, Group("audit", data.check_invariants)) if with_audit else _GROUPS
    problems = 0
    for group in groups:
        console.print(f"[bold]{group.title}[/]")
        for finding in group.run(settings):
            problems += finding.level is Level.PROBLEM
            console.print(
                f"  {_MARKS[finding.level]}  {escape(visible(finding.text))}", soft_wrap=True, highlight=False
            )
    console.print(f"{problems} problem{'' if problems == 1 else 's'}", highlight=False)
    return 1 if problems else 0
