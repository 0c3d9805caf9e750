"""``python -m benchmarks.gpu FOLDER``: run every part in order; parts whose result is there already are left out.

So a run that was cut off goes on where it stopped. Each part is a process of its own with a time limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.report import last_object, say

PARTS: Final = (
    "switch",
    "step_roofline",
    "fp8_step",
    "image_time",
    "fit",
    "modulation_table",
    "mixed_queue",
    "duty",
    "prompt_cache",
    "encode_overlap",
    "preview",
    "cold_start",
)
"""B3, B1 (in bfloat16, then in fp8) and whole images, B4, B14, B5, B6, then the rest: what is most in doubt first."""

_LIMIT_SECONDS: Final = 8 * 60


def main() -> int:
    """Run what is missing and sum up."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the JSON files are and go")
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    options.folder.mkdir(parents=True, exist_ok=True)
    outcomes = {part: run(part, options.folder / f"{part}.json") for part in options.parts}
    print(json.dumps(outcomes))
    return 1 if "failed" in outcomes.values() else 0


def run(part: str, result: Path) -> str:
    """Run one part, unless its result is there; return ``there``, ``measured``, ``skipped`` or ``failed``."""
    if result.exists():
        return "there"
    say(f"--- {part}")
    command = (sys.executable, "-m", f"benchmarks.gpu.{part}")
    try:
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_LIMIT_SECONDS, check=True)
        measured = last_object(ended.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        say(f"{part} failed: {error}")
        return "failed"
    if "skipped" in measured:
        say(f"{part} skipped: {measured['skipped']}")
        return "skipped"
    result.write_text(json.dumps(measured, indent=2) + "\n")
    return "measured"


if __name__ == "__main__":
    sys.exit(main())
