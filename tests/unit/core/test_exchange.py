"""Messages as lines of a file: out, in again, and in from donkey's own file."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.exchange import (
    Carried,
    LineError,
    csv_header,
    from_csv,
    from_donkey,
    from_json,
    is_donkey,
    to_csv,
    to_json,
)
from orchestrator.core.message import Rejection, read_body
from schemas.message import MessageState
from tests.unit.making import body, message

BODIES = [
    body(),
    b"",
    b"plain",
    b'{"a": "comma, \\"quote\\""}\r\n{"b": 1}\n',
    "größe   \x85 \x1c".encode(),
    b"\xff\xfe\x00binary",
    b"a\0b",
    b"x" * 200_000,
]


@pytest.mark.parametrize("raw", BODIES, ids=lambda raw: repr(raw[:12]))
def test_a_message_goes_out_as_json_and_comes_in_as_it_was(raw: bytes) -> None:
    """One line holds headers, body to the byte, and state."""
    carried = message(body=raw, state=MessageState.DISPATCHED, headers={"a": "b", "ü": "\n"})

    line = to_json(carried)

    assert "\n" not in line and "\r" not in line
    assert from_json(line) == Carried({"a": "b", "ü": "\n"}, raw, MessageState.DISPATCHED)


@pytest.mark.parametrize("raw", BODIES, ids=lambda raw: repr(raw[:12]))
def test_a_message_goes_out_as_csv_and_comes_in_as_it_was(raw: bytes) -> None:
    """One record holds headers, body to the byte, and state, in the order of the header."""
    carried = message(body=raw, state=MessageState.DROPPED, headers={"a": "b,c"})

    text = f"{csv_header()}\r\n{to_csv(carried)}\r\n"

    assert [each for _, each in from_csv(text)] == [Carried({"a": "b,c"}, raw, MessageState.DROPPED)]


def test_a_csv_record_stands_under_its_header() -> None:
    """Every column of a record holds what the header says; what is not known is empty."""
    header, record = next(csv.reader([csv_header()])), next(csv.reader([to_csv(message(account=None))]))
    values = dict(zip(header, record, strict=True))

    assert (values["id"], values["state"], values["name"]) == ("7", "pending", message().name)
    assert (values["account"], values["bytes"], values["body_base64"]) == ("", "3900", "")


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=40), st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2))
def test_whatever_came_over_the_wire_survives_both_forms(raw: bytes, headers: dict[str, str]) -> None:
    """No byte of a body and no header is lost or changed on the way through a file."""
    carried = message(body=raw, headers=headers)

    assert from_json(to_json(carried)) == Carried(headers, raw, MessageState.PENDING)
    [(_, again)] = from_csv(f"{csv_header()}\r\n{to_csv(carried)}\r\n")
    assert again == Carried(headers, raw, MessageState.PENDING)


def test_a_line_may_hold_the_event_itself() -> None:
    """Who writes frames by hand need not put JSON into JSON; without headers and state it begins anew."""
    carried = from_json('{"body": {"event_type": "close"}}')

    assert carried == Carried({}, b'{"event_type": "close"}', None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "this is not JSON"),
        ("{", "this is not JSON"),
        ("[" * 200_000, "this is not JSON"),
        ("[]", "expected an object"),
        ("17", "expected an object"),
        ("{}", "there is no body"),
        ('{"body": 5}', "there is no body"),
        ('{"body": null}', "there is no body"),
        ('{"body": "", "headers": []}', "headers must be an object, not list"),
        ('{"body_base64": "?"}', "body_base64 cannot be decoded"),
        ('{"body": "", "state": "lost"}', "state is 'lost'; there are: pending, dispatched"),
        ('{"body": "", "state": 5}', "state is 5; there are"),
    ],
)
def test_a_line_without_a_message_says_what_was_expected(line: str, said: str) -> None:
    """The sentence tells how the line should have looked."""
    with pytest.raises(LineError) as refused:
        from_json(line)

    assert said in str(refused.value)


def test_a_broken_record_of_csv_does_not_spoil_the_others() -> None:
    """Each record is read by itself; the line where it ends goes with it."""
    header = "headers,body,state"
    records = list(from_csv(f'{header}\n{{}},"one\ntwo",\n{{,x,\n{{}},x,lost\n{{}},last,dropped\n'))

    assert [number for number, _ in records] == [3, 4, 5, 6]
    assert records[0][1] == Carried({}, b"one\ntwo", None)
    assert isinstance(records[1][1], LineError) and isinstance(records[2][1], LineError)
    assert records[3][1] == Carried({}, b"last", MessageState.DROPPED)


# donkey's file.


def dataset(**changes: Any) -> dict[str, Any]:
    """A dataset as donkey's dataset.py keeps it."""
    return {
        "name": "RUN-1",
        "scope": "group.sphenix",
        "event": "closed",
        "created": "2022-08-01 10:00:00.000001",
        "closed": "2022-08-01 11:00:00.000001",
        "reopened": "nan",
        "account": "sphnxpro",
        "runnumber": 21615,
        "bytes": "nan",
        "length": "nan",
        **changes,
    }


def carried(value: dict[str, Any]) -> list[Carried]:
    found = [each for _, each in from_donkey(value)]
    assert all(isinstance(each, Carried) for each in found), found
    return [each for each in found if isinstance(each, Carried)]


def test_donkeys_lists_become_states() -> None:
    """What donkey had pending is pending, what it dispatched is not dispatched again, what it dropped stays dropped."""
    value = {"pending": [dataset()], "dispatched": [dataset(name="B")], "dropped": [dataset(name="C")], "rules": [1]}

    assert is_donkey(value)
    assert [each.state for each in carried(value)] == ["pending", "dispatched", "dropped"]
    assert [place for place, _ in from_donkey(value)] == ["pending[0]", "dispatched[0]", "dropped[0]"]


@pytest.mark.parametrize("value", [None, 5, [], {}, {"pending": {}}, {"body": "{}"}, {"rules": []}])
def test_only_a_file_with_donkeys_lists_is_donkeys(value: object) -> None:
    """Any other JSON is not taken for donkey's."""
    assert not is_donkey(value)


def test_a_dataset_of_donkeys_becomes_the_event_that_rucio_sent() -> None:
    """Event in Rucio's spelling, at the time donkey kept for it; donkey's `nan` is no count."""
    (one,) = carried({"pending": [dataset()]})

    assert json.loads(one.body) == {
        "event_type": "close",
        "payload": {"scope": "group.sphenix", "name": "RUN-1", "account": "sphnxpro", "run_number": 21615},
        "created_at": "2022-08-01 11:00:00.000001",
    }


@pytest.mark.parametrize(
    ("written", "read"), [("nan", None), ("1300.0", 1300.0), (1300, 1300.0), ("", None), (None, None)]
)
def test_counts_that_donkey_knew_are_kept(written: object, read: float | None) -> None:
    """Numbers count, whether written as text or as numbers; anything else is not known."""
    (one,) = carried({"pending": [dataset(bytes=written)]})

    assert json.loads(one.body)["payload"].get("bytes") == read


@pytest.mark.parametrize(
    ("changes", "moment"),
    [
        ({"event": "create_dts"}, "2022-08-01 10:00:00.000001"),
        ({"event": "opened", "opened": "2022-08-01 12:00:00"}, "2022-08-01 12:00:00"),
        ({"event": "reopened", "reopened": "2022-08-01 12:00:00"}, "2022-08-01 12:00:00"),
    ],
)
def test_each_event_has_the_time_that_donkey_kept_for_it(changes: dict[str, Any], moment: str) -> None:
    """donkey has a field for each: created, closed, reopened."""
    (one,) = carried({"pending": [dataset(**changes)]})

    assert json.loads(one.body)["created_at"] == moment


def test_an_entry_that_is_no_dataset_is_named_and_the_others_are_read() -> None:
    """Unknown shapes are reported with their place; a dataset without a time is read and will be quarantined."""
    value = {"pending": ["words", {}, dataset(closed=None, created=None, reopened=None), dataset()], "dispatched": "x"}

    found = dict(from_donkey(value))

    assert isinstance(found["pending[0]"], LineError) and isinstance(found["pending[1]"], LineError)
    timeless, well = found["pending[2]"], found["pending[3]"]
    assert isinstance(timeless, Carried) and isinstance(read_body(timeless.body), Rejection)
    assert isinstance(well, Carried) and not isinstance(read_body(well.body), Rejection)
