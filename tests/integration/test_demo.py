"""`make demo` is this command: it must leave pictures and nothing else."""

import subprocess
import sys

import psutil
from PIL import Image


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_the_demo_makes_a_picture_of_each_kind_and_stops_everything(tmp_path):
    command = [sys.executable, "-m", "cli", "demo", "--data-dir", tmp_path / "data", "--output", tmp_path / "out"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert finished.returncode == 0, finished.stderr
    for name in ("generate", "edit", "fill"):
        assert size_of(tmp_path / "out" / f"{name}.png") == (256, 256)
        assert str(tmp_path / "out" / f"{name}.png") in finished.stderr.replace("\n", "")
    assert size_of(tmp_path / "out" / "strip.png")[0] > 6 * 256
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert left == []
