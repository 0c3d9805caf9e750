"""``python -m benchmarks.gpu.pack FOLDER``: collect the wheels that a rented machine lacks, within 64 MiB.

Such a machine comes with torch and transformers, often without a network. Only what ``preflight`` names is fetched,
at the tested versions and without what it asks for in turn: a second torch would not fit. bitsandbytes stays out (its
wheel is larger than all others together): no part of the lease uses 4-bit weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.gpu.preflight import BROUGHT

MOST_BYTES: Final = 64 * 2**20
_CONSTRAINTS: Final = Path(__file__).parents[2] / "constraints.txt"


def main() -> int:
    """Fetch, say how much it is, and how it is used; 1 when it is too much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.pack", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the wheels go; emptied of other wheels first")
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", metavar="VERSION")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for old in options.folder.glob("*.whl"):
        old.unlink()
    subprocess.run(command(options.folder, options.python), check=True)
    size = sum(wheel.stat().st_size for wheel in options.folder.glob("*.whl"))
    print(
        f"{size / 2**20:.1f} MiB of at most {MOST_BYTES / 2**20:.0f}. On the rented machine, in the project's folder:"
    )
    print(f"  python -m pip install --no-index --no-deps {options.folder}/*.whl")
    print("  python -m benchmarks.gpu.lease RESULT.json")
    return 0 if size <= MOST_BYTES else 1


def command(folder: Path, python: str) -> list[str]:
    """Return pip's call that fetches the wheels for a version of Python on Linux x86-64."""
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary", ":all:", "--python-version", python, "--implementation", "cp"),
        *(flag for tag in _PLATFORMS for flag in ("--platform", tag)),
        *("--constraint", str(_CONSTRAINTS), "--dest", str(folder), *BROUGHT.values()),
    ]


_PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64",
                     "manylinux1_x86_64", "any")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
