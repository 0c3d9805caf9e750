"""``python -m benchmarks.gpu.lease RESULT.json``: the most important measurements on a card rented for minutes.

One process, at most nine minutes on an H100 or H200. Each part has a budget and is stopped at its end; the result is
written after each part, so what was measured survives whatever comes after it. ``--dry-run`` does the same with the
demo family on a CPU; ``--simulate-gib`` measures nothing and says on paper whether every part fits.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from benchmarks.gpu.preflight import missing_modules

TOTAL_SECONDS: Final = 540.0


def main() -> int:
    """Measure, or say on paper what that would take; 1 when a part failed or would not fit, 2 when it cannot start."""
    options = _parser().parse_args()
    if missing := missing_modules():
        print(f"Missing here: {', '.join(missing)}. benchmarks/README.md says how to bring them.", file=sys.stderr)
        return 2
    if options.simulate_gib is not None:
        return simulate(options)
    return lease(options.result, options.seconds, dry_run=options.dry_run)


# What follows is imported late: on a machine that lacks packages, the words about them come first.


def lease(result: Path, seconds: float, *, dry_run: bool) -> int:
    """Run every part within ``seconds``, write ``result`` after each, and return the exit code."""
    from benchmarks.gpu.lease_parts import PARTS, subject_for
    from benchmarks.gpu.lease_run import LeaseRun
    from benchmarks.report import circumstances, last_line
    from worker.pipelines.device import DeviceUnavailable

    try:
        subject = subject_for(dry_run=dry_run)
    except DeviceUnavailable as error:
        print(f"{error} --dry-run tries everything without a card.", file=sys.stderr)
        return 2
    result.parent.mkdir(parents=True, exist_ok=True)
    run = LeaseRun(subject, result, seconds, circumstances("gpu.lease", sys.argv[1:], subject.weights))
    is_good = run.run(PARTS)
    last_line(run.whole)
    return 0 if is_good else 1


def simulate(options: argparse.Namespace) -> int:
    """Print what each part takes of a machine; 1 when something would not fit."""
    from benchmarks.gpu.lease_paper import Machine, exceeded, paper

    machine = Machine(options.simulate_gib, options.host_gib, options.tflops, options.link)
    rows = paper(machine)
    print(f"{'part':16}{'card GiB':>10}{'host GiB':>10}{'seconds':>10}{'limit':>8}")
    for row in rows:
        print(f"{row.part:16}{row.card_gib:10.1f}{row.host_gib:10.1f}{row.seconds:10.0f}{row.limit_seconds:8.0f}")
    troubles = exceeded(rows, machine, options.seconds)
    for trouble in troubles:
        print(trouble)
    print(json.dumps({"machine": machine.as_json(), "parts": [row.as_json() for row in rows], "exceeded": troubles}))
    return 1 if troubles else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.lease", description=__doc__)
    parser.add_argument("result", nargs="?", type=Path, default=Path("lease.json"), help="where the result is written")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="wall time that all parts have together")
    parser.add_argument("--dry-run", action="store_true", help="the demo family on a CPU; seconds mean nothing")
    parser.add_argument("--simulate-gib", type=float, metavar="GIB", help="measure nothing: a card with so much memory")
    parser.add_argument("--host-gib", type=float, default=128.0, help="with --simulate-gib: the host's memory")
    parser.add_argument("--tflops", type=float, default=350.0, help="with --simulate-gib: what a step reaches, bf16")
    parser.add_argument("--link", type=float, default=20.0, help="with --simulate-gib: host to card, pinned, GB/s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
