"""How far a registration is, on a terminal: files done, bytes read, their rate, and the time that is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from orchestrator.cli.terminal import err


class Shown:
    """What was told so far. Threads that read files tell of it all the time, and are not held up."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._phase = ""
        self._begun = time.monotonic()
        self._ended: float | None = None
        self._lock = threading.Lock()
        self.bytes_read = 0

    def tell(self, what: str, done: int, of: int) -> None:
        """So many files of so many were `listed`, `summed`, `attached`."""
        if self._progress is None:
            return
        if what != self._phase or self._task is None:
            self._phase = what
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(what, total=of, rate="")
        self._progress.update(self._task, completed=done, total=of, rate=self._rate())

    def read(self, size: int) -> None:
        """So many more bytes were read."""
        with self._lock:
            self.bytes_read += size
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, rate=self._rate())

    def end(self) -> None:
        """Nothing more is shown."""
        self._ended = time.monotonic()
        if self._progress is not None:
            self._progress.stop()

    @property
    def seconds(self) -> float:
        """How long it took, or takes until now."""
        return (self._ended or time.monotonic()) - self._begun

    def summary(self) -> str:
        """Seconds and rate, in a line."""
        said = f"{self.seconds:.1f} s"
        return f"{said}; {self._rate()}" if self.bytes_read else said

    def _rate(self) -> str:
        if not self.bytes_read:
            return ""
        rate = self.bytes_read / max(self.seconds, 0.001)
        return f"{decimal(self.bytes_read)} read, {decimal(int(rate))}/s"


@contextmanager
def shown(*, silent: bool) -> Iterator[Shown]:
    """Show it on standard error while the body lasts, if that is a terminal."""
    if silent or not err.is_terminal:
        yield Shown(None)
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        yield Shown(progress)
