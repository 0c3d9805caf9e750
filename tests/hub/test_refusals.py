"""Every way in which a hub, a mirror, a network or a disk may fail, said in words: what is wrong and what to do."""

import json
import os
import re
import subprocess

import pytest

from shared.catalog import CATALOG
from tests.hub.repositories import COMMIT, DEV, LARGE, SCHNELL, HubFile, tiny_flux
from tests.hub.server import TOKEN, Fault, Status
from tests.stack import free_port
from worker.pipelines.weights import Weights

WRONG = "hf_a-token-of-nobody"


class TestTheHubRefuses:
    def test_a_gated_model_without_a_token_lists_the_steps(self, hub, machine):
        hub.repositories[DEV] = tiny_flux()
        hub.gated.add(DEV)
        said = machine.pull("dev").refused()
        assert "is gated, and no token is set (HF_TOKEN)" in said
        assert "4. run `flux-image pull dev` again" in said

    def test_a_gated_model_with_a_token_of_nobody_is_about_the_terms(self, hub, machine):
        hub.repositories[DEV] = tiny_flux()
        hub.gated.add(DEV)
        said = machine.pull("dev", HF_TOKEN=WRONG).refused()
        assert "terms not accepted" in said
        assert WRONG not in said

    def test_a_repository_that_is_not_there_is_named(self, hub, machine):
        hub.repositories.clear()
        assert f"127.0.0.1 has no {SCHNELL}, or it is private" in machine.pull().refused()

    def test_a_token_that_the_hub_does_not_know_is_said_to_be_wrong(self, hub, machine):
        headers = {"X-Error-Message": "Invalid credentials in Authorization header"}
        hub.statuses.append(Status("/api/models", 401, headers))
        said = machine.pull(HF_TOKEN=WRONG).refused()
        assert "does not accept the token (401): it is wrong or expired" in said
        assert WRONG not in said

    def test_a_forbidden_download_is_said_so(self, hub, machine):
        hub.statuses.append(Status(LARGE, 403))
        assert "127.0.0.1 forbids the download (403)" in machine.pull().refused()

    def test_a_listed_file_that_is_not_there_is_named(self, hub, machine):
        hub.statuses.append(Status(LARGE, 404, {"X-Error-Code": "EntryNotFound"}))
        said = machine.pull().refused()
        assert f"has no /{SCHNELL}/resolve/" in said
        assert "although it is listed" in said

    def test_a_hub_that_wants_to_be_left_alone_for_long_is_left_alone(self, hub, machine):
        hub.statuses.append(Status("/api/models", 429, {"Retry-After": "3600"}))
        assert "too many requests from here (429). Wait for 3600 s" in machine.pull().refused()
        assert len([request for request in hub.requests if "/api/models" in request.path]) == 1

    def test_a_hub_in_trouble_is_tried_five_times(self, hub, machine):
        hub.statuses.append(Status("/api/models", 503))
        assert "has trouble of its own (it answers 503)" in machine.pull().refused()
        assert len([request for request in hub.requests if "/api/models" in request.path]) == 5


class TestTheMirrorIsBroken:
    def test_a_page_in_place_of_the_hub_is_no_hub(self, hub, machine):
        hub.statuses.append(
            Status("/api/models", 200, {"Content-Type": "text/html"}, "<html>Log in to the hotel</html>")
        )
        said = machine.pull().refused()
        assert "not as a Hugging Face hub does" in said
        assert "HF_ENDPOINT" in said

    def test_a_mirror_that_announces_another_size_than_it_lists_is_refused(self, hub, machine):
        hub.announced[LARGE] = 1_500_001
        said = machine.pull().refused()
        assert f"contradicts itself about {LARGE}: 1500001 bytes are listed, but 1500000 bytes are announced" in said

    def test_other_bytes_than_listed_are_thrown_away(self, hub, machine):
        hub.faults[LARGE] = Fault(after=1_000_000, kind="wrong")
        said = machine.pull().refused()
        assert f"{LARGE} is not what {hub.origin} lists: its checksum is another" in said
        # And the next try gets the file
        assert not machine.partial(hub.file(LARGE).etag).exists()
        assert machine.pull().code == 0

    def test_next_to_nothing_is_too_slow(self, hub, machine):
        hub.faults[LARGE] = Fault(after=1_000_000, kind="trickle")
        assert re.search(r"is too slow: [\d.]+ (kB|MB|bytes) in \d+ s", machine.pull().refused())

    def test_silence_is_said_to_be_silence_and_what_came_is_kept(self, hub, machine):
        hub.faults[LARGE] = Fault(after=1_000_000, kind="hold", times=100)
        assert "is silent: nothing came for 1 s, several times. What came is kept" in machine.pull().refused()
        assert machine.partial(hub.file(LARGE).etag).stat().st_size == 1_000_000

    @pytest.mark.parametrize(
        "strange",
        [
            {"rfilename": "transformer/../../../../outside.json"},
            {"blobId": "../../outside"},
            {"size": -1},
            {"size": None},
        ],
    )
    def test_a_list_that_leads_out_of_its_folder_or_has_no_sizes_is_not_followed(self, hub, machine, strange):
        sibling = {"rfilename": "model_index.json", "size": 2, "blobId": "a" * 40, **strange}
        listed = {"id": SCHNELL, "sha": COMMIT, "siblings": [sibling]}
        hub.statuses.append(Status("/api/models", 200, body=json.dumps(listed)))
        assert "makes no sense" in machine.pull().refused()
        assert not machine.blobs().exists()

    def test_a_repository_of_another_kind_is_said_to_lack_the_files(self, hub, machine):
        hub.repositories[SCHNELL] = {"README.md": HubFile(b"moved", is_lfs=False)}
        assert "lists none of the files that are needed" in machine.pull().refused()


class TestTheNetwork:
    def test_no_server_at_all_is_named_with_its_address(self, machine):
        endpoint = f"http://127.0.0.1:{free_port()}"
        assert f"{endpoint} cannot be reached" in machine.pull(HF_ENDPOINT=endpoint).refused()

    def test_offline_mode_is_said_to_be_the_reason(self, machine):
        assert "HF_HUB_OFFLINE is set" in machine.pull(HF_HUB_OFFLINE="1").refused()

    def test_a_connection_that_always_breaks_is_given_up_with_what_came(self, hub, machine):
        hub.faults[LARGE] = Fault(after=1_000_000, times=100)
        assert "broke several times" in machine.pull().refused()
        assert machine.partial(hub.file(LARGE).etag).stat().st_size == 1_000_000

    @pytest.mark.parametrize("token", ["hf_with a blank", "hf_a-line\nhf_and-another", "hf_größe"])
    def test_a_token_that_cannot_be_one_is_refused_and_not_repeated(self, hub, machine, token):
        pulled = machine.pull(HF_TOKEN=token)
        assert pulled.code == 2
        assert pulled.said.startswith("HF_TOKEN: ")
        assert "Traceback" not in pulled.said
        assert "hf_" not in pulled.said
        assert hub.requests == []

    def test_a_saved_token_that_cannot_be_one_is_refused_and_not_repeated(self, hub, machine):
        place = machine.cache.parent / "token"
        place.parent.mkdir(parents=True)
        place.write_text("hf_with a blank")
        said = machine.pull().refused()
        assert f"The token saved in {place}" in said
        assert "hf_with" not in said
        assert hub.requests == []

    def test_a_token_in_an_error_of_the_hub_is_not_shown(self, hub, machine):
        headers = {"X-Error-Message": f"no such thing as {TOKEN}"}
        hub.statuses.append(Status("/api/models", 418, headers, TOKEN))
        assert TOKEN not in machine.pull(HF_TOKEN=TOKEN).refused()


class TestTheDisk:
    @pytest.fixture
    def small_disk(self, machine):
        """A file system of 3 MB of its own at ``HF_HOME``."""
        home = machine.cache.parent
        home.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", home]
        mounted = subprocess.run(mount, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"mounting a small file system needs root: {mounted.stderr.strip()}")
        yield home
        subprocess.run(["umount", "--lazy", home], check=True)

    def test_too_little_room_is_found_before_anything_is_fetched(self, hub, machine, small_disk):
        (small_disk / "ballast").write_bytes(bytes(1_500_000))
        said = machine.pull().refused()
        assert f"{SCHNELL} needs 2.5 MB more" in said
        assert "are free" in said
        assert hub.sent() == 0

    def test_a_disk_that_fills_up_keeps_what_came_and_goes_on_with_room(self, hub, machine, small_disk):
        # Given a download in the middle, and another program that takes the rest of the disk
        hub.faults[LARGE] = Fault(after=1_000_000, kind="hold")
        process = machine.start(HF_HUB_DOWNLOAD_TIMEOUT="60")
        assert hub.holding.wait(60)
        ballast = small_disk / "ballast"
        fill(ballast)
        # When it goes on
        hub.faults.clear()
        hub.release.set()
        said, _ = process.communicate(timeout=60)
        # Then it says so, and once there is room no byte comes twice
        assert process.returncode == 1, said
        assert "The disk is full" in said
        assert "Traceback" not in said
        ballast.unlink()
        partial = machine.partial(hub.file(LARGE).etag).stat().st_size
        assert machine.pull().code == 0
        assert hub.bodies(LARGE)[-1] == (partial, hub.file(LARGE).size - partial)

    def test_a_folder_that_may_not_be_written_is_not_blamed_on_the_network(self, machine):
        machine.cache.parent.mkdir()
        machine.cache.parent.chmod(0o500)
        said = machine.pull(wrapper=as_nobody()).refused()
        assert f"{machine.cache} may not be written" in said
        assert "point HF_HOME to a folder of its own" in said


def fill(ballast):
    with ballast.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def as_nobody() -> tuple[str, ...]:
    """What makes root an ordinary user, whom permissions bind."""
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all") if os.getuid() == 0 else ()


def test_a_refused_pull_leaves_nothing_that_looks_like_a_model(hub, machine):
    hub.statuses.append(Status(LARGE, 403))
    machine.pull().refused()
    assert not Weights(cache_dir=machine.cache).report(CATALOG["schnell"]).available
