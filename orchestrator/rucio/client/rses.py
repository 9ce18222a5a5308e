"""Where an RSE keeps files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote_plus

from orchestrator.rucio.client.addresses import parted, quoted, tidy
from orchestrator.rucio.client.calls import Calls
from orchestrator.rucio.client.rows import readable
from orchestrator.rucio.client.session import Client
from orchestrator.rucio.port import FileEntry, InvalidPfn, RseNotFound
from schemas.did import Did

#: So long what was said of an RSE is taken for true, in seconds.
_FRESH: Final = 600.0

#: Characters of names in one question: they stand in its URL, and servers take 4 kB of that.
_MOST: Final = 3000


@dataclass(frozen=True, slots=True)
class Way:
    """One that is open to an RSE: what is said to ask for its addresses."""

    scheme: str
    #: `wan` or `lan`.
    domain: str
    #: `write` or `read`.
    operation: str


@dataclass(frozen=True, slots=True)
class Rse:
    """One RSE."""

    name: str
    #: Whether the catalog says where a file lies. It knows by itself then, and takes no other place.
    deterministic: bool
    #: What the URLs of files there begin with, and the part of it that is a path.
    prefixes: tuple[tuple[str, str], ...]
    #: None if there is none.
    way: Way | None = None

    def pfn_of(self, entry: FileEntry) -> str | None:
        """The PFN to register a file with; None if the catalog makes it. Raises InvalidPfn.

        A path becomes a URL of the first protocol that has it beneath its prefix.
        """
        if self.deterministic:
            return None
        if not entry.pfn:
            raise InvalidPfn(f"{entry.did} has no PFN, and {self.name} does not know by itself where files lie")
        if not entry.pfn.startswith("/"):
            return tidy(entry.pfn)
        for url, path in self.prefixes:
            if entry.pfn.startswith(path):
                return url + self._written(entry, url, entry.pfn.removeprefix(path))
        raise InvalidPfn(f"{entry.did} lies at {entry.pfn}; {self.places()}")

    def _written(self, entry: FileEntry, url: str, rest: str) -> str:
        if url.startswith("file:"):
            return quoted(rest)
        if "#" in rest or "?" in rest:
            raise InvalidPfn(f"{entry.did} lies at {entry.pfn}: no address of {self.name} can have # or ? in it")
        return rest

    def beneath(self, pfn: str) -> str | None:
        """What of a PFN follows a prefix of this RSE: the same for all protocols. None if it does not lie there."""
        if pfn.startswith("/"):
            return next((pfn.removeprefix(path) for _, path in self.prefixes if pfn.startswith(path)), None)
        parts = parted(pfn)
        for url, path in self.prefixes:
            if parts is not None and _same_place(parts, url) and parts[2].startswith(path):
                return parts[2].removeprefix(path)
        return None

    def places(self) -> str:
        return f"{self.name} has files at {' or '.join(url for url, _ in self.prefixes) or 'no place at all'}"


class Rses:
    """RSEs, asked for once in a while. Threads may share it."""

    def __init__(self, calls: Calls, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls = calls
        self._clock = clock
        self._changing = threading.Lock()
        self._known: dict[str, tuple[float, Rse]] = {}

    def get(self, name: str) -> Rse:
        """Raises RseNotFound, CatalogUnavailable."""
        with self._changing:
            found = self._known.get(name)
        if found is not None and self._clock() - found[0] < _FRESH:
            return found[1]
        if not name or not name.isascii() or not name.isprintable() or "/" in name:
            raise RseNotFound(f"{name!r} is no name of an RSE")
        answer = self._calls.ask(f"RSE {name}", lambda client: client.get_rse(name))
        rse = readable(lambda: _rse(answer))
        with self._changing:
            self._known[name] = (self._clock(), rse)
        return rse

    def computed(self, rse: Rse, dids: Iterable[Did]) -> Mapping[Did, list[str]]:
        """Where a deterministic RSE has files of these names, or would have them. Of some it may not know it."""
        found: dict[Did, list[str]] = {}
        if rse.way is not None:
            for some in _pieces(dids):
                pfns = self._calls.ask(
                    f"places at {rse.name}", partial(_addresses, rse=rse.name, way=rse.way, dids=some)
                )
                found |= {did: [pfns[str(did)]] for did in some if str(did) in pfns}
        return found


def _addresses(client: Client, rse: str, way: Way, dids: Iterable[Did]) -> Mapping[str, str]:
    names = [str(did) for did in dids]
    answer: Mapping[str, str] = client.lfns2pfns(rse, names, way.domain, way.operation, way.scheme)
    return answer


def _pieces(dids: Iterable[Did]) -> Iterator[list[Did]]:
    """As many as fit into one question."""
    piece: list[Did] = []
    length = 0
    for did in dids:
        more = len("&lfn=") + len(quote_plus(str(did)))
        if piece and length + more > _MOST:
            yield piece
            piece, length = [], 0
        piece.append(did)
        length += more
    if piece:
        yield piece


def _same_place(parts: tuple[str, str, str], url: str) -> bool:
    """Whether an address is of the protocol whose URLs begin like this. A server of the name localhost is anywhere."""
    ours = parted(url)
    return ours is not None and parts[0] == ours[0] and ours[1] in ("localhost", parts[1])


def _rse(row: Mapping[str, Any]) -> Rse:
    # SRM hides the path in a query: what lies there must be given as a URL
    protocols = [each for each in row["protocols"] if each["scheme"] != "srm"]
    prefixes = tuple(_prefix(each) for each in protocols)
    return Rse(row["rse"], bool(row["deterministic"]), prefixes, next(_ways(protocols), None))


def _ways(protocols: Iterable[Mapping[str, Any]]) -> Iterator[Way]:
    for protocol in protocols:
        for domain in ("wan", "lan"):
            for operation in ("write", "read"):
                if (protocol["domains"].get(domain) or {}).get(operation):
                    yield Way(protocol["scheme"], domain, operation)


def _prefix(protocol: Mapping[str, Any]) -> tuple[str, str]:
    """`file://localhost:0/data/` and `/data/`."""
    path = "/" + str(protocol["prefix"]).strip("/") + "/"
    path = "/" if path == "//" else path
    return f"{protocol['scheme']}://{protocol['hostname']}:{protocol['port']}{path}", path
