"""What a Rucio server answers is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rucio.client.rows import (
    chunks,
    dataset_entry,
    file_entry,
    guid,
    metadata_of,
    moment,
    readable,
    sayable,
)
from orchestrator.rucio.port import CatalogUnavailable, DatasetState, FileEntry
from schemas.did import Did

ROW: dict[str, Any] = {
    "scope": "s",
    "name": "RUN",
    "did_type": "DATASET",
    "account": "root",
    "is_open": True,
    "created_at": "Sun, 22 Nov 2026 12:12:03 UTC",
    "updated_at": "Sun, 22 Nov 2026 12:12:03 UTC",
    "closed_at": None,
    "expired_at": None,
    "bytes": None,
    "length": None,
    "events": None,
    "campaign": None,
    "run_number": 7,
}


@given(st.integers(0, 3500), st.integers(1, 1000))
def test_lists_are_cut(length: int, most: int) -> None:
    """All of it, in order, none longer than that and none empty."""
    cut = list(chunks(range(length), most))

    assert [item for chunk in cut for item in chunk] == list(range(length))
    assert all(0 < len(chunk) <= most for chunk in cut)


def test_lists_are_cut_to_what_the_server_takes() -> None:
    """A thousand."""
    assert [len(chunk) for chunk in chunks(range(2001))] == [1000, 1000, 1]


@given(st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_times_are_read_as_rucio_writes_them(time: datetime) -> None:
    """UTC, to the second, whatever the language of this machine."""
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    text = f"{days[time.weekday()]}, {time.day:02} {months[time.month - 1]} {time.year} {time:%H:%M:%S} UTC"

    assert moment(text) == time


def test_times_of_other_forms_are_read_too() -> None:
    """With a zone or without, and none at all; nonsense is no time."""
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert moment("2026-11-22T12:00:00") == moment("2026-11-22T14:00:00+02:00") == noon
    assert moment(None) is None
    with pytest.raises(ValueError):
        moment("Sun, 22 Foo 2026 12:12:03 UTC")


def test_an_open_dataset_has_the_counts_of_now() -> None:
    """What Rucio keeps of it is null, or from its last closing."""
    old = {**ROW, "bytes": 5.0, "length": 1, "events": 2, "closed_at": "Sun, 22 Nov 2026 12:12:04 UTC"}

    assert dataset_entry(ROW).bytes == 0
    entry = dataset_entry(old, (57, 3, 0))
    assert (entry.did, entry.state, entry.bytes, entry.length, entry.events) == (
        Did("s", "RUN"),
        DatasetState.OPEN,
        57,
        3,
        0,
    )
    assert entry.closed_at is not None and entry.closed_at - entry.created_at == timedelta(seconds=1)


def test_files_are_read_in_lower_case_with_dashes() -> None:
    """And what is not known is None."""
    row = {"scope": "s", "name": "f", "bytes": 5.0, "adler32": "0A1B2C3D", "md5": "AB" * 16, "events": 7.0}

    entry = file_entry({**row, "guid": "5F0C1E2A9D3B4C4D8E5F60718293A4B5"})

    assert entry == FileEntry(Did("s", "f"), "", 5, "0a1b2c3d", 7, "ab" * 16, "5f0c1e2a-9d3b-4c4d-8e5f-60718293a4b5")
    assert file_entry({**row, "adler32": None, "md5": None, "events": None}) == FileEntry(Did("s", "f"), "", 5, None)
    assert guid(None) is guid("") is None


def test_metadata_is_what_somebody_knows() -> None:
    """Times are times; of what nobody has said only the catalog's own keys are there."""
    known = metadata_of(ROW)

    assert known["created_at"] == datetime(2026, 11, 22, 12, 12, 3, tzinfo=UTC)
    assert (known["run_number"], known["bytes"], known["expired_at"]) == (7, None, None)
    assert {"campaign", "scope", "name"}.isdisjoint(known)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a\n", "a\0", "\udc80", "x" * 501])
def test_some_names_cannot_be_asked_about(name: str) -> None:
    """They would become another name, or another address, on the way."""
    assert not sayable(Did("s", name)) and not sayable(Did(name, "n"))


@pytest.mark.parametrize("name", ["a", "/A/B.c_d-e", "naïve", "a:b", "a%2Fb", "x" * 250])
def test_other_names_are_the_servers_matter(name: str) -> None:
    """Experiments have rules of their own."""
    assert sayable(Did("s", name))


def test_an_answer_of_another_form_is_no_answer() -> None:
    """A login page that says 200 is not Rucio."""
    with pytest.raises(CatalogUnavailable, match="is this a Rucio server"):
        readable(lambda: file_entry({"scope": "s"}))
