"""A stand-in PanDA with one of our engines before it, as the tests of the engines need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.core.commanding import hold_of
from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.sending import Sender
from orchestrator.panda.client.token import Token
from orchestrator.panda.engine import PandaEngine
from orchestrator.panda.port import (
    EngineError,
    Package,
    PackedFile,
    Progress,
    Receipt,
    Reference,
    Submission,
    SubmissionState,
    SubmissionStep,
    Tracked,
)
from orchestrator.panda.stepwise import StepwiseEngine
from schemas.did import Did
from schemas.launch import Command, CommandState, LaunchCommand, StepProgress, StepState
from schemas.site import Site
from schemas.workflow import StepInput
from tests.services.panda import PandaServer, make_token

PREFIX = "user.shrek"
GOING_ON = (SubmissionState.SUBMITTED, SubmissionState.RUNNING)


def site_of(server: PandaServer | str, **more: Any) -> Site:
    url = server if isinstance(server, str) else server.url
    given = {"poll": timedelta(seconds=1), "settle": timedelta(seconds=1), "site": "BNL_SPHENIX", **more}
    return Site.model_validate({"name": "test", "url": url, "url_ssl": url, "vo": "sphenix", "prefix": PREFIX, **given})


#: What speaks to servers, to be closed after each test.
_OPEN: list[PandaApi] = []


def close_all() -> None:
    while _OPEN:
        _OPEN.pop().close()


def engine_of(
    kind: str, site: Site, directory: Path, token: str | None = None, *, clock: Clock | None = None
) -> PandaEngine:
    held = Token(None, {"PANDA_AUTH_ID_TOKEN": token or make_token()})
    api = PandaApi(site, held, pause=lambda _: None, read=5)
    _OPEN.append(api)
    sender = Sender(site, held)
    ticking = {} if clock is None else {"clock": clock}
    if kind == "panda":
        return PandaEngine(site, api, sender, **ticking)
    return StepwiseEngine(site, api, sender, **ticking)


def step(name: str, *inputs: str | StepInput, outputs: Sequence[str] = ("*.root",), **more: Any) -> SubmissionStep:
    reads = tuple(each if isinstance(each, StepInput) else StepInput.model_validate({"from": each}) for each in inputs)
    return SubmissionStep(name, (f"./{name}.sh",), reads, tuple(outputs), **more)


def submission(name: str, *steps: SubmissionStep) -> Submission:
    sources = {read for each in steps for read in each.reads} - {each.name for each in steps}
    return Submission(name, "calo", {"run": "1"}, {source: Did("group.sphenix", source) for source in sources}, steps)


def scripts(asked: Submission) -> Package:
    return {f"{each.name}.sh": PackedFile(b"#!/bin/sh\n", executable=True) for each in asked.steps}


class Clock:
    """A clock that can be put forward; otherwise it goes as others do."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Bench:
    """One engine, and what somebody who uses it keeps of a submission."""

    server: PandaServer
    engine: PandaEngine
    clock: Clock
    launches: dict[str, Launch] = field(default_factory=dict)

    def submit(self, name: str, *steps: SubmissionStep) -> Launch:
        asked = submission(name, *steps)
        package = self.engine.pack(asked, scripts(asked))
        reference, receipt = self.engine.submit(name, package)
        waiting = tuple(StepProgress(name=each.name, state=StepState.WAITING) for each in steps)
        self.launches[name] = Launch(name, reference, package, waiting, self.clock(), [receipt])
        return self.launches[name]

    def look(self, launch: Launch | None = None) -> Progress | EngineError | None:
        """Look at all, and keep what was told, as the watcher does; what was told of this one."""
        seen = self.engine.look([each.tracked() for each in self.launches.values()])
        for name, news in seen.items():
            if isinstance(news, Progress):
                kept = self.launches[name]
                kept.steps, kept.state, kept.reason = news.steps, news.state, news.reason
                kept.receipts += news.receipts
        return None if launch is None else seen.get(launch.name)

    def command(self, launch: Launch, command: Command, step: str | None = None, **parameters: str) -> str:
        """Ask for it, and have it carried out, as the commander does."""
        number = launch.ask(command, step)
        state = CommandState.REFUSED
        try:
            answer = self.engine.command(launch.tracked(), command, step, parameters)
            state = CommandState.TAKEN
        finally:
            launch.settle(number, state)
        return answer

    def task(self, name: str) -> str:
        """The name of a step's task, as the server finds it: `top` of `tag` is `tag_000_top`."""
        return f"{PREFIX}.{name}"


@dataclass
class Launch:
    name: str
    reference: Reference
    package: Package
    steps: tuple[StepProgress, ...]
    submitted_at: datetime
    receipts: list[Receipt]
    state: SubmissionState = SubmissionState.SUBMITTED
    reason: str | None = None

    #: All that was asked of it.
    asked: list[LaunchCommand] = field(default_factory=list)

    def tracked(self) -> Tracked:
        return Tracked(
            self.name,
            self.reference,
            self.steps,
            self.submitted_at,
            package=lambda: self.package,
            hold=lambda: hold_of(self.asked),
        )

    def ask(self, command: Command, step: str | None = None) -> int:
        """Write down what is wanted; gives its place."""
        given = {"id": len(self.asked) + 1, "launch_id": 1, "command": command, "step": step, "who": "me", "why": None}
        wanted = {**given, "state": CommandState.WANTED, "asked_at": self.submitted_at}
        self.asked.append(LaunchCommand.model_validate(wanted))
        return len(self.asked) - 1

    def settle(self, place: int, state: CommandState) -> None:
        self.asked[place] = self.asked[place].model_copy(update={"state": state})

    def stands(self) -> SubmissionState:
        """The state as it is at this moment."""
        return self.state

    def states(self) -> dict[str, str]:
        return {each.name: str(each.state) for each in self.steps}

    def step(self, name: str) -> StepProgress:
        return next(each for each in self.steps if each.name == name)
