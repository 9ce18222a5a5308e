"""How much may be released within a day."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.transient.caps import Caps, Spent, beyond, no_room, spent_on, within
from schemas.transient import Release
from tests.unit.core.transient.making import release

NOTHING = Spent()


def of_sizes(*sizes: int, rse: str = "DISK") -> list[Release]:
    return [release(f"d{number}", size=size, rse=rse) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("caps", "spent", "said"),
    [
        (Caps(), NOTHING, None),
        (Caps(datasets_per_day=2), NOTHING, None),
        (Caps(datasets_per_day=1), NOTHING, "2 datasets are to be released and 0 were within 24 hours: 1 may be"),
        (Caps(datasets_per_day=2), Spent(datasets=1), "2 datasets are to be released and 1 were"),
        (Caps(datasets_per_day=0), NOTHING, "[transient] datasets_per_day"),
        (Caps(bytes_per_day=300), NOTHING, None),
        (Caps(bytes_per_day=299), NOTHING, "300 bytes are to be released"),
        (Caps(bytes_per_day=1300), Spent(bytes=1001), "1,001 were within 24 hours: 1,300 may be"),
        (Caps(rse_bytes_per_day={"DISK": 300, "TAPE": 0}), Spent(by_rse={"TAPE": 5}), None),
        (Caps(rse_bytes_per_day={"DISK": 300}), Spent(by_rse={"DISK": 1}), "300 bytes at DISK are to be released"),
    ],
)
def test_the_caps_of_a_day(caps: Caps, spent: Spent, said: str | None) -> None:
    """Datasets, bytes and bytes at one RSE; what has been released within the day counts. The setting is named."""
    found = beyond(caps, spent, of_sizes(100, 200))

    assert (found is None) is (said is None)
    assert said is None or (found is not None and said in found)


def test_of_what_nothing_is_wanted_nothing_is_passed() -> None:
    """Also when more was released than may be now, since the caps were lowered. A dataset without copies is one."""
    caps, spent = Caps(5, 10, {"DISK": 10}), Spent(5, 99, {"DISK": 99})

    assert beyond(caps, spent, []) is None
    assert beyond(caps, Spent(4, 99, {"DISK": 99}), of_sizes(0)) is None
    assert beyond(caps, spent, of_sizes(0)) is not None


def test_what_does_not_fit_today_waits_for_its_turn() -> None:
    """Smaller ones after it do not overtake it, or it would wait for ever."""
    releases = of_sizes(60, 50, 10)

    fit, rest = within(Caps(bytes_per_day=100), NOTHING, releases)

    assert (fit, rest) == (releases[:1], releases[1:])


def test_what_fits_into_no_day_does_not_stand_in_the_way() -> None:
    """It waits for a person; the others go on."""
    releases = of_sizes(60, 101, 40)

    fit, rest = within(Caps(bytes_per_day=100), NOTHING, releases)

    assert (fit, rest) == ([releases[0], releases[2]], [releases[1]])


@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["A", "B"])), max_size=8),
    st.none() | st.integers(0, 5),
    st.none() | st.integers(0, 150),
    st.dictionaries(st.sampled_from(["A", "B"]), st.integers(0, 100)),
    st.integers(0, 3),
    st.integers(0, 80),
)
def test_what_fits_never_passes_a_cap(
    wanted: Sequence[tuple[int, str]],
    datasets: int | None,
    bytes_: int | None,
    rses: dict[str, int],
    before: int,
    bytes_before: int,
) -> None:
    """Whatever is wanted and whatever was spent; none is lost, and the order stays."""
    releases = [release(f"d{number}", size=size, rse=rse) for number, (size, rse) in enumerate(wanted)]
    caps = Caps(datasets, bytes_, rses)
    spent = Spent(before, bytes_before, {"A": bytes_before})

    fit, rest = within(caps, spent, releases)

    assert not fit or beyond(caps, spent, fit) is None
    assert sorted(fit + rest, key=releases.index) == releases
    assert fit == [each for each in releases if each in fit]
    assert rest == [each for each in releases if each in rest]
    if beyond(caps, spent, releases) is None:
        assert rest == []


def test_what_releases_come_to() -> None:
    """Datasets, bytes of all copies, and bytes by RSE."""
    found = spent_on([*of_sizes(1, 2), *of_sizes(4, rse="TAPE")])

    assert (found.datasets, found.bytes, dict(found.by_rse)) == (3, 7, {"DISK": 3, "TAPE": 4})


@pytest.mark.parametrize(
    ("caps", "spent", "room"),
    [
        (Caps(), Spent(9, 9), True),
        (Caps(2, 10), Spent(1, 9), True),
        (Caps(2, 10), Spent(2, 9), False),
        (Caps(2, 10), Spent(1, 10), False),
        (Caps(0), NOTHING, False),
    ],
)
def test_whether_there_is_room_for_anything_at_all(caps: Caps, spent: Spent, room: bool) -> None:
    """That can be told before anything is known of it."""
    assert (no_room(caps, spent) is None) is room
