"""What the images and compose files promise, read from the files themselves; no Docker is needed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shared import settings as settings_module
from shared.broker.app import LONGEST_JOB_SECONDS
from shared.settings import CoreSettings

ROOT = Path(__file__).resolve().parents[2]
OURS = ("migrate", "api", "worker", "remote", "flower", "pull")
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
VARIABLE = re.compile(r"\b(FLUX_[A-Z_]+|REDIS_URL)\b")


class ComposeLoader(yaml.SafeLoader):
    """Understands the tag by which an override takes something away."""


ComposeLoader.add_constructor("!reset", lambda loader, node: None)


def load(name):
    return yaml.load((ROOT / name).read_text(), Loader=ComposeLoader)


@pytest.fixture(scope="module")
def services():
    return load("docker-compose.yml")["services"]


def dockerfile(name):
    """The instructions of a Dockerfile: no comments, continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / name).read_text())
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def seconds(duration):
    hours, minutes, rest = (int(part or 0) for part in DURATION.fullmatch(duration).groups())
    return hours * 3600 + minutes * 60 + rest


def known_variables():
    classes = [
        value for value in vars(settings_module).values() if isinstance(value, type) and issubclass(value, CoreSettings)
    ]
    return {f"FLUX_{name.upper()}" for cls in classes for name in cls.model_fields} | {"REDIS_URL"}


class TestCompose:
    def test_a_stop_waits_longer_than_the_longest_job(self, services):
        assert seconds(services["worker"]["stop_grace_period"]) > LONGEST_JOB_SECONDS

    def test_the_worker_reserves_a_gpu(self, services):
        devices = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
        assert [(device["driver"], device["capabilities"]) for device in devices] == [("nvidia", ["gpu"])]

    def test_the_cpu_override_takes_exactly_the_gpu_away(self):
        worker = load("docker-compose.cpu.yml")["services"]["worker"]
        assert "deploy: !reset" in (ROOT / "docker-compose.cpu.yml").read_text()
        assert worker == {"deploy": None, "environment": {"FLUX_DEVICE": "cpu"}}

    def test_only_loopback_is_published(self, services):
        published = {name: service["ports"] for name, service in services.items() if "ports" in service}
        assert set(published) == {"api", "flower"}
        assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)

    def test_flower_cannot_change_anything_and_remembers(self, services):
        flower = services["flower"]
        assert {"--read_only", "--address=0.0.0.0", "--persistent=True"} <= set(flower["command"])
        assert "--db=/flower/flower.db" in flower["command"]
        assert flower["volumes"] == ["flower:/flower"]

    def test_the_worker_cannot_reach_the_internet_and_cannot_change_weights(self, services):
        assert services["worker"]["networks"] == ["inside"]
        assert load("docker-compose.yml")["networks"]["inside"] == {"internal": True}
        assert services["worker"]["volumes"][-1].endswith(":/hf:ro")

    def test_only_pull_gets_the_token(self, services):
        tokens = {name: service.get("environment", {}).get("HF_TOKEN") for name, service in services.items()}
        assert tokens.pop("pull") == "${HF_TOKEN:-}"
        for name, token in tokens.items():  # emptied where .env is read, absent elsewhere
            assert token == ("" if "env_file" in services[name] else None), name

    @pytest.mark.parametrize("name", ["broker", *OURS])
    def test_each_container_has_no_right_it_does_not_need(self, services, name):
        service = services[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert service["init"] is True
        assert "privileged" not in service

    def test_the_remote_worker_runs_on_request_and_alone_gets_what_leaves_the_house(self, services):
        remote = services["remote"]
        assert remote["profiles"] == ["remote"]
        assert remote["networks"] == ["inside", "outside"]
        assert "deploy" not in remote
        for secret in ("FLUX_REMOTE_TOKEN", "FLUX_ENHANCER_KEY"):
            given = {name: service.get("environment", {}).get(secret) for name, service in services.items()}
            assert given.pop("remote") == f"${{{secret}:-}}"
            for name, value in given.items():  # emptied where .env is read, absent elsewhere
                assert value == ("" if "env_file" in services[name] else None), name

    @pytest.mark.parametrize("name", ["api", "worker", "remote"])
    def test_a_part_starts_on_a_healthy_broker_and_a_migrated_database(self, services, name):
        assert services[name]["depends_on"] == {
            "broker": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }

    def test_parts_that_stay_are_restarted(self, services):
        assert {name for name, service in services.items() if service.get("restart") == "unless-stopped"} == {
            "broker",
            "api",
            "worker",
            "remote",
            "flower",
        }

    def test_the_broker_keeps_everything(self, services):
        command = services["broker"]["command"]
        options = dict(zip(command[1::2], command[2::2], strict=True))
        assert options["--appendonly"] == "yes"
        assert options["--maxmemory-policy"] == "noeviction"
        assert services["broker"]["volumes"] == ["broker:/data"]

    def test_every_volume_and_network_is_declared(self, services):
        compose = load("docker-compose.yml")
        mounts = [volume.split(":/")[0] for service in services.values() for volume in service.get("volumes", [])]
        names = {re.sub(r"\$\{HF_CACHE:-(\w+)\}", r"\1", mount) for mount in mounts}
        assert names == set(compose["volumes"])
        used = {network for service in services.values() for network in service["networks"]}
        assert used == set(compose["networks"])

    @pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.cpu.yml", ".env.example"])
    def test_every_variable_exists(self, name):
        used = set(VARIABLE.findall((ROOT / name).read_text()))
        assert used
        assert used <= known_variables()


class TestImages:
    @pytest.mark.parametrize(("name", "extras"), [("Dockerfile.api", "api,cli"), ("Dockerfile.worker", "worker")])
    def test_the_pinned_versions_of_the_right_extras_are_installed(self, name, extras):
        installs = re.findall(r"pip install .*?(?= &&|$)", "\n".join(dockerfile(name)), re.MULTILINE)
        assert installs == [
            f"pip install -c constraints.txt '.[{extras}]'",
            "pip install --no-deps --force-reinstall .",
        ]

    def test_the_api_image_has_no_code_of_the_worker(self):
        copied = {line.split()[1] for line in dockerfile("Dockerfile.api") if line.startswith("COPY ")}
        assert "worker" not in copied

    def test_the_worker_image_never_downloads(self):
        assert "HF_HUB_OFFLINE=1" in "\n".join(dockerfile("Dockerfile.worker"))

    @pytest.mark.parametrize("name", ["Dockerfile.api", "Dockerfile.worker"])
    def test_it_runs_as_an_ordinary_user(self, name):
        users = [line for line in dockerfile(name) if line.startswith("USER ")]
        assert users == ["USER ${UID}"]
        assert "ARG UID=1000" in dockerfile(name)

    @pytest.mark.parametrize("name", ["Dockerfile.api", "Dockerfile.worker"])
    def test_it_says_whether_it_is_healthy(self, name):
        assert any(line.startswith("HEALTHCHECK ") for line in dockerfile(name))

    @pytest.mark.parametrize("name", ["Dockerfile.api", "Dockerfile.worker"])
    def test_everything_that_is_copied_gets_past_the_ignore_file(self, name):
        allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        copied = [line.split()[1:-1] for line in dockerfile(name) if re.match(r"COPY (?!--from)", line)]
        assert {item for items in copied for item in items} <= allowed

    def test_both_images_have_the_same_python_and_user(self):
        bases = [
            [line for line in dockerfile(name) if line.startswith(("FROM ", "ARG UID"))]
            for name in ("Dockerfile.api", "Dockerfile.worker")
        ]
        assert bases[0] == bases[1]


class TestCheckScript:
    def test_it_finds_nothing_with_the_tools_that_are_here(self):
        # Given the tools of this environment: check-jsonschema at least, which the dev extra brings
        tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        # When the files are checked
        run = subprocess.run(
            ["bash", ".ci/check-containers"], cwd=ROOT, env=tools, capture_output=True, text=True, check=False
        )
        # Then nothing is found, and something was looked at
        assert run.returncode == 0, run.stdout + run.stderr
        assert "ok       docker-compose.yml, compose-spec schema" in run.stdout
        assert "ok       docker-compose.cpu.yml, compose-spec schema" in run.stdout
