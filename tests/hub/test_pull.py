"""`flux-image pull` against a hub that works: what is asked for, what comes, and who finds it."""

import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

from shared.catalog import CATALOG
from tests.hub.conftest import ROOT
from tests.hub.repositories import COMMIT, DEV, LARGE, SCHNELL, needed, tiny_flux
from tests.hub.server import TOKEN, Status
from worker.pipelines.weights import Weights


def test_what_was_pulled_is_what_the_worker_finds(hub, machine):
    # Given a repository that also holds what diffusers does not load
    # When it is pulled
    pulled = machine.pull()
    # Then the worker finds the model, whole, and every file has the bytes of the hub
    assert pulled.code == 0, pulled.said
    report = Weights(cache_dir=machine.cache).report(CATALOG["schnell"])
    assert report.available, report.reason
    folder = Weights(cache_dir=machine.cache).folder(CATALOG["schnell"])
    came = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert came == {name: file.source for name, file in needed(hub.repositories[SCHNELL]).items()}


def test_a_model_that_another_program_listed_whole_is_found_too(hub, machine):
    # Given what huggingface_hub writes down when it lists a repository: every file, those too that were left out
    machine.pull()
    folder = machine.blobs().parent
    (folder / "trees").mkdir()
    listed = '{"size": 5, "blob_id": "%s"}' % ("0" * 40)
    (folder / "trees" / f"{COMMIT}.json").write_text(
        f'{{"format_version": 1, "files": {{"flux1-schnell.safetensors": {listed}}}}}'
    )
    # Then the worker still finds what it needs
    assert Weights(cache_dir=machine.cache).report(CATALOG["schnell"]).available


def test_no_second_copy_in_another_layout_is_fetched(hub, machine):
    machine.pull()
    left_out = set(hub.repositories[SCHNELL]) - set(needed(hub.repositories[SCHNELL]))
    assert left_out == {"README.md", "ae.safetensors", "flux1-schnell.safetensors"}
    assert not [name for name in left_out if hub.bodies(f"/{name}")]


def test_a_second_pull_fetches_nothing(hub, machine):
    machine.pull()
    sent = hub.sent()
    assert machine.pull().code == 0
    assert hub.sent() == sent


def test_progress_counts_bytes_of_bytes_up_to_all_of_them(hub, machine):
    said = machine.pull().said
    # Files of equal bytes come once and count once
    total = sum({file.etag: file.size for file in needed(hub.repositories[SCHNELL]).values()}.values())
    assert f"{total / 1e6:.1f} MB of {total / 1e6:.1f} MB (100 %)" in said
    percents = [int(line.split("(")[1].split(" %")[0]) for line in said.splitlines() if " %)" in line]
    assert percents == sorted(percents)


def test_a_terminal_shows_a_bar_that_ends_full(hub, machine):
    # Given a terminal
    ours, theirs = pty.openpty()
    env = machine.env | {"TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-m", "cli", "pull", "schnell"]
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    # When the download is done
    shown = b""
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:  # EIO: the other end is closed
        while chunk := terminal.read(4096):
            shown += chunk
    assert process.wait(60) == 0
    # Then its bar shows all bytes of all bytes
    assert b"2.5/2.5 MB" in shown


def test_an_update_takes_only_the_files_that_changed(hub, machine):
    machine.pull()
    sent = hub.sent()
    hub.repositories[SCHNELL] |= {"model_index.json": tiny_flux("FluxFillPipeline")["model_index.json"]}
    assert machine.pull().code == 0
    assert hub.sent() - sent == hub.file("model_index.json").size


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGINGFACE_HUB_TOKEN"])
def test_a_gated_model_is_fetched_with_the_token_which_the_cdn_never_sees(hub, machine, variable):
    hub.repositories[DEV] = tiny_flux()
    hub.gated.add(DEV)
    pulled = machine.pull("dev", **{variable: TOKEN})
    assert pulled.code == 0, pulled.said
    assert {request.authorization for request in hub.requests if request.is_cdn} == {None}
    assert TOKEN not in pulled.said


def test_files_that_the_hub_also_keeps_in_xet_come_over_plain_http(hub, machine):
    # Given a hub that announces Xet, as the real one does for these models, and hf_xet on this machine
    pytest.importorskip("hf_xet")
    hub.is_xet = True
    assert machine.pull().code == 0
    assert hub.bodies(LARGE) == [(0, hub.file(LARGE).size)]
    assert not [request for request in hub.requests if "xet" in request.path]


def test_a_busy_hub_gets_the_time_it_asks_for(hub, machine):
    hub.statuses.append(Status("/api/models", 429, {"Retry-After": "2"}, times=1))
    pulled = machine.pull()
    assert pulled.code == 0
    assert "answers 429; going on in 2 s" in pulled.said


def test_trouble_of_the_hub_that_goes_away_is_waited_for(hub, machine):
    hub.statuses.append(Status(LARGE, 503, times=2))
    pulled = machine.pull()
    assert pulled.code == 0
    assert pulled.said.count("answers 503; going on in") == 2
