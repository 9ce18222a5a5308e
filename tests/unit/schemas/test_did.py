"""A data identifier of Rucio."""

from __future__ import annotations

import pytest

from schemas.did import Did


def test_a_did_is_written_as_rucio_writes_it() -> None:
    """`scope:name`, and back; a name may hold further colons."""
    assert str(Did.parse("group.sphenix:RUN-1")) == "group.sphenix:RUN-1"
    assert Did.parse("a:b:c") == Did("a", "b:c")


@pytest.mark.parametrize("text", ["", ":", "scope", "scope:", ":name"])
def test_half_a_did_is_none(text: str) -> None:
    """The error shows the text, and an example of how to write it."""
    with pytest.raises(ValueError, match="is not a DID: write scope:name, for example"):
        Did.parse(text)
