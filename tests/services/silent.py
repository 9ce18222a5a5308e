"""A service that hangs: it takes every connection and what is sent, and never answers."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Silent:
    """Listens on 127.0.0.1 while the `with` lasts."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        #: Held open, in the order in which they came.
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    @property
    def asked(self) -> int:
        """How many connections there were."""
        return len(self._taken)

    def _take(self) -> None:
        with suppress(OSError):  # closed
            while True:
                self._taken.append(self._listening.accept()[0])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for each in self._taken:
            each.close()
