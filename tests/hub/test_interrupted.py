"""A download that is cut, killed or left to stand goes on where it stopped: no byte on the disk is asked for again."""

import signal

from shared.catalog import CATALOG
from tests.hub.repositories import LARGE, SCHNELL, needed
from tests.hub.server import Fault
from tests.stack import wait_for
from worker.pipelines.weights import Weights

HALF = 700_001


def test_a_cut_connection_goes_on_at_the_next_byte(hub, machine):
    hub.faults[LARGE] = Fault(after=HALF)
    pulled = machine.pull()
    assert pulled.code == 0
    assert hub.bodies(LARGE) == [(0, HALF), (HALF, hub.file(LARGE).size - HALF)]


def test_a_body_that_ends_early_without_an_error_is_not_the_file(hub, machine):
    hub.hides_lengths = True
    hub.faults[LARGE] = Fault(after=HALF)
    assert machine.pull().code == 0
    assert hub.bodies(LARGE) == [(0, HALF), (HALF, hub.file(LARGE).size - HALF)]


def stopped_half_way(hub, machine, number):
    """Send a pull a signal once half of the large file and all others are on its disk; return how it ended."""
    hub.faults[LARGE] = Fault(after=HALF, kind="hold")
    process = machine.start(HF_HUB_DOWNLOAD_TIMEOUT="60")
    others = {file.etag for name, file in needed(hub.repositories[SCHNELL]).items() if name != LARGE}
    partial = machine.partial(hub.file(LARGE).etag)
    wait_for(
        lambda: (
            partial.exists() and partial.stat().st_size == HALF and all((machine.blobs() / e).exists() for e in others)
        ),
        "half of it is on the disk",
    )
    process.send_signal(number)
    hub.release.set()
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def check_that_the_rest_comes_and_nothing_twice(hub, machine):
    hub.release.clear()
    assert machine.pull().code == 0
    assert hub.bodies(LARGE) == [(0, HALF), (HALF, hub.file(LARGE).size - HALF)]
    assert hub.sent() == sum({file.etag: file.size for file in needed(hub.repositories[SCHNELL]).values()}.values())
    assert Weights(cache_dir=machine.cache).report(CATALOG["schnell"]).available


def test_after_a_kill_the_next_pull_goes_on_at_the_next_byte(hub, machine):
    code, _ = stopped_half_way(hub, machine, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not Weights(cache_dir=machine.cache).report(CATALOG["schnell"]).available
    check_that_the_rest_comes_and_nothing_twice(hub, machine)


def test_ctrl_c_says_that_what_came_is_kept_and_keeps_it(hub, machine):
    code, said = stopped_half_way(hub, machine, signal.SIGINT)
    assert code == 130
    assert "Stopped. What came is kept" in said
    assert "Traceback" not in said
    check_that_the_rest_comes_and_nothing_twice(hub, machine)


def test_the_progress_of_a_resumed_download_begins_with_what_is_here(hub, machine):
    stopped_half_way(hub, machine, signal.SIGKILL)
    total = sum({file.etag: file.size for file in needed(hub.repositories[SCHNELL]).values()}.values())
    here = total - hub.file(LARGE).size + HALF
    first = next(line for line in machine.pull().said.splitlines() if " %)" in line)
    assert f"{here / 1e6:.1f} MB of {total / 1e6:.1f} MB are here already" in first


def test_a_server_that_cannot_go_on_within_a_file_sends_it_whole(hub, machine):
    hub.faults[LARGE] = Fault(after=HALF)
    hub.ignores_ranges = True
    assert machine.pull().code == 0
    assert hub.bodies(LARGE) == [(0, HALF), (0, hub.file(LARGE).size)]


def test_a_half_file_of_another_length_than_the_hub_lists_begins_anew(hub, machine):
    # Given more bytes than the file has
    partial = machine.partial(hub.file(LARGE).etag)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(hub.file(LARGE).size + 1))
    # Then they are not taken for the file
    assert machine.pull().code == 0
    assert hub.bodies(LARGE) == [(0, hub.file(LARGE).size)]


def test_an_update_that_is_interrupted_leaves_the_model_as_it_was(hub, machine):
    # Given a model that is here, and another version of it at the hub
    machine.pull()
    before = Weights(cache_dir=machine.cache).folder(CATALOG["schnell"])
    hub.commit = "d" * 40
    hub.repositories[SCHNELL] |= {LARGE: hub.repositories[SCHNELL]["flux1-schnell.safetensors"]}
    hub.faults[LARGE] = Fault(after=HALF, times=100)
    # When its download fails
    machine.pull(HF_HUB_DOWNLOAD_TIMEOUT="1")
    # Then the worker still finds the old one
    assert Weights(cache_dir=machine.cache).folder(CATALOG["schnell"]) == before


def test_two_pulls_of_one_model_do_not_write_into_one_file(hub, machine):
    hub.faults[LARGE] = Fault(after=HALF, kind="hold")
    first = machine.start(HF_HUB_DOWNLOAD_TIMEOUT="60")
    assert hub.holding.wait(60)
    assert "Another `flux-image pull` fetches the same files now" in machine.pull().refused()
    hub.release.set()
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 0, said
