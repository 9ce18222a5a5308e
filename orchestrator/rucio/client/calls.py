"""Calls to a Rucio server: what may be repeated is, and a server that keeps failing is left alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from configparser import Error as ConfigParserError
from json import JSONDecodeError
from typing import Final, TypeVar

from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import ConnectTimeout, ReadTimeout, SSLError
from rucio.common.exception import ConfigLoadingError, DatabaseException, RucioException
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from orchestrator.rucio.client.access import Access
from orchestrator.rucio.client.breaker import Breaker, Failed, Resting, Unsure
from orchestrator.rucio.client.errors import translated, words
from orchestrator.rucio.client.session import (
    Client,
    Clients,
    ServerAway,
    TokenRefused,
    TokenUnusable,
    without_secrets,
)
from orchestrator.rucio.port import CatalogError, CatalogUnavailable, DidExists, NotAdmitted

_Answer = TypeVar("_Answer")

#: Seconds before the second and the third try, roughly.
_PAUSES: Final = (0.3, 1.5)
#: With these a server says that something went wrong. Much that it refuses is an HTTP 500 too, but has a name.
_VAGUE: Final = (RucioException, DatabaseException)


class _Trouble(Failed):
    """The server could not be reached, or did not answer."""

    def __init__(self, text: str, *, sent: bool, again: bool = True, admitted: bool = True) -> None:
        super().__init__(text)
        #: Whether it is not that the server refuses the account.
        self.admitted = admitted
        #: Whether the server may have got the request.
        self.sent = sent
        #: Whether it can be better in a moment.
        self.again = again


class _Broken(Unsure):
    """The server answered with HTTP 500: this request is too much for it, or it is in trouble."""


class Calls:
    """Carries calls out. Threads may share it.

    Every method takes `what`, for errors: what it is about.
    """

    def __init__(
        self,
        access: Access,
        *,
        breaker: Breaker | None = None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._clients = Clients(access)
        self._breaker = breaker or Breaker(clock=clock)
        self._pause = pause
        self._clock = clock

    def close(self) -> None:
        self._clients.close()

    def ask(self, what: str, call: Callable[[Client], _Answer]) -> _Answer:
        """Something that may be repeated: it changes nothing, or what it changes it changes once.

        The call reads all of the answer that it wants. Raises CatalogError, as `translated` has it.
        """
        for pause in (*_PAUSES, None):
            try:
                return self._attempt(what, call)
            except (_Trouble, _Broken) as trouble:
                # of a server that fails all the time nothing is asked twice
                if pause is None or not getattr(trouble, "again", True) or self._breaker.is_open:
                    raise self._verdict(what, trouble) from trouble
                self._wait(pause)
        raise AssertionError("the last attempt either answers or raises")

    def create(self, what: str, call: Callable[[Client], object], ours: Callable[[Client, float], bool]) -> None:
        """Something that succeeds once. After a try that was not answered, what is there may be ours.

        Args:
            ours: whether it was made in the last so many seconds, by us.
        """
        began, unsure = self._clock(), False
        for pause in (*_PAUSES, None):
            try:
                self._attempt(what, call)
                return
            except DidExists:
                if unsure and self.ask(what, lambda client: ours(client, self._clock() - began)):
                    return
                raise
            except _Broken as trouble:  # it was rolled back
                raise self._verdict(what, trouble) from trouble
            except _Trouble as trouble:
                unsure = unsure or trouble.sent
                if pause is None or not trouble.again:
                    raise self._verdict(what, trouble) from trouble
                self._wait(pause)

    def _attempt(self, what: str, call: Callable[[Client], _Answer]) -> _Answer:
        try:
            with self._breaker.passing():
                return self._with_token(call)
        except Resting as resting:
            raise CatalogUnavailable(f"{what}: {self._access.host} is away: {resting}") from None
        except RucioException as error:
            raise translated(error, what) from error

    def _with_token(self, call: Callable[[Client], _Answer]) -> _Answer:
        """Sign in anew, once, if the token is refused."""
        try:
            return self._send(call)
        except TokenRefused:
            self._clients.renew()
        try:
            return self._send(call)
        except TokenRefused as refused:
            raise self._unknown(str(refused)) from refused

    def _send(self, call: Callable[[Client], _Answer]) -> _Answer:
        client = self._signed_in()
        try:
            return call(client)
        except RucioException as error:
            if client.status >= 500 and type(error) in _VAGUE:
                raise _Broken(self._clean(words(error))) from error
            raise
        except ServerAway as error:
            raise _Trouble(str(error), sent=True) from None
        except TokenUnusable as error:
            raise _Trouble(str(error), sent=False, again=False) from None
        except JSONDecodeError as error:
            raise _Trouble("its answer is not whole, or not Rucio's", sent=True) from error
        except OSError as error:
            raise self._unreached(error) from error

    def _signed_in(self) -> Client:
        try:
            return self._clients.mine()
        except TokenUnusable as error:
            raise _Trouble(str(error), sent=False, again=False) from None
        except ServerAway as error:
            raise _Trouble(str(error), sent=False) from None
        except (ConfigLoadingError, ConfigParserError) as error:
            raise _Trouble(
                f"Rucio's client stumbles over some rucio.cfg ({type(error).__name__}): unset RUCIO_CONFIG",
                sent=False,
                again=False,
            ) from error
        except RucioException as error:
            raise self._unknown(words(error)) from error
        except OSError as error:
            raise self._unreached(error, sent=False) from error

    def _unknown(self, said: str) -> _Trouble:
        """Trying again with the same credentials would at best get the account locked."""
        access = self._access
        return _Trouble(
            f"it does not let us in as {access.account} ({access.auth_type}): {self._clean(said)}; look at account, "
            "auth_type and the credentials in [catalog]",
            sent=False,
            again=False,
            admitted=False,
        )

    def _unreached(self, error: OSError, sent: bool | None = None) -> _Trouble:
        if sent is None:
            sent = not _never_sent(error)
        what, again = "the connection failed", True
        if isinstance(error, SSLError):
            what, again = "its certificate is not trusted, set catalog.ca_cert", False
        elif isinstance(error, ReadTimeout):
            # it may still work on it: the same once more would be more load, and take as long
            what, again = f"no answer within {self._access.timeout[1]:.0f}s, set catalog.timeout", False
        return _Trouble(f"{what}: {self._clean(_innermost(error))}", sent=sent, again=again)

    def _verdict(self, what: str, trouble: Exception) -> CatalogError:
        """A server that answers other questions is not away: this one is more than it can do."""
        if isinstance(trouble, _Broken) and self._alive():
            return CatalogError(f"{what}: an error in the Rucio server, while it answers other requests: {trouble}")
        if isinstance(trouble, _Trouble) and not trouble.admitted:
            return NotAdmitted(f"{what}: {self._access.host} answers, but {trouble}")
        return CatalogUnavailable(f"{what}: {self._access.host} is away: {trouble}")

    def _alive(self) -> bool:
        """Whether it can answer what needs its database. If not, that is one failure."""
        try:
            self._attempt("whoami", _who_am_i)
        except (CatalogError, _Trouble):
            return False
        return True

    def _wait(self, seconds: float) -> None:
        # Not all who were cut off at the same moment come back at the same moment.
        self._pause(seconds * random.uniform(0.5, 1.5))

    def _clean(self, text: str) -> str:
        return without_secrets(text, self._access.credentials)


def is_servers_error(error: CatalogError) -> bool:
    """Whether the server failed on a request while it answers others."""
    return isinstance(error.__cause__, _Broken) and not isinstance(error, CatalogUnavailable)


def _who_am_i(client: Client) -> object:
    try:
        return client.whoami()
    except RucioException as error:
        if client.status >= 500:
            raise _Trouble(words(error), sent=True) from error
        raise


def _innermost(error: OSError) -> str:
    """What went wrong, without the objects that it went through."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    said = str(reason or error)
    return said.partition("): ")[2] or said


def _never_sent(error: OSError) -> bool:
    """Whether the connection failed before a request was on it."""
    if isinstance(error, ConnectTimeout | SSLError):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, RequestsConnectionError) and isinstance(reason, NewConnectionError | ConnectTimeoutError)
