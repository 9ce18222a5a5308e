"""What leaves soon, and what should have left long ago."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.store.store import Store
from orchestrator.transient.reporting import Reporter
from tests.contract.store_transients import AFTER, HOUR, copy, hits, leaving, put_down, refusal, release, see
from tests.unit.making import NOW, frame, later

DAY = timedelta(days=1)


@pytest.fixture
def reporter(store: Store) -> Reporter:
    return Reporter(store.transients)


def test_what_is_released_leaves_soon(store: Store, reporter: Reporter) -> None:
    """Until that very moment; neither what is held nor what leaves already, nor what was taken back."""
    see(store, refusal(hits(1)), release(hits(2)))
    leaving(store, of=release(hits(3)))
    for number, hours in ((4, 2), (5, 3), (6, 4)):
        put_down(store, release(hits(number)), undo=hours * HOUR)
    (back,) = put_down(store, release(hits(7)))
    store.transients.take_back([back.id], who="me", why="a slip", now=NOW)

    assert [each.did for each in reporter.expiring(NOW + 3 * HOUR)] == [hits(4), hits(5)]
    assert list(reporter.expiring(NOW + HOUR)) == []


def test_what_leaves_for_a_day_is_overdue(store: Store, reporter: Reporter) -> None:
    """And what was to leave a day ago and was not begun; each says why. Released or leaving in time is not."""
    slow = leaving(store, of=release(hits(1)))
    store.transients.look_again(slow.id, later(9999), "2 copies left", owner="leaver 1", now=AFTER)
    put_down(store, release(hits(2)), undo=2 * HOUR)
    put_down(store, release(hits(3)), undo=DAY)
    see(store, refusal(hits(4)), release(hits(5)))

    assert list(reporter.overdue(AFTER + DAY - timedelta(seconds=1))) == []
    (found,) = reporter.overdue(AFTER + DAY)
    assert (found.did, found.reason) == (hits(1), "2 copies left")
    assert [each.did for each in reporter.overdue(AFTER + DAY + HOUR)] == [hits(1), hits(2)]
    assert [each.did for each in reporter.overdue(AFTER + HOUR, slow=timedelta(0))] == [hits(1), hits(2)]


def test_what_has_left_is_not_reported(store: Store, reporter: Reporter) -> None:
    """Nor what was called back."""
    gone, back = leaving(store, of=release(hits(1))), leaving(store, of=release(hits(2)))
    store.transients.gone(gone.id, who="leaver", why="left", now=AFTER, freed_files=1, freed_bytes=500)
    store.transients.recalled(back.id, who="me", why="needed", now=AFTER)

    assert list(reporter.overdue(AFTER + 9 * DAY)) == []
    assert list(reporter.expiring(AFTER + 9 * DAY)) == []


def test_thousands_are_reported(store: Store, reporter: Reporter) -> None:
    """More than are read at once, each of them once."""
    for start in (0, 600):
        put_down(store, *(release(hits(number)) for number in range(start, start + 600)))

    found = [each.did for each in reporter.expiring(AFTER)]

    assert found == [hits(number) for number in range(1200)]
    assert len(list(reporter.overdue(AFTER + DAY))) == 1200


def failed(store: Store, file: str, *, hours: float = 1) -> None:
    """The catalog tells that it could not delete a copy, so long after the dataset began to leave."""
    told = frame("deletion-failed", file, scope="sphenix", reason="no permission")
    store.messages.take_in([told], origin="broker", now=AFTER + hours * HOUR)


def test_what_the_catalog_could_not_delete_is_overdue_at_once(store: Store, reporter: Reporter) -> None:
    """Of copies that are not settled, and that it was asked to delete; each copy counts once."""
    first = leaving(store, of=release(hits(1)), copies=[copy(0), copy(1), copy(2)])
    leaving(store, of=release(hits(2)), copies=[copy(3)])
    failed(store, "file-3", hours=-9)
    assert list(reporter.overdue(AFTER)) == []

    for file in ("file-0", "file-0", "file-1", "file-2", "elsewhere"):
        failed(store, file)
    store.transients.settle_copies(first.id, {2: "gone"})

    (found,) = reporter.overdue(AFTER)
    assert found.did == hits(1)
    assert (found.reason or "").endswith("the catalog could not delete 2 of its copies")


def test_what_has_gone_so_far_is_counted(store: Store) -> None:
    """Of datasets that are leaving still; neither what is not settled, nor what has left as a whole."""
    assert store.transients.freed_so_far() == (0, 0, 0)
    for number in (1, 2, 3):
        one = leaving(store, of=release(hits(number)), copies=[copy(n) for n in range(3)])
        store.transients.settle_copies(one.id, {0: "gone", 1: "stays: it is wanted"} if number < 3 else {0: "gone"})
    store.transients.gone(one.id, who="leaver", why="left", now=AFTER, freed_files=1, freed_bytes=500)

    datasets, files, size = store.transients.freed_so_far()

    assert (datasets, files, size) == (2, 2, 2 * copy(0).bytes)
