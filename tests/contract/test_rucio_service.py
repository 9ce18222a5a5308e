"""What the real Rucio of the tests can do for the tests that need one."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rucio.common.exception import AccessDenied, DataIdentifierNotFound, RucioException

from orchestrator.broker.port import Subscription
from tests.contract.brokers import StompRig
from tests.services.activemq import ActiveMQ
from tests.services.rucio import Rucio

_numbers = itertools.count(1)


@pytest.fixture
def scope(rucio: Rucio) -> str:
    """A scope for one test."""
    name = f"service{next(_numbers)}"
    rucio.catalog.add_scope(name)
    return name


def payloads(subscription: Subscription, scope: str, event: str, count: int = 1) -> list[dict[str, Any]]:
    """Of the next `count` messages of a kind from a scope: from a shared server come those of other tests, too."""
    found: list[dict[str, Any]] = []
    while len(found) < count and (frames := subscription.receive(20)):
        messages = [json.loads(frame.body) for frame in frames]
        found += [each["payload"] for each in messages if each["event_type"] == event]
        found = [payload for payload in found if payload["scope"] == scope]
        subscription.acknowledge()
    return found


def test_close_arrives(rucio: Rucio, activemq: ActiveMQ, scope: str) -> None:
    """A dataset that is closed becomes a message, which the door to ActiveMQ receives."""
    client = rucio.client()
    client.add_dataset(scope, "run42")
    client.attach_dids(scope, "run42", [_file(rucio, scope, size) for size in (5, 7)])
    client.close(scope, "run42")
    rig = StompRig(activemq, f"/queue/{scope}.events")

    with rig.stack:
        subscription = rig.subscribe()
        with rucio.hermes(activemq.port, rig.destination, user=activemq.user, passcode=activemq.passcode):
            closed = payloads(subscription, scope, "close")

    assert closed == [{"scope": scope, "name": "run42", "bytes": 12, "length": 2, "events": 0}]


@pytest.mark.slow
def test_killed_hermes(rucio: Rucio, activemq: ActiveMQ, scope: str) -> None:
    """After a hermes that was killed, the next one sends all that there is: no share is kept for the dead one."""
    early = f"{scope}.early"  # may come twice: hermes may be killed before it has noted that it sent it
    rucio.catalog.add_scope(early)
    rig = StompRig(activemq, f"/queue/{scope}.events")
    to_broker: dict[str, Any] = {"user": activemq.user, "passcode": activemq.passcode}
    with rig.stack:
        subscription = rig.subscribe()
        with rucio.hermes(activemq.port, rig.destination, **to_broker) as hermes:
            rucio.client().add_dataset(early, "run41")
            payloads(subscription, early, "create_dts")
            hermes.kill()
        rucio.client().add_datasets([{"scope": scope, "name": f"after{number}"} for number in range(16)])
        with rucio.hermes(activemq.port, rig.destination, **to_broker):
            created = payloads(subscription, scope, "create_dts", 16)

    assert {payload["name"] for payload in created} == {f"after{number}" for number in range(16)}


def test_files_are_deleted(rucio: Rucio, scope: str) -> None:
    """An RSE is a folder: what the undertaker and the reaper take out of the catalog is gone from there too."""
    disk = rucio.catalog.add_rse(f"DISK-{scope.upper()}", deterministic=False)
    client = rucio.client()
    (disk.folder / "odd.root").write_text("hello")
    replica = {"scope": scope, "name": "odd.root", "bytes": 5, "adler32": "062c0215", "pfn": disk.pfn("odd.root")}
    client.add_replicas(disk.name, [replica])
    client.add_dataset(scope, "run42")
    client.attach_dids(scope, "run42", [{"scope": scope, "name": "odd.root"}])
    client.set_metadata(scope, "run42", "lifetime", -1)
    client.set_tombstone([{"rse": disk.name, "scope": scope, "name": "odd.root"}])

    rucio.run_daemon("undertaker")
    rucio.run_daemon("reaper", "--greedy", "--rses", disk.name)

    with pytest.raises(DataIdentifierNotFound):
        client.get_did(scope, "run42")
    assert list(disk.folder.iterdir()) == []


def test_deterministic_paths(rucio: Rucio, scope: str) -> None:
    """Rucio makes up where a file is on a deterministic RSE; it is below the folder."""
    disk = rucio.catalog.add_rse(f"DET-{scope.upper()}")
    rucio.client().add_replicas(disk.name, [{"scope": scope, "name": "f", "bytes": 5, "adler32": "062c0215"}])

    [replica] = rucio.client().list_replicas([{"scope": scope, "name": "f"}])

    [pfn] = replica["rses"][disk.name]
    assert pfn.startswith(f"file://localhost{disk.folder}/{scope}/")


def test_production_account(rucio: Rucio, scope: str) -> None:
    """An account that is no admin does as it likes in its own scope and nowhere else; a rule needs room."""
    name = f"prod-{scope}"
    login = rucio.catalog.add_account(name)
    rucio.catalog.add_scope(f"{scope}.own", name)
    rucio.catalog.add_mock_rse(f"{scope.upper()}-MOCK")
    rucio.catalog.allow(name, f"{scope.upper()}-MOCK")
    client = rucio.client(login)

    client.add_dataset(f"{scope}.own", "run42")
    client.add_replication_rule([{"scope": f"{scope}.own", "name": "run42"}], 1, f"{scope.upper()}-MOCK")
    client.close(f"{scope}.own", "run42")

    assert client.get_did(f"{scope}.own", "run42")["account"] == name
    with pytest.raises(AccessDenied):
        client.add_dataset(scope, "run42")


def test_admin_account(rucio: Rucio, scope: str) -> None:
    """An admin may reopen what another account closed."""
    admin = rucio.client(rucio.catalog.add_account(f"adm-{scope}", admin=True))
    rucio.client().add_dataset(scope, "run42")
    rucio.client().close(scope, "run42")

    admin.set_status(scope, "run42", open=True)

    assert admin.get_did(scope, "run42")["open"] is True


def test_another_process(rucio: Rucio, scope: str) -> None:
    """A program finds the server and its account in the environment, and keeps its token there."""
    login = rucio.catalog.add_account(f"env-{scope}")
    program = Path(sys.executable).with_name("rucio")

    said = subprocess.run(
        [program, "whoami"], env={**os.environ, **rucio.environment(login)}, capture_output=True, text=True
    )

    assert login.account in said.stdout, said.stderr
    assert (rucio.directory / f"tokens-{login.account}" / "token").exists()


@pytest.mark.slow
def test_away_and_back(own_rucio: Rucio) -> None:
    """A server that was stopped or killed comes back at its address, with what it knew."""
    own_rucio.catalog.add_scope("data")
    client = own_rucio.client()
    client.add_dataset("data", "run42")
    for leave in (own_rucio.stop, own_rucio.kill):
        leave()
        with pytest.raises(RucioException):
            client.ping()
        own_rucio.start()

        assert client.get_did("data", "run42")["type"] == "DATASET"
        assert [*own_rucio.client().list_scopes()] == ["data"]


def test_frozen(own_rucio: Rucio) -> None:
    """A suspended server keeps a caller waiting until it goes on."""
    impatient = own_rucio.client(timeout=0.2)
    own_rucio.suspend()
    with pytest.raises(Exception, match=r"[Tt]imed? ?out"):
        impatient.ping()
    own_rucio.resume()

    assert own_rucio.client().ping()["version"].startswith("41.")


def test_daemon_that_fails(rucio: Rucio) -> None:
    """A daemon that ends with an error says why."""
    with pytest.raises(RuntimeError, match="unrecognized arguments: --no-such-option"):
        rucio.run_daemon("undertaker", "--no-such-option")


def _file(rucio: Rucio, scope: str, size: int) -> dict[str, Any]:
    """A new file with a replica, to be attached."""
    rse = f"{scope.upper()}-{size}-MOCK"
    rucio.catalog.add_mock_rse(rse)
    rucio.client().add_replicas(rse, [{"scope": scope, "name": f"file{size}", "bytes": size, "adler32": "062c0215"}])
    return {"scope": scope, "name": f"file{size}"}
