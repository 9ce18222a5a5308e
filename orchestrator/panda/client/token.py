"""The OIDC token that says who we are at PanDA. It is never printed, and never written anywhere."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

from orchestrator.clock import utc_now
from orchestrator.panda.port import EngineUnavailable
from schemas.durations import format_duration

#: What stands where a token stood.
HIDDEN = "<token>"
#: A token, or the beginning of one that was cut off.
_LIKE_A_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
#: Bytes. A token file is far smaller.
_LARGEST_FILE = 65_536
_VARIABLES = ("PANDA_AUTH_ID_TOKEN", "OIDC_AUTH_ID_TOKEN")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token speaks for, as it says itself. Nobody has checked its signature: PanDA does that."""

    name: str
    #: What datasets of this person begin with: `user.<nickname>.`
    nickname: str
    groups: tuple[str, ...]
    #: None if the token does not say.
    expires_at: datetime | None

    def makes_official(self, vo: str) -> bool:
        """Whether datasets of the group may be made: the client looks for exactly this word."""
        return f"{vo}/production" in self.groups


@dataclass(frozen=True, slots=True)
class _Held:
    """A token that was read."""

    text: str
    identity: Identity


class Token:
    """The token, read afresh whenever its file changes: it is renewed while we run.

    It is taken from PANDA_AUTH_ID_TOKEN, from OIDC_AUTH_ID_TOKEN, from the file that OIDC_AUTH_TOKEN_FILE names, or
    from the site's token file: the first of them that is there. A file holds the token alone, or JSON with `id_token`
    (the client's own `.token`).

    Args:
        file: the site's token file.
        warn_before: how long before its end `warn` begins to speak.
        warn_every: how often it says so.
    """

    def __init__(
        self,
        file: Path | None,
        environment: Mapping[str, str] = os.environ,
        *,
        warn_before: timedelta = timedelta(days=7),
        warn_every: timedelta = timedelta(hours=12),
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._file = file
        self._environment = environment
        self._warn_before = warn_before
        self._warn_every = warn_every
        self._clock = clock
        self._lock = Lock()
        self._read: tuple[object, _Held] | None = None
        self._warned: tuple[str, datetime] | None = None
        self._hidden: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<the token in {self._variable() or self._path() or 'no place'}>"

    def text(self) -> str:
        """The token itself, for the header and for the client's environment.

        Raises EngineUnavailable: there is none, others may read it, it is no token, or it has expired.
        """
        held, now = self._current(), self._clock()
        expires = held.identity.expires_at
        if expires is not None and expires <= now:
            raise EngineUnavailable(
                f"the token of {held.identity.name} expired on {_when(expires)}, so nothing was sent; "
                f"{self._renewing()}"
            )
        return held.text

    def identity(self) -> Identity:
        """Whom it speaks for. Raises EngineUnavailable as `text` does, but not for one that has expired."""
        return self._current().identity

    def expires_in(self, now: datetime) -> timedelta | None:
        """How long it is good for; negative once it has expired, None if it does not say."""
        expires = self.identity().expires_at
        return None if expires is None else expires - now

    def warn(self, now: datetime) -> str | None:
        """What is to be said about its end, in words; None if it is far off or was said a short time ago."""
        identity, left = self.identity(), self.expires_in(now)
        if identity.expires_at is None or left is None or left > self._warn_before:
            return None
        with self._lock:
            subject = f"{identity.name} {identity.expires_at}"
            if self._warned and self._warned[0] == subject and now - self._warned[1] < self._warn_every:
                return None
            self._warned = (subject, now)
        ends = f"expires in {roughly(left)}" if left > timedelta(0) else "has expired"
        return f"the token of {identity.name} {ends}, on {_when(identity.expires_at)}: {self._renewing()}"

    def redact(self, text: str) -> str:
        """The text without any token in it: ours of now and of before, and whatever else looks like one."""
        for secret in self._hidden:
            text = text.replace(secret, HIDDEN)
        return _LIKE_A_TOKEN.sub(HIDDEN, text)

    def _current(self) -> _Held:
        with self._lock:
            if variable := self._variable():
                raw = self._environment[variable].strip()
                return self._keep(raw, lambda: raw, variable)
            file = self._path()
            if file is None:
                raise EngineUnavailable(f"there is no token, so nothing was sent; {self._renewing()}")
            with _opened(file) as (mark, read):
                return self._keep((file, mark), read, str(file))

    def _keep(self, mark: object, read: Callable[[], str], where: str) -> _Held:
        """What was read before, unless the mark is another one."""
        if self._read is None or self._read[0] != mark:
            held = _held(read(), where)
            self._read = (mark, held)
            self._hidden = (held.text, *self._hidden[:7])
        return self._read[1]

    def _path(self) -> Path | None:
        named = self._environment.get("OIDC_AUTH_TOKEN_FILE")
        return Path(named).expanduser() if named else self._file

    def _variable(self) -> str | None:
        """The environment variable that holds the token, if one does."""
        return next((name for name in _VARIABLES if self._environment.get(name, "").strip()), None)

    def _renewing(self) -> str:
        if variable := self._variable():
            return f"start again with a new one in {variable}, or unset that and use a token file, which is read afresh"
        if (file := self._path()) is not None:
            return f"put a new one into {file} (mode 0600): it is read afresh, and what waits is tried again"
        return "set token_file in the site's profile, or PANDA_AUTH_ID_TOKEN"


class _opened:
    """An open token file that nobody else may read: what tells one state of it from another, and how to read it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[object, Callable[[], str]]:
        try:
            self._stream = self._path.open("rb")
        except OSError as error:
            raise EngineUnavailable(
                f"the token file {self._path} cannot be read, so nothing was sent: {error.strerror}"
            ) from error
        status = os.fstat(self._stream.fileno())
        if status.st_mode & _OTHERS:
            self._stream.close()
            raise EngineUnavailable(
                f"the token file {self._path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}), so it is "
                f"not used and nothing was sent: chmod 600 {self._path}"
            )
        return (status.st_mtime_ns, status.st_size, status.st_ino), self._text

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _text(self) -> str:
        return self._stream.read(_LARGEST_FILE).decode("utf-8", "replace").strip()


def _held(raw: str, where: str) -> _Held:
    text = raw
    if raw.startswith("{"):
        found = _json(raw).get("id_token")
        text = found.strip() if isinstance(found, str) else ""
    claims = _claims(text) if _TOKEN.fullmatch(text) else None
    if claims is None:
        raise EngineUnavailable(
            f"what is in {where} is no token, so nothing was sent: it must be a JSON Web Token (three parts between "
            "dots), or JSON that has one as id_token"
        )
    return _Held(text, _identity(claims))


def _claims(token: str) -> Mapping[str, Any] | None:
    part = token.split(".")[1]
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return None
    return _json(decoded.decode("utf-8", "replace")) or None


def _json(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _identity(claims: Mapping[str, Any]) -> Identity:
    groups, expires = claims.get("groups"), claims.get("exp")
    nickname = str(claims.get("preferred_username") or "")
    return Identity(
        name=str(claims.get("name") or nickname or claims.get("sub") or "somebody"),
        nickname=nickname,
        groups=tuple(str(group) for group in groups) if isinstance(groups, list) else (),
        expires_at=_moment(expires) if isinstance(expires, int | float) else None,
    )


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # later than any calendar
        return None


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def roughly(span: timedelta) -> str:
    """A length of time in its largest unit: nobody wants the seconds of a week."""
    for unit in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)):
        if span >= unit:
            return format_duration(span // unit * unit)
    return "less than a minute"
