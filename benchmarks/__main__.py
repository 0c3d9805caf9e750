"""``python -m benchmarks FOLDER``: run all, or those named, and write each result as a JSON file.

Exits 1 when a benchmark could not be run. A missed target is a result, not an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.figures import Figures
from benchmarks.report import last_object, say

BENCHMARKS: Final = ("footprint", "latency", "waiters", "overhead", "queue", "throughput", "rescue")


def main() -> int:
    """Run, write, and sum up."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the JSON files go")
    parser.add_argument("names", nargs="*", default=BENCHMARKS, metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    options.folder.mkdir(parents=True, exist_ok=True)
    results = {name: run(name, options.folder) for name in options.names}
    targets = [target for result in results.values() if result is not None for target in result["targets"]]
    for target in targets:
        verdict = "met" if target["met"] else "MISSED"
        say(f"{verdict:7} {target['value']:10.3f} of {target['limit']:g} {target['unit']:2}  {target['name']}")
    failed = [name for name, result in results.items() if result is None]
    print(json.dumps({"failed": failed, "targets": targets}))
    return 1 if failed else 0


def run(name: str, folder: Path) -> Figures | None:
    """Run one in a process of its own and write its result; ``None`` when it failed."""
    say(f"--- {name}")
    ended = subprocess.run((sys.executable, "-m", f"benchmarks.{name}"), stdout=subprocess.PIPE, text=True)
    try:
        if ended.returncode:
            raise ValueError(f"it ended with code {ended.returncode}")
        result = last_object(ended.stdout)
    except ValueError as error:
        say(f"{name} failed: {error}")
        return None
    path = folder / f"{datetime.now(UTC):%Y-%m-%d}-{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    say(f"wrote {path}")
    return result


if __name__ == "__main__":
    sys.exit(main())
