"""Tell people what happens while it happens: the journal, in words."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.text import Text

from orchestrator.cli.terminal import out, visible
from orchestrator.store.messages import Filter
from orchestrator.store.store import Store
from schemas.dispatch import DispatchId
from schemas.launch import LaunchId
from schemas.message import MessageId, MessageState
from schemas.views import JournalEntry

#: How often the journal is read, in seconds.
_GLANCE = 0.1


class Story:
    """Prints one line for each thing that happens, with the seconds since the beginning."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._began = time.monotonic()
        self._last = 0
        self._ended: set[tuple[LaunchId, str]] = set()
        self._waiting: set[MessageId] = set()

    def follow(self, over: Callable[[], bool], patience: float) -> bool:
        """Tell until it is over; False if it is not after `patience` seconds."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            self.catch_up()
            if over():
                return True
            time.sleep(_GLANCE)
        return False

    def catch_up(self) -> None:
        """Tell what the journal has that was not told, and the steps of workflows that have ended meanwhile."""
        self._tell_steps()
        self._tell_waiting()
        for number, entry in self._store.journal.since(self._last):
            self._last = number
            told = self._words(entry)
            if told is not None:
                self._line(entry.subject, told, entry.to_state)

    def _tell_steps(self) -> None:
        for launch in reversed(self._store.launches.list()):
            for step in launch.steps:
                if step.started_at is None or step.ended_at is None or (launch.id, step.name) in self._ended:
                    continue
                self._ended.add((launch.id, step.name))
                seconds = (step.ended_at - step.started_at).total_seconds()
                self._line("step", f"{step.name} of launch {launch.id} -> {step.state} in {seconds:.2f} s", step.state)

    def _tell_waiting(self) -> None:
        """Messages that were judged and stay pending: nothing changed, so the journal does not have them."""
        for message in reversed(self._store.messages.list(Filter(states=[MessageState.PENDING]))):
            if message.judged_revision >= 0 and message.id not in self._waiting:
                self._waiting.add(message.id)
                what = f"{message.id}: {message.event_type} of {message.did}"
                self._line("message", f"{what} stays pending: {message.reason}", "")

    def say(self, who: str, words: str) -> None:
        """Tell what stands in no journal, after what does."""
        self.catch_up()
        self._line(who, words, "")

    def _line(self, subject: str, words: str, state: str) -> None:
        style = {"failed": "red", "quarantined": "red", "finished": "green", "done": "green"}.get(state, "")
        line = Text(f"{time.monotonic() - self._began:6.1f} s  ", style="dim")
        out.print(line + Text(f"{subject:<9} ", style="bold") + Text(visible(words), style=style))

    def _words(self, entry: JournalEntry) -> str | None:
        match entry.subject:
            case "message":
                return self._of_message(entry)
            case "dispatch":
                return self._of_dispatch(entry)
            case "launch":
                return self._of_launch(entry)
            case _:
                return None

    def _of_message(self, entry: JournalEntry) -> str | None:
        if entry.from_state is None and entry.to_state == "pending":
            return None  # what becomes of it is told in a moment
        message = self._store.messages.get(MessageId(entry.subject_id))
        what = f"{message.event_type} of {message.did}" if message.event_type else "a frame that cannot be read"
        return f"{entry.subject_id}: {what} -> {entry.to_state}: {entry.why}"

    def _of_dispatch(self, entry: JournalEntry) -> str | None:
        if entry.from_state is None:
            return None
        dispatch = self._store.dispatches.get(DispatchId(entry.subject_id))
        return f"{dispatch.id}: {dispatch.actor} for rule {dispatch.rule} -> {entry.to_state}{_because(entry)}"

    def _of_launch(self, entry: JournalEntry) -> str | None:
        if entry.to_state in ("prepared", "submitting"):
            return None
        launch = self._store.launches.get(LaunchId(entry.subject_id))
        return f"{launch.id}: {launch.name} -> {entry.to_state}{_because(entry)}"


def _because(entry: JournalEntry) -> str:
    return f": {entry.why}" if entry.why else ""
