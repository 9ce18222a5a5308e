"""Where each event stands in its dataset's life, whatever the order in which the events arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.settlement import LifeEvent, Place, settle
from tests.unit.making import later


def life(*types: str) -> list[LifeEvent]:
    """Events one second apart, keyed `0 create_dts`, `1 close`, ..."""
    return [LifeEvent(f"{number} {each}", each, later(number)) for number, each in enumerate(types)]


def places(*types: str) -> list[tuple[int, int]]:
    """Incarnation and generation of each event, in order of time."""
    events = life(*types)
    found = settle(events)
    return [(found[event.key].incarnation, found[event.key].generation) for event in events]


def overtaken(*types: str) -> list[str]:
    """The keys of the events that no longer describe the dataset."""
    return sorted(key for key, place in settle(life(*types)).items() if place.overtaken is not None)


def test_a_life_begins_in_its_first_incarnation_and_generation() -> None:
    """A dataset that is created and closed stands in (1, 1), and its close describes it."""
    assert places("create_dts", "close") == [(1, 1), (1, 1)]
    assert overtaken("create_dts", "close") == []


def test_opening_again_begins_a_new_generation() -> None:
    """After a re-open the next close belongs to generation 2, and the first no longer describes the dataset."""
    assert places("create_dts", "close", "open", "close") == [(1, 1), (1, 1), (1, 2), (1, 2)]
    assert overtaken("create_dts", "close", "open", "close") == ["1 close"]


def test_a_stale_close_is_overtaken_by_the_open_after_it() -> None:
    """A close that arrives after the open that followed it changes nothing: time decides, not arrival."""
    create, close, opened = life("create_dts", "close", "open")

    found = settle([opened, close, create])

    assert found[close.key] == Place(1, 1, f"opened again at {later(2):%Y-%m-%d %H:%M:%S.%f} UTC")
    assert found[opened.key] == Place(1, 2, None)


def test_a_close_may_arrive_before_its_create() -> None:
    """hermes shuffles its batches: the create that comes late begins no second life."""
    create, close = life("create_dts", "close")

    assert settle([close]) == {close.key: Place(1, 1, None)}
    assert settle([close, create]) == {create.key: Place(1, 1, None), close.key: Place(1, 1, None)}


def test_an_open_that_was_lost_is_implied_by_two_closes() -> None:
    """Rucio refuses to close twice, so between two closes there was an open, even if nobody heard of it."""
    assert places("create_dts", "close", "close") == [(1, 1), (1, 1), (1, 2)]
    assert settle(life("close", "close"))["0 close"].overtaken == f"closed again at {later(1):%Y-%m-%d %H:%M:%S.%f} UTC"


def test_an_erase_that_comes_twice_ends_one_life() -> None:
    """The undertaker announces an erase again for each of its rounds; the dataset is erased once."""
    assert places("create_dts", "close", "erase", "erase") == [(1, 1)] * 4
    assert overtaken("create_dts", "close", "erase", "erase") == ["1 close"]


def test_a_name_that_is_created_again_is_another_dataset() -> None:
    """After an erase the same name begins incarnation 2, from generation 1."""
    assert places("create_dts", "close", "open", "close", "erase", "create_dts", "close") == [
        *((1, 1), (1, 1), (1, 2), (1, 2), (1, 2)),
        *((2, 1), (2, 1)),
    ]


def test_an_erase_or_a_create_that_was_lost_is_implied() -> None:
    """Created twice, it was erased between; closed after an erase, it was created between."""
    assert places("create_dts", "close", "create_dts") == [(1, 1), (1, 1), (2, 1)]
    assert places("create_dts", "erase", "close") == [(1, 1), (1, 1), (2, 1)]
    assert settle(life("close", "create_dts"))["0 close"].overtaken == (
        f"created again at {later(1):%Y-%m-%d %H:%M:%S.%f} UTC"
    )


def test_containers_live_as_datasets_do() -> None:
    """create_cnt begins a life as create_dts does."""
    assert places("create_cnt", "close", "erase", "create_cnt") == [(1, 1), (1, 1), (1, 1), (2, 1)]


def test_events_of_one_microsecond_stand_in_the_order_a_dataset_can_live_through() -> None:
    """Created, opened, closed and erased at the same instant is one whole life, whatever the keys."""
    events = [
        LifeEvent(key, each, later(0))
        for key, each in zip("dcba", ("create_dts", "open", "close", "erase"), strict=True)
    ]

    found = settle(events)

    assert [found[key].generation for key in "dcba"] == [1, 2, 2, 2]
    assert {found[key].incarnation for key in "dcba"} == {1}
    assert found["b"].overtaken is not None


@dataclass
class Model:
    """The same told as a story: a catalog that lives through the events one by one."""

    incarnation: int = 1
    generation: int = 1
    closed: bool = False
    erased: bool = False
    born: bool = False
    lines: list[tuple[int, int]] = field(default_factory=list)

    def live(self, event: str) -> None:
        if (event.startswith("create") and self.born) or (self.erased and event != "erase"):
            self.incarnation, self.generation, self.closed, self.erased = self.incarnation + 1, 1, False, False
            if event == "close":
                self.closed = True
        elif event == "open" or (event == "close" and self.closed):
            self.generation += 1
            self.closed = event == "close"
        elif event == "close":
            self.closed = True
        elif event == "erase":
            self.closed, self.erased = False, True
        self.born = True
        self.lines.append((self.incarnation, self.generation))


EVENTS = ["create_dts", "create_cnt", "open", "close", "erase"]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(EVENTS), max_size=12), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_places(types: Sequence[str], chance: Random) -> None:
    """For every history and every order of arrival, each event stands where a catalog that lived it would put it."""
    events = life(*types)
    model = Model()
    for each in types:
        model.live(each)
    shuffled = list(events)
    chance.shuffle(shuffled)

    found = settle(shuffled)

    assert found == settle(events)
    assert [(found[event.key].incarnation, found[event.key].generation) for event in events] == model.lines
    standing = {event.key for event in events if event.event_type == "close" and found[event.key].overtaken is None}
    assert standing == ({events[-1].key} if types and types[-1] == "close" else set())


def test_every_order_of_a_whole_life_gives_the_same_places() -> None:
    """All 720 orders of arrival of six events settle as the order of time does."""
    events = life("create_dts", "close", "open", "close", "erase", "create_dts")
    wanted = settle(events)

    assert all(settle(order) == wanted for order in permutations(events))


# Closings that were found in the catalog.


def closing(key: str, seconds: float, *, found: bool = False, number: int | None = None) -> LifeEvent:
    return LifeEvent(key, "close", later(seconds), found, number)


def test_a_closing_that_was_found_and_then_announced_is_one_closing() -> None:
    """The event that comes late starts nothing; the message that stood in for it goes on as it was."""
    found, event = closing("found", 1, found=True, number=7), closing("event", 0.3)

    places = settle([found, event])

    assert places[found.key] == Place(1, 1, None)
    assert places[event.key] == Place(1, 1, "this closing was found in the catalog before its event came")


def test_a_closing_that_is_found_after_its_event_came_is_not_a_second_one() -> None:
    """Also if the event came in the moment between looking and storing."""
    event, found = closing("event", 0.3, number=7), closing("found", 1, found=True)

    for events in permutations([event, found]):
        places = settle(events)
        assert places[event.key].overtaken is None
        assert places[found.key].overtaken == "the event of this closing is there"


def test_of_two_that_come_together_the_event_counts() -> None:
    assert settle([closing("found", 0, found=True), closing("event", 1)])["found"].overtaken is not None
    assert settle([closing("found", 0, found=True), closing("event", 1)])["event"].overtaken is None


def test_two_events_a_moment_apart_are_two_closings() -> None:
    """Only what was found can be the same as what was announced: between two events there was an opening."""
    assert settle([closing("one", 0), closing("two", 1)])["one"].overtaken is not None
    assert settle([closing("one", 0, found=True), closing("two", 1, found=True)])["two"] == Place(1, 2, None)


def test_a_closing_long_after_the_one_that_was_found_is_another_one() -> None:
    found, event = closing("found", 0, found=True, number=1), closing("event", 61)

    places = settle([found, event])

    assert places[event.key] == Place(1, 2, None)
    assert places[found.key].overtaken is not None


def test_what_happened_between_two_closings_makes_them_two() -> None:
    """However close in time: an opening between them is known."""
    found, opened, event = (
        closing("found", 0, found=True, number=1),
        LifeEvent("open", "open", later(1)),
        closing("event", 2),
    )

    places = settle([event, found, opened])

    assert (places["found"].overtaken is not None, places["event"]) == (True, Place(1, 2, None))


def test_a_closing_that_was_found_is_paired_with_the_event_that_is_nearest() -> None:
    """Two closings within a minute, the opening between them lost: what was found stands for the one beside it."""
    one, found, two = closing("one", 0, number=1), closing("found", 29, found=True, number=2), closing("two", 28.5)

    places = settle([one, found, two])

    assert places["two"].overtaken == "this closing was found in the catalog before its event came"
    assert places["found"] == Place(1, 2, None)
    assert places["one"].overtaken is not None


def test_an_event_is_paired_with_one_closing_only() -> None:
    """Event, found, event within a minute: the first two are one closing, and the third is another."""
    one, found, two = closing("one", 0, number=1), closing("found", 1, found=True, number=2), closing("two", 2)

    places = settle([one, found, two])

    assert places["two"] == Place(1, 2, None)
    assert places["one"].overtaken == f"closed again at {later(2):%Y-%m-%d %H:%M:%S.%f} UTC"
    assert places["found"].overtaken == "the event of this closing is there"
