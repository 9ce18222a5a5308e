"""Who may look through the window: people with a token, kept in a file as digests."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

#: What a person or a program may be called. The journal shows it.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class TokenError(Exception):
    """The file of tokens cannot be used, or has no such name. The text says what to do."""


class Tokens:
    """Names and their tokens. The file holds digests only: whoever reads it can look up nobody's token.

    A token has 256 random bits, so a plain digest cannot be turned back by guessing.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._read: tuple[tuple[int, int], Mapping[str, str]] | None = None

    def names(self) -> list[str]:
        """Everybody who has a token. Raises TokenError."""
        return sorted(self._digests())

    def add(self, name: str) -> str:
        """Make a token for somebody new. It is shown this once and kept nowhere.

        Raises:
            TokenError: the name will not do, or has a token already.
        """
        if _NAME.fullmatch(name) is None:
            raise TokenError(f"{name!r} is no name: up to 64 letters, digits, `.`, `_`, `@` and `-`")
        digests = dict(self._digests())
        if name in digests:
            raise TokenError(f"{name} has a token already: `muleteer token remove {name}` first, to make a new one")
        token = secrets.token_urlsafe(32)
        self._write({**digests, name: _digest(token)})
        return token

    def remove(self, name: str) -> None:
        """Take somebody's token away; a running service refuses it from then on. Raises TokenError."""
        digests = dict(self._digests())
        if name not in digests:
            raise TokenError(f"{name!r} has no token; those who have: {', '.join(sorted(digests)) or 'nobody'}")
        del digests[name]
        self._write(digests)

    def owner(self, token: str) -> str | None:
        """Whose token this is; None if nobody's. Raises TokenError."""
        digest = _digest(token)
        found = None
        for name, known in self._digests().items():  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _digests(self) -> Mapping[str, str]:
        """The file's content, read again when it has changed."""
        try:
            status = self.file.stat()
        except FileNotFoundError:
            return {}
        stamp = (status.st_mtime_ns, status.st_ino)
        if self._read is None or self._read[0] != stamp:
            try:
                lines = self.file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise TokenError(f"{self.file} cannot be read: {error}") from error
            self._read = stamp, dict(self._entry(number, line) for number, line in enumerate(lines, 1) if line.strip())
        return self._read[1]

    def _entry(self, number: int, line: str) -> tuple[str, str]:
        name, _, digest = line.strip().partition(" ")
        if _NAME.fullmatch(name) is None or re.fullmatch(r"[0-9a-f]{64}", digest) is None:
            raise TokenError(f"{self.file}:{number}: expected a name and a digest, as `muleteer token add` writes them")
        return name, digest

    def _write(self, digests: Mapping[str, str]) -> None:
        """Whole or not at all, and readable by nobody else."""
        partial = self.file.with_name(f"{self.file.name}.{os.getpid()}.partial")
        text = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
        try:
            partial.touch(mode=0o600)
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.file)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise TokenError(f"{self.file} cannot be written: {error}") from error


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()
