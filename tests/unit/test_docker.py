"""The image and the compose file: what they promise, as far as it can be seen without starting a container."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from orchestrator.service import Role
from orchestrator.settings import Settings, StoreSettings, load
from tests.services.activemq import HOME, ActiveMQ
from tests.services.child import Child
from tests.services.ports import free_port

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE: Mapping[str, Any] = YAML(typ="safe").load(DOCKER / "compose.yaml")
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("muleteer:")}

each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


@pytest.fixture
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """What muleteer makes of a service's environment."""
    for variable in [key for key in os.environ if key.startswith("MULETEER_")]:
        monkeypatch.delenv(variable)
    for variable, value in {**image_environment(), **OURS[request.getfixturevalue("name")]["environment"]}.items():
        monkeypatch.setenv(variable, value)
    return load(tmp_path)


def test_every_role_has_exactly_one_service() -> None:
    """`muleteer run --only ROLE` runs once for each role there is, and nothing runs all of them."""
    commands = [service["command"] for service in OURS.values()]

    assert sorted(command for command in commands if command[0] == "run") == sorted(
        ["run", "--only", role] for role in Role
    )


def test_muleteers_services_run_one_image_of_the_version_that_is_built() -> None:
    """One build serves all; the tag says which version it is."""
    version = re.search(r'^version = "(.+)"$', (DOCKER.parent / "pyproject.toml").read_text(), re.MULTILINE)

    assert version is not None
    assert {service["image"] for service in OURS.values()} == {f"muleteer:{version[1]}"}


@each_service
def test_images_are_pinned_to_a_version(name: str) -> None:
    """An image that changes by itself would be another product."""
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", SERVICES[name]["image"])


@each_of_ours
def test_muleteer_never_runs_as_root(name: str) -> None:
    """The user is a number, so that a cluster can see that it is not root, and the one the image was made for."""
    assert SERVICES[name]["user"] == last_stage("USER")[-1] == "10001:10001"


@each_service
def test_a_service_can_do_and_write_as_little_as_possible(name: str) -> None:
    """Read-only but for its volumes and /tmp, without capabilities, and with no way to get new ones."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]


@each_service
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    """Every published port is bound to loopback."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@each_service
def test_secrets_come_from_files_only(name: str) -> None:
    """What is secret is named by a variable `..._FILE`, and that file is a secret the service is given."""
    secretive = {
        variable: value
        for variable, value in SERVICES[name].get("environment", {}).items()
        if re.search("PASS|SECRET|TOKEN|KEY|URL", variable)
    }

    assert all(variable.endswith("_FILE") for variable in secretive)
    given = {f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]}
    assert set(secretive.values()) <= given


def test_every_secret_is_a_file_outside_the_repository() -> None:
    """Every secret that a service is given is declared, and read from the folder that is never committed."""
    used = {secret for service in SERVICES.values() for secret in service["secrets"]}

    assert {name: declared["file"] for name, declared in COMPOSE["secrets"].items()} == {
        name: f"./secrets/{name}" for name in used
    }


@each_service
def test_dependencies_exist_and_can_become_true(name: str) -> None:
    """Whoever waits for a service to be healthy waits for one that says so; whoever waits for an end, for one-shots."""
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        service = SERVICES[other]
        if wanted["condition"] == "service_healthy":
            assert service["healthcheck"]["test"][0] == "CMD"
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert service["restart"] == "no"


@each_of_ours
def test_the_schema_is_there_before_anything_uses_it(name: str) -> None:
    """Every role waits for `migrate`, and `migrate` for the database."""
    waits = SERVICES[name]["depends_on"]

    if name == "migrate":
        assert SERVICES[name]["command"] == ["db", "upgrade"]
        assert waits == {"postgres": {"condition": "service_healthy"}}
    else:
        assert waits["migrate"] == {"condition": "service_completed_successfully"}


@each_service
def test_every_named_volume_is_declared(name: str) -> None:
    """A volume is one of those at the end of the file, or a folder beside it."""
    for volume in SERVICES[name]["volumes"]:
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (DOCKER / source).is_dir()


@each_of_ours
def test_muleteer_understands_its_environment(name: str, settings: Settings) -> None:
    """The variables reach the settings they are meant for, and point at services of this file."""
    assert settings.broker.kind == "stomp"
    assert [address.partition(":")[0] for address in settings.broker.addresses] == ["activemq"]
    assert settings.broker.user == "muleteer"
    assert settings.broker.passcode_file == Path("/run/secrets/broker_passcode")
    assert settings.store == StoreSettings(url_file=Path("/run/secrets/store_url"))
    assert settings.log.format == "json"


@each_of_ours
def test_actions_may_finish_before_a_container_is_killed(name: str, settings: Settings) -> None:
    """The engine waits longer than muleteer's own grace, so that its orderly end is not cut short."""
    seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))

    assert timedelta(seconds=seconds) >= settings.worker.grace + timedelta(seconds=5)


def test_the_image_says_when_it_is_ill_and_stops_when_asked() -> None:
    """`muleteer doctor` is the health check, `muleteer` the entry point, and SIGTERM ends it."""
    assert last_stage("HEALTHCHECK")[-1].endswith('CMD ["muleteer", "doctor"]')
    assert last_stage("ENTRYPOINT") == ['["muleteer"]']
    assert last_stage("CMD") == ['["run"]']
    assert last_stage("STOPSIGNAL") == ["SIGTERM"]


def test_the_image_is_built_from_what_is_sent_to_the_engine() -> None:
    """Every path that the Dockerfile copies is let through by `.dockerignore`, and exists."""
    let_through = {
        line.removeprefix("!")
        for line in (DOCKER.parent / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {source for line in re.findall(r"^COPY (.+)$", dockerfile(), re.MULTILINE) for source in line.split()[:-1]}

    assert copied == let_through
    assert all((DOCKER.parent / source).exists() for source in copied)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    """The linter of Dockerfiles has no objection."""
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip(f"{hadolint} does not exist: make dev")

    found = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)

    assert (found.returncode, found.stdout + found.stderr) == (0, "")


class Broker:
    """ActiveMQ as the compose file starts it, but with Debian's package and on a port of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        (directory / "data").mkdir()
        (directory / "scratch").mkdir()

    def program(self, name: str, passcode: str) -> list[str | Path]:
        """`start` or `healthy`, with the passcode in its secret file."""
        secret = self.directory / f"passcode-of-{name}"
        secret.write_text(passcode + "\n")
        environment = {
            "PASSCODE_FILE": secret,
            "ACTIVEMQ_HOME": HOME,
            "ACTIVEMQ_DATA": self.directory / "data",
            "LISTEN": f"127.0.0.1:{self.port}",
            "PORT": self.port,
            "TMPDIR": self.directory / "scratch",
        }
        return ["env", *(f"{key}={value}" for key, value in environment.items()), "bash", DOCKER / "activemq" / name]

    def is_healthy(self, passcode: str) -> bool:
        command = self.program("healthy", passcode)
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running one, whose passcode is `carrot-1`."""
    if why := ActiveMQ.missing():
        pytest.skip(why)
    broker = Broker(tmp_path)
    log = tmp_path / "log"
    child = Child(broker.program("start", "carrot-1"), log=log, goodbye=signal.SIGTERM)
    try:
        deadline = time.monotonic() + 60
        while not broker.is_healthy("carrot-1"):
            assert child.running and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield broker
    finally:
        child.stop()


def test_the_brokers_passcode_is_the_one_in_the_secret_file(broker: Broker) -> None:
    """The account gets in with it, and with no other."""
    assert broker.is_healthy("carrot-1")
    assert not broker.is_healthy("carrot-2")


def test_a_passcode_that_the_broker_would_misread_is_refused(tmp_path: Path) -> None:
    """The broker does not start with another passcode than the one that was written down."""
    command = Broker(tmp_path).program("start", "carrot${1}")

    refused = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert refused.returncode == 1
    assert "letters, digits" in refused.stderr
    assert "carrot" not in refused.stderr


def dockerfile() -> str:
    """The Dockerfile, with continued lines joined."""
    return (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")


def last_stage(instruction: str) -> list[str]:
    """What stands behind each such instruction of the stage that becomes the image."""
    stage = dockerfile().rpartition("\nFROM ")[2]
    return re.findall(rf"^{instruction}\s+(.+)$", stage, re.MULTILINE)


def image_environment() -> dict[str, str]:
    """The variables `MULETEER_...` of the image."""
    words = shlex.split(" ".join(last_stage("ENV")))
    variables = dict(word.split("=", 1) for word in words)
    return {variable: value for variable, value in variables.items() if variable.startswith("MULETEER_")}


def test_the_image_is_built_from_what_is_copied(tmp_path: Path) -> None:
    """The wheel can be made from the paths of the first stage alone, and holds the data that the program needs."""
    stage = dockerfile().partition("RUN pip wheel")[0]
    for line in re.findall(r"^COPY (.+)$", stage, re.MULTILINE):
        for name in line.split()[:-1]:
            source, target = DOCKER.parent / name, tmp_path / "source" / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    making = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]

    subprocess.run([*making, "--wheel-dir", str(tmp_path), str(tmp_path / "source")], check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        modes = {entry.filename: entry.external_attr >> 16 for entry in packed.infolist()}
    assert modes["workflows/calorimeter/combine.py"] & 0o111
    assert {
        "workflows/calorimeter/workflow.yaml",
        "workflows/calorimeter/calibrations/2023p001.csv",
        "schemas/json/rule.schema.json",
        "orchestrator/launch/failures.yaml",
        "orchestrator/store/migrations/versions/0001_the_first_schema.py",
        "orchestrator/py.typed",
    } <= modes.keys()
