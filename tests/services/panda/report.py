"""The log of one workflow request, which is sent back to who asked."""

from __future__ import annotations

from datetime import UTC, datetime


class Report:
    """Lines with their times, as the server's logger writes them."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def say(self, text: str) -> None:
        moment = datetime.now(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
        self._lines.append(f"{moment} : {text}\n")

    def text(self) -> str:
        return "".join(self._lines)
