"""Reading a frame: what is a catalog event, what is not and why, and when two frames are the same event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.message import BODY_LIMIT, Rejection, count_of, identity, identity_of_rejected, read_body
from schemas.did import Did
from schemas.event import SPELLINGS, CatalogEvent
from tests.unit.making import FRAMES, NAME, NOW, SCOPE, body

WELL: Mapping[str, Any] = json.loads(body())


def event(raw: bytes) -> CatalogEvent:
    """The event in a body that must be readable."""
    found = read_body(raw)
    assert isinstance(found, CatalogEvent), found
    return found


def reason(raw: bytes) -> str:
    """Why a body was rejected."""
    found = read_body(raw)
    assert isinstance(found, Rejection), found
    return found.reason


def changed(**changes: Any) -> bytes:
    """A well-formed close with some of its parts replaced; None takes a part out."""
    return json.dumps({key: value for key, value in {**WELL, **changes}.items() if value is not None}).encode()


@pytest.mark.parametrize("sample", FRAMES, ids=lambda sample: sample["headers"]["event_type"])
def test_every_frame_that_hermes_really_sent_is_read(sample: Mapping[str, Any]) -> None:
    """Type, DID and time are read from the body alone; the type agrees with the header that brokers may drop."""
    document = json.loads(sample["body"])

    found = event(sample["body"].encode())

    assert found.event_type == sample["headers"]["event_type"] == document["event_type"]
    assert found.did == Did(document["payload"]["scope"], document["payload"]["name"])
    assert found.created_at == datetime.fromisoformat(document["created_at"]).replace(tzinfo=UTC)
    assert found.payload == document["payload"]


def test_the_sample_holds_every_kind_of_event_that_was_measured() -> None:
    """The sample is what it says: 44 frames, 18 event types, each frame an event of its own."""
    events = [event(sample["body"].encode()) for sample in FRAMES]

    assert len(events) == 44
    assert len({each.event_type for each in events}) == 18
    assert len({identity(each) for each in events}) == 44


def test_an_event_that_is_not_known_is_an_event_all_the_same() -> None:
    """Rucio adds event types; one without a DID is accepted too."""
    known = event(changed(event_type="dataset-frobnicated"))
    bare = event(changed(event_type="heart-beat", payload={"host": "rucio1"}))

    assert (known.event_type, known.did) == ("dataset-frobnicated", Did(SCOPE, NAME))
    assert (bare.event_type, bare.did) == ("heart-beat", None)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("close", "close"), ("CLOSE", "close"), (" Closed ", "close"), ("REOPENED", "open"), *SPELLINGS.items()],
)
def test_both_spellings_of_an_event_are_one_event(spelling: str, name: str) -> None:
    """`closed`, `CLOSE` and `close` are the same event, with the same identity."""
    found = event(changed(event_type=spelling))

    assert found.event_type == name
    assert identity(found) == identity(event(changed(event_type=name)))


def test_an_event_of_a_life_is_one_that_places_a_dataset() -> None:
    """create, open, close and erase of a DID say where it stands; a detach does not."""
    assert [event(changed(event_type=word)).of_a_life for word in ("create_cnt", "open", "close", "erase")] == [
        True
    ] * 4
    assert not event(changed(event_type="detach")).of_a_life


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-22 01:13:40.292656", NOW),
        ("2026-11-22T01:13:40.292656Z", NOW),
        ("2026-11-22 02:13:40.292656+01:00", NOW),
        (" 2026-11-22 01:13:40 ", NOW.replace(microsecond=0)),
    ],
)
def test_a_time_without_a_zone_is_utc(written: str, meant: datetime) -> None:
    """hermes writes naive UTC to the microsecond; a time with a zone is taken at its word."""
    found = event(changed(created_at=written)).created_at

    assert (found, found.utcoffset()) == (meant, meant.utcoffset())


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (57, 57),
        (57.0, 57),  # what PostgreSQL makes of it
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (float(2**63), None),
        (10**400, None),
        (-1, -1),
        (float("nan"), None),
        (float("inf"), None),
        (float("-inf"), None),
        (True, None),
        ("57", None),
        (None, None),
        ([57], None),
    ],
)
def test_a_count_is_a_whole_number_that_a_database_can_hold(value: object, count: int | None) -> None:
    """bytes, length and events come as int or float; what is no number, or too large a one, is not known."""
    assert count_of(value) == count


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "57.0"])
def test_a_strange_number_does_not_spoil_a_frame(number: str) -> None:
    """A close with a number that nobody can use is still a close."""
    raw = body(bytes="HERE").replace(b'"HERE"', number.encode())

    assert event(raw).event_type == "close"
    assert len(identity(event(raw.replace(b"close", b"rule_ok")))) == 32


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "the body is not JSON"),
        (b'{"event_type": "close", "payload": {"sc', "the body is not JSON"),
        (b"<close/>", "the body is not JSON"),
        (b"\xff\xfe{}", "the body is not UTF-8: byte 0"),
        (body(name="caf\xe9").decode().encode("latin-1").replace(b"caf\\u00e9", b"caf\xe9"), "not UTF-8: byte"),
        (b"[" * 200_000, "the body is not JSON"),
        (b'{"a":' * 50_000, "the body is not JSON"),
        (b"9" * 5000, "the body is not JSON"),
        (b'["close"]', "the body is a JSON array, not an object"),
        (b"null", "the body is a JSON null, not an object"),
        (b"true", "the body is a JSON boolean, not an object"),
        (b"17", "the body is a JSON number, not an object"),
        (b'"close"', "the body is a JSON string, not an object"),
        (changed(event_type=None), "event_type is missing"),
        (changed(event_type=17), "event_type is 17, not a word"),
        (changed(event_type="  "), "event_type is '  ', not a word"),
        (changed(event_type="x" * 5000), "not a word"),
        (changed(payload=None), "payload is a JSON null, not an object"),
        (changed(payload=[1]), "payload is a JSON array, not an object"),
        (changed(created_at=None), "created_at is missing"),
        (changed(created_at="yesterday"), "created_at is 'yesterday', not a time"),
        (changed(created_at=1795310020), "created_at is 1795310020, not a time"),
        (changed(created_at="0001-01-01 00:00:00+10:00"), "not a time"),
        (changed(payload={}), "a close event needs scope and name"),
        (changed(event_type="created", payload={}), "a create_dts event needs scope and name"),
        (changed(payload={"scope": SCOPE}), "payload.name is missing"),
        (changed(payload={"name": NAME}), "payload.scope is missing"),
        (changed(payload={"scope": "", "name": NAME}), "payload.scope is '', not a scope"),
        (changed(payload={"scope": SCOPE, "name": 5}), "payload.name is 5, not a name"),
        (changed(payload={"scope": SCOPE, "name": "x" * 1001}), "not a name"),
        (changed(payload={"scope": SCOPE, "name": "a\0b"}), "holds a NUL"),
        (changed(payload={"scope": "s\0", "name": NAME}), "holds a NUL"),
        (changed(payload={"scope": SCOPE, "name": NAME, "account": "\0"}), "holds a NUL"),
        (changed(payload={"scope": SCOPE, "name": "half \ud83d"}), "half a character"),
        (changed(event_type="cl\udc00se"), "half a character"),
    ],
)
def test_what_is_no_event_is_rejected_with_the_reason(raw: bytes, said: str) -> None:
    """Whatever is in a frame, reading it ends in an event or in a sentence of bounded length that can be stored."""
    found = reason(raw)

    assert said in found
    assert len(found) < 400
    assert "\0" not in found and found.encode().decode() == found


def test_a_body_may_have_one_mebibyte() -> None:
    """A body of exactly the limit is read; one byte more is not, and the reason names both sizes."""
    padding = BODY_LIMIT - len(body(note=""))

    assert event(body(note="x" * padding)).did == Did(SCOPE, NAME)
    assert (
        reason(body(note="x" * (padding + 1))) == "the body has 1,048,577 bytes, more than the 1,048,576 that are read"
    )


@pytest.mark.parametrize("depth", [90, 300, 600, 900, 980])
@pytest.mark.parametrize("kind", ["rule_ok", "close"])
def test_however_deep_a_body_is_nested_it_is_read_or_rejected(depth: int, kind: str) -> None:
    """Depth exhausts no stack on the way from the frame to its identity: a poison frame would stop the listener."""
    raw = body(kind, nest="HERE").replace(b'"HERE"', b'{"a":[' * (depth // 2) + b"1" + b"]}" * (depth // 2))

    found = read_body(raw)
    key = identity_of_rejected(raw) if isinstance(found, Rejection) else identity(found)

    assert len(key) == 32


leaves = st.none() | st.booleans() | st.floats() | st.text(max_size=5)
parts = leaves | st.lists(leaves, max_size=2) | st.fixed_dictionaries({"scope": leaves, "name": leaves})
documents = st.fixed_dictionaries({"event_type": leaves, "payload": parts, "created_at": leaves})


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=50) | documents.map(lambda value: json.dumps(value).encode()))
def test_nothing_in_a_body_raises(raw: bytes) -> None:
    """Reading never raises, whatever the bytes."""
    assert isinstance(read_body(raw), CatalogEvent | Rejection)


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | words
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(words, scalars, max_size=2)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["close", "open", "detach", "transfer-done"]),
    words,
    words,
    st.dictionaries(words, values, max_size=3),
)
def test_an_event_keeps_its_identity_however_it_is_written(
    kind: str, scope: str, name: str, extra: Mapping[str, Any]
) -> None:
    """Order of keys, blanks, escapes, and whole numbers written as floats (PostgreSQL's 57.0) change nothing."""
    document = {
        "event_type": kind,
        "payload": {**extra, "scope": scope, "name": name},
        "created_at": WELL["created_at"],
    }
    one = json.dumps(document).encode()
    other = json.dumps(_as_floats(document), indent=2, ensure_ascii=False, sort_keys=True).encode()

    assert identity(event(one)) == identity(event(other))


def _as_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_a_life_event_is_known_by_type_did_and_time_alone() -> None:
    """A dataset closes once at a microsecond: counts that differ (0 or 0.0, before and after) make no second close."""
    assert identity(event(body(bytes=57))) == identity(event(body(bytes=58.5, length=2)))


@pytest.mark.parametrize(
    "other",
    [
        body("open"),
        body(name=NAME + "x"),
        body(scope="user.x"),
        body(at=NOW.replace(microsecond=292657)),
        # the same letters, cut elsewhere
        body(scope="group", name="sphenix" + NAME),
    ],
)
def test_another_event_has_another_identity(other: bytes) -> None:
    """Type, scope, name and microsecond each tell two events apart."""
    assert identity(event(other)) != identity(event(body()))


def test_two_files_detached_in_one_transaction_are_two_events() -> None:
    """Their detach events share type, DID and microsecond; the payload tells them apart."""
    one, two = (body("detach", child_scope=SCOPE, child_name=f"file_{number}.root") for number in (1, 2))

    assert identity(event(one)) != identity(event(two))
    assert identity(event(one)) == identity(event(one))


def test_what_cannot_be_read_is_known_by_its_bytes() -> None:
    """The same broken body is the same message; an event never shares its identity with a broken one."""
    assert identity_of_rejected(b"{") == identity_of_rejected(b"{")
    assert identity_of_rejected(b"{") != identity_of_rejected(b"{ ")
    assert identity_of_rejected(body()) != identity(event(body()))
