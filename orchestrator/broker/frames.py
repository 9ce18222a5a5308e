"""Bytes into frames: what STOMP 1.1 and 1.2 send from a broker to a client.

stomp.py's own parser runs two regular expressions over each header and copies what it has read for each frame. For
small frames that is two thirds of the work of receiving them, and with the interpreter's lock held it is taken from
the thread that stores them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_MEANING: Final = {"n": "\n", "r": "\r", "c": ":", "\\": "\\"}


class RawFrame(NamedTuple):
    """One frame of any kind. The names are stomp.py's, which is handed those that it cares for."""

    cmd: str
    headers: dict[str, str]
    body: bytes


class FrameReader:
    """Takes bytes as they come, and gives the frames that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: The buffer is not looked at before it is so long: the body of a large frame is still coming.
        self._enough = 0

    def feed(self, data: bytes) -> Iterator[RawFrame]:
        """The frames that these bytes complete. Line ends between frames, which are heart-beats, are passed over."""
        self._buffer += data
        if len(self._buffer) < self._enough:
            return
        whole = bytes(self._buffer)
        start, size = 0, len(whole)
        while True:
            while start < size and whole[start] in b"\r\n":
                start += 1
            end = self._end_of_head(whole, start)
            if end is None:
                self._enough = 0
                break
            head, body_start = end
            command, headers = _parse_head(whole[start:head])
            body_end = _body_end(whole, body_start, headers)
            if body_end < 0 or body_end >= size:
                self._enough = body_end + 1 - start if body_end > 0 else 0
                break
            yield RawFrame(command, headers, whole[body_start:body_end])
            start = body_end + 1
        del self._buffer[:start]

    @staticmethod
    def _end_of_head(whole: bytes, start: int) -> tuple[int, int] | None:
        """Where the headers end and where the body begins; None if the headers are not all there."""
        plain = whole.find(b"\n\n", start)
        dos = whole.find(b"\n\r\n", start, plain) if plain >= 0 else whole.find(b"\n\r\n", start)
        if dos >= 0:
            return dos, dos + 3
        return (plain, plain + 2) if plain >= 0 else None


def _body_end(whole: bytes, start: int, headers: dict[str, str]) -> int:
    """Where the body's closing NUL is, or will be; below 0 if nobody knows yet."""
    length = headers.get("content-length", "")
    if length.isdecimal():
        return start + int(length)
    return whole.find(b"\0", start)


def _parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    """The command and the headers; of a header that is repeated, the first counts. Nothing in them is refused."""
    lines = head.decode("utf-8", "surrogateescape").split("\n")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.rstrip("\r").partition(":")
        if "\\" in line:
            name, value = _unescape(name), _unescape(value)
        headers.setdefault(name, value)
    return lines[0].strip(), headers


def _unescape(text: str) -> str:
    if text.count("\\") == text.count("\\c"):  # an ActiveMQ message-id is full of colons, and has nothing else
        return text.replace("\\c", ":")
    return _ESCAPED.sub(lambda sign: _MEANING.get(sign[1], sign[0]), text)
