"""torch's allocator gets segments that grow, unless the owner set it up under either of its names."""

import subprocess
import sys

import pytest

from worker.allocator_settings import prefer_expandable_segments


def test_where_nobody_set_it_up_segments_grow():
    environment = {}
    prefer_expandable_segments(environment)
    assert environment == {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_what_the_owner_set_stays(name):
    environment = {name: "max_split_size_mb:128"}
    prefer_expandable_segments(environment)
    assert environment == {name: "max_split_size_mb:128"}


def test_the_worker_does_it_before_it_imports_torch():
    code = (
        "import builtins, os, sys\n"
        "real = builtins.__import__\n"
        "def watch(name, *rest, **options):\n"
        "    if name == 'torch':\n"
        "        sys.exit(0 if 'PYTORCH_CUDA_ALLOC_CONF' in os.environ else 7)\n"
        "    return real(name, *rest, **options)\n"
        "from worker.build import make_local_generator\n"
        "builtins.__import__ = watch\n"
        "make_local_generator()\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60).returncode == 0
