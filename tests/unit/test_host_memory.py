"""What is free here: the kernel's figure, and the limits of control groups of both versions."""

import pytest

from shared.host_memory import available_bytes, pinning_limit

GIB = 2**30
MEMINFO = "MemTotal:       65536000 kB\nMemFree:         1000000 kB\nMemAvailable:   41943040 kB\n"
AVAILABLE = 40 * GIB


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    return tmp_path


def group(root, path, line=None, **files):
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{value}\n")
    if line is not None:
        (root / "proc/self/cgroup").write_text(line)


def test_without_groups_it_is_what_the_kernel_calls_available(root):
    assert available_bytes(root) == AVAILABLE


def test_a_group_leaves_its_limit_less_its_use_and_old_pages_of_files_may_go(root):
    stat = f"anon 1\ninactive_file {2 * GIB}\nactive_file 5"
    group(root, "a/b", "0::/a/b\n", memory_max=16 * GIB, memory_current=10 * GIB, memory_stat=stat)
    assert available_bytes(root) == 8 * GIB


def test_the_tightest_of_the_groups_around_counts(root):
    group(root, "a", memory_max=6 * GIB, memory_current=GIB, memory_stat="inactive_file 0")
    group(root, "a/b", "0::/a/b\n", memory_max="max", memory_current=GIB, memory_stat="inactive_file 0")
    assert available_bytes(root) == 5 * GIB


def test_in_a_container_the_group_s_own_files_are_at_the_top(root):
    group(root, "", "0::/docker/of-the-host\n", memory_max=4 * GIB, memory_current=0, memory_stat="inactive_file 0")
    assert available_bytes(root) == 4 * GIB


def test_the_first_version_of_groups_says_it_in_other_words(root):
    folder = root / "sys/fs/cgroup/memory/docker/x"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{12 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{3 * GIB}\n")
    (folder / "memory.stat").write_text(f"cache 9\ntotal_inactive_file {GIB}\n")
    (root / "proc/self/cgroup").write_text("5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n")
    assert available_bytes(root) == 10 * GIB


def test_a_group_that_is_used_up_leaves_nothing(root):
    group(root, "a", "0::/a\n", memory_max=GIB, memory_current=2 * GIB, memory_stat="inactive_file 0")
    assert available_bytes(root) == 0


def test_this_machine_has_an_answer():
    assert available_bytes() > 0


def test_what_limits_pinning_is_said_for_wsl_and_for_others():
    assert pinning_limit(in_wsl=True).startswith("WSL2 limits pinned memory")
    assert pinning_limit(in_wsl=False).startswith("Something limits pinned memory")
