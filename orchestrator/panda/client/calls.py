"""HTTP to PanDA: one pool of connections, and every kind of failure told apart in words."""

from __future__ import annotations

import gzip
import json
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

import httpx

from orchestrator.panda.client import address
from orchestrator.panda.client.token import Token
from orchestrator.panda.port import EngineError, EngineInDoubt, EngineRefused, EngineUnavailable
from schemas.site import Site

#: How often something is asked that changes nothing, and the seconds before the second and the third time.
_PAUSES = (0.5, 2.0)
#: These failed before anything was sent.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_NO_TOKEN = "SSL secure connection is required"
#: What the server says when it could not look, not when it looked and found nothing.
_SERVER_TROUBLE = re.compile(r"database|DB failure|DB error|failed to retrieve|exception|time[d ]*out", re.IGNORECASE)
_JSON_BOTH_WAYS = {"Content-Type": "application/json", "Accept": "application/json"}
_LONGEST = 300


class _Passing(Exception):
    """What may be gone in a moment."""

    def __init__(self, text: str, *, sent: bool = True) -> None:
        super().__init__(text)
        self.sent = sent


class Calls:
    """Asks one server, as one VO, with one token. Threads may share it.

    What only asks is asked again a few times when the network or the server fails. What changes something is sent
    once: if no answer comes, it may have been done, and that is `EngineInDoubt`.

    Args:
        connect: seconds to wait for a connection.
        read: seconds to wait for an answer.
    """

    def __init__(
        self,
        site: Site,
        token: Token,
        *,
        connect: float,
        read: float,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._token = token
        self._origin = address.origin(site)
        self._server = address.server(site.url_ssl)
        self._pause = pause
        self._lock = Lock()
        self._made = 0
        directory = address.ca_directory(site)
        verify = ssl.create_default_context(capath=str(directory)) if directory else False
        self._http = httpx.Client(
            base_url=self._server, timeout=httpx.Timeout(read, connect=connect), verify=verify, follow_redirects=False
        )

    @property
    def made(self) -> int:
        """Requests so far, those that were repeated too."""
        return self._made

    def close(self) -> None:
        self._http.close()

    def ask(self, function: str, parameters: Mapping[str, Any], *, read: float | None = None) -> Mapping[str, Any]:
        """Ask `module/function` of the API. Gives the envelope with success, message and data.

        Raises EngineRefused, EngineUnavailable.
        """
        found: Mapping[str, Any] = self._again(
            lambda: self._envelope(
                self._send("GET", f"/api/v1/{function}", read, params=dict(parameters), headers=_JSON_BOTH_WAYS)
            ),
            function,
        )
        return found

    def command(self, function: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have something done. Gives the envelope.

        Raises EngineRefused, EngineUnavailable (nothing was sent), EngineInDoubt.
        """
        found: Mapping[str, Any] = self._once(
            lambda: self._envelope(
                self._send("POST", f"/api/v1/{function}", content=json.dumps(body), headers=_JSON_BOTH_WAYS)
            ),
            function,
        )
        return found

    def relay(self, command: str, arguments: Mapping[str, Any], *, changes: bool) -> Any:
        """Have PanDA ask iDDS. Gives what iDDS answers.

        The server reads no other form than packed JSON. Raises as `ask` does, or as `command` if it `changes`
        something.
        """
        body = {"command_name": command, "manager": True, "json_outputs": True}
        if arguments:
            body["kwargs"] = json.dumps(arguments)
        packed = gzip.compress(json.dumps(body).encode(), mtime=0)

        def send() -> Any:
            path = "/server/panda/relay_idds_command"
            return self._relayed(self._send("POST", path, content=packed, headers={"Content-Type": "application/json"}))

        return self._once(send, command) if changes else self._again(send, command)

    def _again(self, attempt: Callable[[], Any], what: str) -> Any:
        for pause in (*_PAUSES, None):
            try:
                return attempt()
            except _Passing as trouble:
                if pause is None:
                    raise EngineUnavailable(f"{self._server} did not answer {what}: {trouble}") from trouble
                # Not all who were cut off at the same moment come back at the same moment.
                self._pause(pause * random.uniform(0.5, 1.5))
        raise AssertionError("the last attempt either answers or raises")

    def _once(self, attempt: Callable[[], Any], what: str) -> Any:
        try:
            return attempt()
        except _Passing as trouble:
            if not trouble.sent:
                raise EngineUnavailable(f"{self._server} is out of reach, {what} was not sent: {trouble}") from trouble
            raise EngineInDoubt(
                f"{self._server} did not answer {what}, which may have been done or not: {trouble}; look before you "
                "ask again"
            ) from trouble

    def _send(self, method: str, path: str, read: float | None = None, **how: Any) -> Any:
        """One request. Gives the decoded JSON of its answer."""
        headers = {"Authorization": f"Bearer {self._token.text()}", "Origin": self._origin, **how.pop("headers")}
        with self._lock:
            self._made += 1
        timeout = httpx.USE_CLIENT_DEFAULT if read is None else httpx.Timeout(read, connect=self._http.timeout.connect)
        try:
            answer = self._http.request(method, path, headers=headers, timeout=timeout, **how)
        except httpx.HTTPError as error:
            words = self._token.redact(str(error)) or type(error).__name__
            raise _Passing(f"{_trouble(error)} ({words})", sent=not isinstance(error, _NEVER_SENT)) from None
        return self._decoded(answer)

    def _decoded(self, answer: httpx.Response) -> Any:
        text = self._token.redact(answer.text)
        if answer.status_code in (401, 403):
            raise self._forbidden(text)
        if answer.status_code != 200:
            raise _Passing(f"it answered with HTTP {answer.status_code}: {_short(text)}")
        try:
            return json.loads(answer.content)
        except ValueError:
            raise _Passing(f"its answer is not whole, or not PanDA's: {_short(text)}") from None

    def _forbidden(self, text: str) -> EngineError:
        if found := re.search(r"method (\S+) is forbidden", text):
            return EngineRefused(
                f"this PanDA server does not know {found[1]}: it is older or newer than what is spoken here"
            )
        return self._unknown(_short(text))

    def _unknown(self, text: str) -> EngineUnavailable:
        return EngineUnavailable(
            f"{self._server} does not accept our token for {self._origin!r}: {text}. Look at `vo` and "
            "`production_role` in the site's profile, and get a new token if this one was withdrawn"
        )

    def _envelope(self, answer: Any) -> Mapping[str, Any]:
        if not isinstance(answer, dict) or not isinstance(answer.get("success"), bool):
            raise _Passing(f"its answer is not PanDA's: {_short(str(answer))}")
        message = str(answer.get("message") or "")
        if not answer["success"] and _NO_TOKEN in message:
            raise self._unknown(message)
        if not answer["success"] and _SERVER_TROUBLE.search(message):
            raise _Passing(f"it is in trouble: {_short(message)}")
        return answer

    def _relayed(self, answer: Any) -> Any:
        """What is in the two envelopes around an answer of iDDS, PanDA's and its own."""
        if not isinstance(answer, list) or len(answer) != 2:
            raise _Passing(f"its answer is not PanDA's: {_short(str(answer))}")
        good, payload = answer
        if not good and _NO_TOKEN in str(payload):
            raise self._unknown(str(payload))
        if good and isinstance(payload, list) and len(payload) == 2 and payload[0] is False:
            good, payload = payload
        if not good and _SERVER_TROUBLE.search(str(payload)):
            raise _Passing(f"iDDS is in trouble: {_short(str(payload))}")
        if not good:
            raise EngineRefused(f"iDDS says no: {_short(str(payload))}")
        return payload


def _trouble(error: httpx.HTTPError) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its certificate is signed by nobody in the site's ca_directory"
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    return "the connection failed"


def _short(text: str) -> str:
    words = " ".join(re.sub(r"<[^<>]*>", " ", text).split()) or "nothing"
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."
