"""Rucio's own client, without its retries, its prompts and its files in /tmp; one for each thread."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from weakref import WeakSet

from requests import Response
from rucio.client.accountclient import AccountClient
from rucio.client.didclient import DIDClient
from rucio.client.pingclient import PingClient
from rucio.client.replicaclient import ReplicaClient
from rucio.client.rseclient import RSEClient
from rucio.client.ruleclient import RuleClient
from rucio.client.scopeclient import ScopeClient

from orchestrator.rucio.client.access import Access

#: Rucio's client logs every failure that we tell of ourselves, and on its own handler.
_SILENT = logging.Logger("rucio", level=logging.CRITICAL + 1)

#: Bytes of an answer that are read at once. Rucio's client takes 512.
_BLOCK = 1 << 16

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class TokenUnusable(Exception):
    """The token cannot be had, or cannot be kept. The text says what to do."""


class TokenRefused(Exception):
    """The server does not take the token: it has expired, or it was withdrawn."""


class ServerAway(Exception):
    """An answer that is not Rucio's: a proxy before it says that there is no server."""


class _Copies(ReplicaClient, RSEClient, RuleClient):  # type: ignore[misc]  # no type hints
    """What is asked about copies and what holds them."""


class Client(_Copies, AccountClient, DIDClient, PingClient, ScopeClient):  # type: ignore[misc]  # no type hints
    """Sends each request once. Not for several threads at once: a `requests.Session` is not.

    Raises:
        TokenUnusable, TokenRefused, ServerAway, and whatever Rucio's client and `requests` raise.
    """

    # Its own loops: three tries within three milliseconds, of what must not be repeated too.
    AUTH_RETRIES = 0
    REQUEST_RETRIES = -1

    def __init__(self, access: Access) -> None:
        self._access = access
        #: The status of the last answer, and the server's clock as it said it then.
        self.status = 0
        self.server_date: str | None = None
        name = sys.argv[0]
        try:
            super().__init__(
                rucio_host=access.host,
                auth_host=access.auth_host,
                account=access.account,
                ca_cert=access.ca_cert,
                auth_type=access.auth_type,
                creds=dict(access.credentials),
                timeout=access.timeout,  # requests takes the two kinds apart
                user_agent="muleteer",
                vo=access.vo,
                logger=_SILENT,
            )
        finally:
            sys.argv[0] = name  # which Rucio's client shortens for everybody
        self.request_retries = self.REQUEST_RETRIES  # a rucio.cfg that lies about may have said otherwise

    def close(self) -> None:
        self.session.close()

    def _get_auth_tokens(self) -> tuple[str | None, str, str, str]:
        """Where the token is kept. Rucio's client would take a name in /tmp that anybody can be first at."""
        access = self._access
        if access.token_file is not None:
            _read_token(access.token_file)  # else Rucio's client would ask at the terminal
            return None, os.devnull, str(access.token_file), str(access.token_file.parent)
        _make_private(access.tokens)
        file = access.tokens / access.token_name
        return None, f"{file}-expiry", str(file), str(access.tokens)

    def _send_request(self, url: str, method: Any, *args: Any, get_token: bool = False, **more: Any) -> Response:
        if self._access.token_file is not None:
            self.auth_token = _read_token(self._access.token_file)
        # it is always told that a token is fetched: else it would sign in by itself whenever a permission is missing
        answer: Response = super()._send_request(url, method, *args, get_token=True, **more)
        self.status = answer.status_code
        self.server_date = answer.headers.get("Date")
        if get_token and answer.status_code >= 500:  # else Rucio's client says that we are not known
            raise ServerAway(f"HTTP {answer.status_code} {answer.headers.get('ExceptionMessage') or answer.reason}")
        # a missing permission is a 401 too
        if answer.status_code == 401 and not get_token and answer.headers.get("ExceptionClass") != "AccessDenied":
            raise TokenRefused(answer.headers.get("ExceptionMessage") or "HTTP 401")
        if answer.status_code in (502, 503, 504) and "ExceptionClass" not in answer.headers:
            raise ServerAway(f"HTTP {answer.status_code} {answer.reason}")
        return answer

    def _back_off(self, retry_number: int, reason: str) -> None:
        """Nobody waits here: whoever called may have somebody else to ask."""

    def _load_json_data(self, response: Response) -> Iterator[Any]:
        """As Rucio's client does it, but in larger blocks, and without looking for a date in every text."""
        kind = response.headers.get("content-type")
        if kind == "application/x-json-stream":
            yield from (json.loads(line) for line in response.iter_lines(chunk_size=_BLOCK) if line)
        elif kind == "application/json":
            yield response.json()
        elif response.text:
            yield response.text

    def age(self, created_at: Any) -> float | None:
        """Seconds from that moment to the last answer, by the server's own clock; None if it did not say."""
        if self.server_date is None:
            return None
        return float((parsedate_to_datetime(self.server_date) - created_at).total_seconds())


class Clients:
    """A client for each thread, made when it is first needed; a token that is refused is replaced once."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._mine = threading.local()
        self._all: WeakSet[Client] = WeakSet()
        self._renewing = threading.Lock()

    def mine(self) -> Client:
        """This thread's client. Signs in if there is no token; raises what `Client` raises."""
        client: Client | None = getattr(self._mine, "client", None)
        if client is None:
            with self._renewing:  # so that threads that start together sign in once
                client = Client(self._access)
            self._mine.client = client
            self._all.add(client)
        return client

    def renew(self) -> None:
        """Forget this thread's client, and its token unless another thread has got a new one meanwhile."""
        refused, self._mine.client = self._mine.client, None
        refused.close()
        if self._access.token_file is not None:
            return
        kept = self._access.tokens / self._access.token_name
        with self._renewing:
            if kept.exists() and kept.read_text() == refused.auth_token:
                kept.unlink(missing_ok=True)

    def close(self) -> None:
        for client in list(self._all):
            client.close()


def _read_token(file: Path) -> str:
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenUnusable(f"the token cannot be read from {file}: {error}") from None
    if not token or not token.isprintable():
        raise TokenUnusable(f"{file} holds no token: whoever renews it should look")
    return token


def _make_private(directory: Path) -> None:
    """Make the directory, for us alone."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_uid != os.geteuid():
            raise TokenUnusable(f"{directory} belongs to somebody else, so no token is kept there: take it away")
        if found.st_mode & _OTHERS:
            directory.chmod(0o700)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise TokenUnusable(f"{directory} cannot be written: tokens of Rucio are kept there")
    except OSError as error:
        raise TokenUnusable(f"tokens of Rucio cannot be kept in {directory}: {error.strerror}") from None


def without_secrets(text: str, credentials: Mapping[str, str]) -> str:
    """A text of the server or of the client, without the password."""
    password = credentials.get("password")
    return text.replace(password, "***") if password else text
