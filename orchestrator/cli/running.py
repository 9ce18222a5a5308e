"""Run muleteer: all of it, or one role of it, for ever, for a while, or once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from types import FrameType
from typing import Annotated

import typer

from orchestrator.cli.session import Exit, Home, opened
from orchestrator.cli.terminal import out
from orchestrator.loop import Patience
from orchestrator.service import Role, Service
from orchestrator.store.port import StoreUnavailable
from orchestrator.wiring import Muleteer
from schemas.durations import parse_duration


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Time = Annotated[
    str | None, typer.Option("--time", help="Stop by itself after so long: 90s, 5m, 1h30m.", metavar="TIME")
]


class Signals:
    """SIGTERM and SIGINT ask for an orderly end; asked a second time, it is at once."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():  # the second time: whoever asks does not want to wait
            os._exit(128 + number)
        self._asked.set()

    def wait(self, span: timedelta | None) -> bool:
        """Wait until somebody asks, or the time is over. True if somebody asked."""
        deadline = None if span is None else time.monotonic() + span.total_seconds()
        while not self._asked.is_set():
            # in short waits, because a long one cannot be interrupted by a signal on every platform
            rest = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
            if rest <= 0:
                return False
            self._asked.wait(rest)
        return True

    @property
    def asked(self) -> bool:
        return self._asked.is_set()


def _roles(text: str | None) -> Sequence[Role]:
    if text is None:
        return tuple(Role)
    try:
        return tuple(dict.fromkeys(Role(word.strip()) for word in text.split(",") if word.strip()))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: name some of {', '.join(Role)}, with commas between") from None


def run(
    home: Home = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Only these roles: listener,dispatcher,worker.", metavar="ROLES")
    ] = None,
    time_: Time = None,
) -> None:
    """Run muleteer until it is stopped: listen, match, act, follow launches."""
    roles, span = _roles(only), _duration(time_)
    if not roles:
        raise typer.BadParameter(f"--only names no role: choose from {', '.join(Role)}")
    signals = Signals()
    with opened(home, quiet=False) as muleteer:
        if _store_is_there(muleteer, signals):
            service = Service(muleteer, roles)
            with service.running():
                signals.wait(span)
            leave_if_stuck(service)


def leave_if_stuck(service: Service) -> None:
    """A thread that does not end would keep the process for ever. What is committed is safe; the rest is repeated."""
    if service.stuck:
        os._exit(Exit.FAILED)


def _store_is_there(muleteer: Muleteer, signals: Signals) -> bool:
    """Wait for the store, as after a power cut everything starts at once. False if somebody asked to end meanwhile."""
    patience = Patience("start", muleteer.store_outage, longest=5.0)
    while True:
        try:
            muleteer.store.counts()
        except StoreUnavailable as error:
            if signals.wait(timedelta(seconds=patience.failed(error))):
                return False
        else:
            patience.succeeded()
            return True


def listen(home: Home = None, time_: Time = None) -> None:
    """Take messages from the broker into the store, for a while or until stopped. Nothing is dispatched."""
    span = _duration(time_)
    signals = Signals()
    with opened(home, quiet=False) as muleteer:
        if not _store_is_there(muleteer, signals):
            return
        service = Service(muleteer, [Role.LISTENER])
        with service.running():
            signals.wait(span)
        taken = service.taken
        out.print(
            f"{taken.stored} messages stored ({taken.quarantined} of them quarantined), {taken.duplicates} duplicates"
        )
        leave_if_stuck(service)
