"""Retries by policy as the command line shows them: of a workflow, and of a launch that has failed."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.clock import utc_now
from orchestrator.core.retrying import Wanted
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.failure_class import FailureClass
from schemas.launch import Launch, LaunchState, StepProgress, StepState
from schemas.retry import RetryPolicy, StepRetry
from tests.unit.cli.conftest import Muleteer

DOCUMENT = """\
name: tiny
retry: {attempts: 2, memory: 1.5, most_memory: 8000}
steps:
  - {name: make, script: touch made.txt, outputs: [made.txt]}
  - {name: look, script: cat made.txt, inputs: [make], retry: {attempts: 0}}
"""
WORDS = "2 times, 5m later, of transient, site, storage, memory; memory x 1.5, 8000 MB at most; look: never"


@pytest.fixture
def folder(home: Path) -> Path:
    place = home / "workflows" / "tiny"
    place.mkdir(parents=True)
    (place / "workflow.yaml").write_text(DOCUMENT)
    return place


@pytest.fixture
def failed(store: Store) -> Launch:
    policy = RetryPolicy(steps={"reco": StepRetry(attempts=1, classes=(FailureClass.SITE,), after=timedelta(0))})
    steps = [StepProgress(name="reco", state=StepState.FAILED)]
    intent = Intent("rn1", "rn1", None, "calo", {}, {}, {}, "panda:bnl", steps, retry=policy)
    launch = store.launches.intend(intent, who="test", now=utc_now())
    for state in (LaunchState.SUBMITTING, LaunchState.SUBMITTED, LaunchState.FAILED):
        launch = store.launches.advance(launch, state, who="test", why=None, now=utc_now(), reference="r")
    return launch


@pytest.mark.usefixtures("folder")
def test_a_workflow_is_shown_and_checked_with_its_policy(muleteer: Muleteer) -> None:
    """In words, and where it stands; for a program as it is written."""
    assert WORDS in muleteer("workflow", "show", "tiny").out
    assert f"workflow.yaml:2: retry: what fails is retried {WORDS}" in muleteer("workflow", "check", "tiny").out
    shown = muleteer("workflow", "show", "tiny", "--json").json["workflow"]
    assert shown["retry"] == {"attempts": 2, "memory": 1.5, "most_memory": 8000}


def test_a_workflow_that_contradicts_itself_does_not_fit(muleteer: Muleteer, folder: Path) -> None:
    (folder / "workflow.yaml").write_text(DOCUMENT.replace("memory: 1.5", "memory: 0.5"))

    said = muleteer("workflow", "check", "tiny")

    assert said.code == 1
    assert "workflow.yaml:2: retry.memory: 0.5 is no factor" in said.out


def test_a_launch_says_when_its_policy_decides(muleteer: Muleteer, failed: Launch) -> None:
    """And what the policy is."""
    said = muleteer("launches", "show", str(failed.id)).out

    assert "once, 0s later, of site" in said
    assert "decided by its policy, at " in said
    assert muleteer("launches", "show", str(failed.id), "--json").json["retry"]["steps"]["reco"]["attempts"] == 1


def test_a_launch_shows_what_its_policy_has_asked_for(muleteer: Muleteer, store: Store, failed: Launch) -> None:
    """With who, why and the parameters."""
    wanted = [Wanted("reco", {"ramCount": "3000"}, "2 jobs failed (2 memory), retry 1 of 1")]
    store.launch_retries.ask(failed, wanted, look_again_at=utc_now(), now=utc_now())

    said = muleteer("launches", "show", str(failed.id)).out

    assert "policy  retry of step reco with ramCount=3000: 2 jobs failed (2 memory), retry 1 of 1" in said


def test_a_launch_says_why_it_was_not_retried(muleteer: Muleteer, store: Store, failed: Launch) -> None:
    store.launch_retries.leave(failed, "reco: 3 jobs failed of class payload, which is not retried", now=utc_now())

    lines = muleteer("launches", "show", str(failed.id)).out.splitlines()

    (said,) = [line for line in lines if line.startswith("retried ")]
    assert said.endswith("not retried by policy: reco: 3 jobs failed of class payload, which is not retried")


def test_watching_goes_on_until_the_policy_has_decided(muleteer: Muleteer, store: Store, failed: Launch) -> None:
    """What is retried has not come to its end."""
    codes: list[int] = []
    watching = threading.Thread(target=lambda: codes.append(muleteer("launches", "watch", str(failed.id)).code))
    watching.start()
    time.sleep(1.5)
    assert watching.is_alive()

    store.launch_retries.leave(failed, "nothing helps", now=utc_now())
    watching.join(10)

    assert codes == [1]


def test_a_launch_says_how_to_call_its_retry_off_and_who_did(muleteer: Muleteer, failed: Launch) -> None:
    """And the command says that it did; there is nothing to carry out."""
    before = muleteer("launches", "show", str(failed.id)).out
    off = muleteer("launches", "kill", str(failed.id), "--reason", "the data is bad")
    after = muleteer("launches", "show", str(failed.id)).out

    assert f"; `muleteer launches kill {failed.id} --reason ...` calls it off" in before
    assert off.out == "1 launch asked to be killed (of these 1 is over already: the coming retry is called off)\n"
    assert (off.code, "muleteer run" in off.err) == (0, False)
    (said,) = [line for line in after.splitlines() if line.startswith("retried ")]
    assert said.endswith(": the coming retry is called off: the data is bad")
    assert muleteer("launches", "kill", str(failed.id), "--reason", "again").code == 4


def test_a_launch_says_what_its_retry_waits_for(muleteer: Muleteer, failed: Launch) -> None:
    muleteer("dispatch", "stop", "--reason", "the disk is full")

    said = muleteer("launches", "show", str(failed.id)).out

    assert "decided by its policy, once everything goes on: stopped by cli:" in said
    assert ": the disk is full; `muleteer launches kill" in said
    assert muleteer("launches", "show", str(failed.id), "--json").json["retry_held_up_by"]["kind"] == "everything"
