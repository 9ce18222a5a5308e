"""What files, datasets and containers are in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from orchestrator.rucio.client.ahead import asked_ahead, pool_of
from orchestrator.rucio.client.calls import Calls
from orchestrator.rucio.client.reading import Reading
from orchestrator.rucio.client.rows import chunks, did_of, wire
from orchestrator.rucio.client.session import Client
from schemas.did import Did

_Above = tuple[Did, Sequence[Did]]

#: DIDs that one thread asks about, one by one, before it gives what it has.
_BATCH: Final = 20


class Above:
    """Questions about what is above. Threads may share it. Raises CatalogError, as the port says."""

    def __init__(self, calls: Calls, reading: Reading) -> None:
        self._calls = calls
        self._reading = reading

    def parents(self, dids: Iterable[Did]) -> dict[Did, list[Did]]:
        """What each is directly in."""
        known = self._reading.rows(dids)
        found = self._of_files([did for did, row in known.items() if row["did_type"] == "FILE"])
        with pool_of("parents") as pool:
            one_by_one = chunks((did for did in known if did not in found), _BATCH)
            found |= asked_ahead(pool, self._one_by_one, one_by_one)
        return {did: sorted(found[did], key=lambda each: (each.name, each.scope)) for did in known}

    def _of_files(self, files: Sequence[Did]) -> dict[Did, Sequence[Did]]:
        """A thousand with one request: it tells all that is above a file, and directly in datasets is where files are.

        A file of which it tells nothing is left out.
        """
        with pool_of("above") as pool:
            found = dict(asked_ahead(pool, self._above, chunks(files)))
        kinds = {did: row["did_type"] for did, row in self._reading.rows(_all(found)).items()}
        return {did: [each for each in above if kinds.get(each) != "CONTAINER"] for did, above in found.items()}

    def _above(self, files: Sequence[Did]) -> list[_Above]:
        about = f"what {files[0]} and {len(files) - 1:,} more are in"
        return self._calls.ask(about, partial(_all_above, files=files))

    def _one_by_one(self, dids: Iterable[Did]) -> list[_Above]:
        return [(did, self._calls.ask(f"what {did} is in", partial(_parents, did=did))) for did in dids]


def _all(found: Mapping[Did, Sequence[Did]]) -> dict[Did, None]:
    return {each: None for above in found.values() for each in above}


def _parents(client: Client, did: Did) -> list[Did]:
    return [did_of(row) for row in client.list_parent_dids(*did)]


def _all_above(client: Client, files: Sequence[Did]) -> list[_Above]:
    asked = [wire(did) for did in files]
    rows = client.list_replicas(asked, all_states=True, resolve_archives=False, resolve_parents=True)
    return [(did_of(row), _dids(row)) for row in rows if "parents" in row]


def _dids(row: Mapping[str, Any]) -> list[Did]:
    return [Did(*each.split(":", 1)) for each in dict.fromkeys(row["parents"])]
