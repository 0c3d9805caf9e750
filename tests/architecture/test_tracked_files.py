"""The repository stays small: what is large is either the demo checkpoint or a picture in the docs."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 512 * 1024
ALLOWED = ("worker/demo/checkpoint/", "docs/images/")


def tracked_files():
    listed = subprocess.run(("git", "-C", str(ROOT), "ls-files", "-z"), capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_large_file_is_tracked():
    large = {name for name in tracked_files() if (ROOT / name).stat().st_size > MOST_BYTES}
    assert {name for name in large if not name.startswith(ALLOWED)} == set()
    assert any(name.startswith(ALLOWED) for name in large)  # the check sees sizes


def test_no_package_is_tracked():
    assert [name for name in tracked_files() if name.endswith((".whl", ".tar.gz", ".pyc"))] == []
