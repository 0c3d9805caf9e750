"""`flux-image demo`: the whole stack, one picture of each kind, and a strip that shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.client import FluxImageClient, FluxImageError, JobNotSucceeded
from cli.host.data_dir_lock import DataDirInUse
from cli.host.migrate import EXIT_DATABASE
from cli.host.stack import PortInUse
from cli.host.terminal import plain
from cli.host.up import EXIT_IN_USE, running_stack, wait_until_ready
from shared.db.migrate import DatabaseUnusable
from shared.image_grid import image_grid
from shared.schemas.jobs import JobRead
from shared.settings import HostSettings

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples" / "images"
_IMAGE: Final = EXAMPLES / "red-circle.png"
_MASK: Final = EXAMPLES / "mask.png"
_PROMPTS: Final = {
    "generate": "a large red circle in the center on a blue background",
    "edit": "make it green",
    "fill": "a large yellow square in the center on a blue background",
}


@dataclass(frozen=True, slots=True)
class Result:
    """A finished demo job and its picture."""

    job: JobRead
    image: Image.Image
    path: Path


def run_demo(settings: HostSettings, output: Path) -> int:
    """Show every kind of job once; return the exit code: 0 when all pictures were made."""
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(plain(line), soft_wrap=True)

    output.mkdir(parents=True, exist_ok=True)  # before the work, so that nothing is made in vain
    try:
        with running_stack(settings, flower=True, say=say) as (stack, supervisor):
            with console.status("starting the stack ...") as status:
                if not wait_until_ready(stack, supervisor, lambda line: status.update(plain(line)), say):
                    return 1
            with FluxImageClient(stack.api_url) as client:
                results = _run_jobs(client, output, console)
            _report(results, output, say)
            say("stopping the stack ...")
    except (DataDirInUse, PortInUse) as error:
        print(error, file=sys.stderr)
        return EXIT_IN_USE
    except DatabaseUnusable as error:
        print(error, file=sys.stderr)
        return EXIT_DATABASE
    except (FluxImageError, JobNotSucceeded) as error:
        say(f"The demo failed: {error} (logs: {settings.data_dir / 'logs'})")
        return 1
    return 0


def _run_jobs(client: FluxImageClient, output: Path, console: Console) -> dict[str, Result]:
    jobs = {
        "generate": client.generate(_PROMPTS["generate"], seed=1),
        "edit": client.edit(_IMAGE, _PROMPTS["edit"], seed=1),
        "fill": client.fill(_IMAGE, _MASK, _PROMPTS["fill"], seed=1),
    }
    columns = (TextColumn("{task.description:<9}"), BarColumn(), TextColumn("{task.fields[state]:<12}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        tasks = {kind: bars.add_task(kind, total=1.0, state="queued") for kind in jobs}
        results = {}
        for kind, job in jobs.items():

            def show(seen: JobRead, task=tasks[kind]) -> None:  # type: ignore[no-untyped-def]  # rich's TaskID
                bars.update(task, completed=seen.progress.value, state=seen.phase or seen.status)

            finished = client.wait(job.id, on_update=show)
            path = client.save(finished.images[0], output / f"{kind}.png")
            results[kind] = Result(finished, _open(path), path)
    return results


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _report(results: dict[str, Result], output: Path, say: Callable[[str], None]) -> None:
    for kind, result in results.items():
        timings = result.job.timings
        say(
            f"{kind:<9} {result.path}  {result.job.model}, waited {timings.queue_wait_seconds or 0:.2f} s, "
            f"loaded {timings.load_seconds or 0:.2f} s, ran {timings.run_seconds or 0:.2f} s"
        )
        for warning in result.job.warnings:
            say(f"          note: {warning}")
    strip = output / "strip.png"
    before, mask = _open(_IMAGE), _open(_MASK)
    image_grid(
        [results["generate"].image, before, results["edit"].image, before, mask, results["fill"].image],
        rows=1,
        cols=6,
        captions=[_PROMPTS["generate"], "before", _PROMPTS["edit"], "before", "mask", _PROMPTS["fill"]],
    ).save(strip)
    say(f"strip     {strip}")
