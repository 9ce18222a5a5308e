"""Questions to a server that has rules of its own for names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from rucio.common.exception import InvalidObject

from orchestrator.rucio.client.calls import Calls
from orchestrator.rucio.client.reading import Reading
from orchestrator.rucio.port import InvalidDid
from schemas.did import Did

GOOD = [Did("s", f"good-{number}") for number in range(999)]


class Strict:
    """A server of an experiment: no name may begin with a slash, but it may have accents."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, what: str, call: Callable[[Any], Any]) -> Any:
        return call(self)

    def get_metadata_bulk(self, dids: list[dict[str, str]], plugin: str) -> Iterator[dict[str, Any]]:
        self.asked += 1
        if wrong := [each["name"] for each in dids if each["name"].startswith("/")]:
            raise InvalidObject(f"Problem validating did: {wrong[0]!r} does not match '^[^/]*$'")
        return iter([{**each, "did_type": "FILE", "bytes": 1, "adler32": "00000001"} for each in dids])


@pytest.fixture
def server() -> Strict:
    return Strict()


@pytest.fixture
def reading(server: Strict) -> Reading:
    return Reading(cast(Calls, server))


@pytest.mark.parametrize("wrong", [["/x"], ["/x", "/y"], ["/x", "/\xe9", "/z"]])
def test_a_name_against_the_rules_hides_no_other(reading: Reading, server: Strict, wrong: list[str]) -> None:
    """However plain it looks, and wherever it is in the list; it is found with few questions."""
    odd = Did("s", "na\xefve")
    dids = [*GOOD[:500], *(Did("s", name) for name in wrong), odd, *GOOD[500:]]

    assert set(reading.rows(dids)) == {*GOOD, odd}
    assert server.asked < 25 * len(wrong)


def test_what_is_refused_is_not_taken_for_what_there_is_not(reading: Reading) -> None:
    """A file of that name might be registered: the error says which name it is."""
    assert len(reading.registered(GOOD)) == 999

    with pytest.raises(InvalidDid, match=r"^s:/x: this Rucio server does not take such a name"):
        reading.registered([*GOOD, Did("s", "/x")])
