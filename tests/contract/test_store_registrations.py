"""What the store promises of registrations: our own record of what is brought into the catalog."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.registration_calls import Wanting
from orchestrator.store.registration_rows import Listing, RegistrationFilter, Wanted
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile, Registration, RegistrationId, RegistrationState
from tests.unit.making import NOW, later

RUN = Did("group.sphenix", "CALOR-00021615")
WANTED = Wanted(RUN, "BNL", containers=("group.sphenix:ALL",), metadata={"run_number": 7}, lifetime=timedelta(days=2))


def guids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"00000000-0000-0000-0000-{next(numbers):012d}"


def file(name: str, **fields: Any) -> RegisteredFile:
    values = {"path": f"/data/{name}", "pfn": f"/data/{name}", "state": FileState.PLANNED, **fields}
    return RegisteredFile(did=f"group.sphenix:{name}", **values)


def begun(store: Store, wanted: Wanted = WANTED, at: float = 0) -> Registration:
    return store.registrations.begin(wanted, who="cli:me", why="new data", now=later(at)).registration


def planned(store: Store, *files: RegisteredFile, wanted: Wanted = WANTED) -> Registration:
    return listed(store, *files, wanted=wanted)[0]


def listed(
    store: Store, *files: RegisteredFile, wanted: Wanted = WANTED, who: str = "cli:me", whole: bool = True
) -> tuple[Registration, Wanting]:
    """A list of files, and what is wanted still beside them."""
    begun = store.registrations.begin(wanted, who=who, why="new data", now=NOW)
    store.registrations.plan(begun.registration, files, guids())
    return begun.registration, store.registrations.listed(begun, whole=whole, who=who, now=NOW)


def summed(of: RegisteredFile, size: int = 5) -> RegisteredFile:
    return of.model_copy(update={"bytes": size, "adler32": "00000001", "md5": "0" * 32, "modified_ns": 9})


def bring(store: Store, registration: Registration, *states: FileState) -> None:
    """Bring every planned file so far."""
    files = store.registrations.files(registration.id, [FileState.PLANNED])
    if FileState.SUMMED in states:
        store.registrations.note_sums(registration.id, [summed(each) for each in files])
    if FileState.ATTACHED in states:
        store.registrations.note_attached(registration.id, [summed(each) for each in files])


def states(store: Store, registration: Registration) -> dict[str, str]:
    return {each.did.partition(":")[2]: each.state.value for each in store.registrations.files(registration.id)}


def history(store: Store, registration: Registration) -> list[tuple[str | None, str, str | None]]:
    return [
        (each.from_state, each.to_state, each.why) for each in store.journal.of("registration", int(registration.id))
    ]


def test_a_registration_is_written_down_as_it_was_asked_for(store: Store) -> None:
    """With who and why; it can be gone on with from the record alone."""
    registration = begun(store)

    assert registration == store.registrations.get(registration.id)
    assert (registration.dataset, registration.rse, registration.closes) == (str(RUN), "BNL", True)
    assert (registration.containers, registration.metadata) == (("group.sphenix:ALL",), {"run_number": 7})
    assert (registration.lifetime, registration.who, registration.why) == (timedelta(days=2), "cli:me", "new data")
    assert (registration.state, registration.calls, registration.listed) == (RegistrationState.OPEN, 1, False)
    assert history(store, registration) == [(None, "open", "new data")]


def test_the_open_registration_of_a_dataset_is_resumed(store: Store) -> None:
    """Never two at once; another dataset, and the same at another RSE, have their own; no dataset is none's."""
    first = begun(store)

    assert (begun(store).id, begun(store).calls) == (first.id, 3)
    assert begun(store, Wanted(RUN, "CERN")).id != first.id
    assert begun(store, Wanted(Did("group.sphenix", "other"), "BNL")).id != first.id
    assert begun(store, Wanted(None)).id != begun(store, Wanted(None)).id


def test_whoever_repeats_himself_is_journalled_once(store: Store) -> None:
    """A catalog that is away is asked for again and again; somebody else who goes on is news."""
    first = begun(store)
    begun(store)
    store.registrations.begin(WANTED, who="cli:you", why="mine", now=NOW)
    store.registrations.begin(WANTED, who="cli:you", why="mine", now=NOW)

    assert history(store, first) == [(None, "open", "new data"), ("open", "open", "mine")]
    assert store.registrations.get(first.id).calls == 4


def test_a_failed_registration_is_resumed_and_one_that_is_done_is_not(store: Store) -> None:
    """What comes after the end is another registration."""
    first = planned(store)
    store.registrations.fail(first.id, "it went wrong", who="register", now=NOW)

    again = begun(store)

    assert (again.id, again.state, again.reason) == (first.id, RegistrationState.OPEN, None)
    store.registrations.finish(first.id, "all of it", who="register", now=NOW)
    assert begun(store).id != first.id
    assert history(store, first)[1:] == [
        ("open", "failed", "it went wrong"),
        ("failed", "open", "new data"),
        ("open", "done", "all of it"),
    ]


def test_of_many_who_begin_at_once_all_get_the_same(store: Store) -> None:
    """Whoever comes second resumes what the first has begun."""
    found: list[RegistrationId] = []
    threads = [threading.Thread(target=lambda: found.append(begun(store).id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8 and len(set(found)) == 1
    assert store.registrations.get(found[0]).calls == 8


def test_a_file_keeps_what_was_found_out_when_it_is_asked_for_again(store: Store) -> None:
    """Its GUID and its sums; the list may now know its events."""
    registration = planned(store, file("a"))
    bring(store, registration, FileState.SUMMED)
    before = store.registrations.files(registration.id)

    planned(store, file("a", events=100))

    assert store.registrations.files(registration.id) == [before[0].model_copy(update={"events": 100})]
    assert (before[0].guid, before[0].state) == ("00000000-0000-0000-0000-000000000001", FileState.SUMMED)


@pytest.mark.parametrize(
    "otherwise",
    [{"pfn": "root://x//a"}, {"path": "/other/a"}, {"bytes": 6}, {"adler32": "0000000f"}, {"md5": "f" * 32}],
)
def test_a_file_that_is_told_otherwise_is_summed_again(store: Store, otherwise: dict[str, Any]) -> None:
    """Another place, or sums that are not those that were found: what was found counts no more, but for its GUID."""
    registration = planned(store, file("a"))
    bring(store, registration, FileState.SUMMED)

    planned(store, file("a", **otherwise))

    guid = "00000000-0000-0000-0000-000000000001"
    assert store.registrations.files(registration.id) == [file("a", **otherwise, guid=guid)]


def test_what_the_catalog_has_stays_attached(store: Store) -> None:
    """A list that refuses the name changes nothing; another place, or other sums, are looked into."""
    registration = planned(store, file("a"), file("b"), file("c"), file("d"))
    bring(store, registration, FileState.SUMMED, FileState.ATTACHED)

    refused = file("b", state=FileState.REFUSED, reason="no")
    planned(store, file("a"), refused, file("c", bytes=6), file("d", path="/x/d"))

    assert states(store, registration) == {"a": "attached", "b": "attached", "c": "planned", "d": "planned"}


def three(store: Store) -> Registration:
    """`a` is attached, `b` summed, `x` refused."""
    registration = planned(store, file("a"), file("b"), file("x"))
    bring(store, registration, FileState.SUMMED)
    record = store.registrations
    record.note_attached(registration.id, [each for each in record.files(registration.id) if each.did.endswith(":a")])
    record.refuse(registration.id, {"group.sphenix:x": "differs"})
    return registration


def test_another_list_lets_go_of_nothing(store: Store) -> None:
    """What was refused, or is still to be done, is wanted still; what the catalog has is not missing."""
    registration = three(store)

    again, wanting = listed(store, file("c"))

    assert (wanting.count, wanting.some) == (2, ["group.sphenix:b", "group.sphenix:x"])
    assert states(store, again) == {"a": "attached", "b": "summed", "c": "planned", "x": "refused"}
    assert store.registrations.get(registration.id).listed  # all that was asked for is known
    assert listed(store, file("b"), file("c"), file("x"))[1].count == 0


def test_a_list_that_says_so_replaces_another(store: Store) -> None:
    """Nothing of the other is wanted any more, and the journal says that it was let go."""
    registration = three(store)

    _, wanting = listed(store, file("b"), file("c"), wanted=replace(WANTED, listing=Listing.ANEW))

    assert wanting.count == 0
    assert states(store, registration) == {"b": "summed", "c": "planned"}
    why = "2 files that had been asked for before were not asked for again"
    assert ("open", "open", why) in history(store, registration)


def test_more_files_change_nothing_else(store: Store) -> None:
    """Neither whether it closes, its containers and metadata, nor what was asked for before."""
    registration = three(store)
    more = Wanted(RUN, "BNL", closes=False, listing=Listing.MORE)

    after, wanting = listed(store, file("c"), wanted=more)

    kept = ("closes", "containers", "metadata", "lifetime", "id")
    assert [getattr(after, name) for name in kept] == [getattr(registration, name) for name in kept]
    assert wanting.count == 0
    assert states(store, registration) == {"a": "attached", "b": "summed", "c": "planned", "x": "refused"}
    with pytest.raises(NotAllowed, match="add files without them"):
        begun(store, replace(more, metadata={"run_number": 8}))


def test_who_repeats_himself_replaces_his_own_list_only(store: Store) -> None:
    """A file that was still written has another name when a dispatch tries again; others' files are not his."""
    wanted = replace(WANTED, listing=Listing.REPEATED)
    bad = {"state": FileState.REFUSED, "reason": "bad"}
    registration, _ = listed(store, file("mine", **bad), wanted=wanted, who="rule a")
    assert listed(store, file("mended"), wanted=wanted, who="rule a")[1].count == 0
    assert states(store, registration) == {"mended": "planned"}

    _, first = listed(store, file("his", **bad), wanted=wanted, who="rule b")
    _, second = listed(store, file("other"), wanted=wanted, who="rule b")

    assert (first.some, second.some) == (["group.sphenix:mended"], ["group.sphenix:mended"])
    assert states(store, registration) == {"mended": "planned", "other": "planned"}


def test_after_a_list_that_nobody_read_to_its_end_one_must_have_all_of_it(store: Store) -> None:
    """Nobody knows what else was on it; a list without the files that are known of it is another one."""
    registration, _ = listed(store, file("a"), file("b"), whole=False)
    bring(store, registration, FileState.SUMMED, FileState.ATTACHED)

    assert listed(store, file("c"))[1].count == listed(store, file("c"))[1].count == 2
    assert not store.registrations.get(registration.id).listed
    assert listed(store, file("a"), file("b"), file("c"), file("d"))[1].count == 0
    assert store.registrations.get(registration.id).listed


def test_one_who_began_later_is_not_said_to_have_read_his_list(store: Store) -> None:
    """The end of the list before says nothing of his; and of the same list nothing is missing."""
    record = store.registrations
    first = record.begin(WANTED, who="cli:me", why=None, now=NOW)
    second = record.begin(WANTED, who="cli:you", why=None, now=NOW)
    record.plan(second.registration, [file("a")], guids())
    record.plan(first.registration, [file("a")], guids())

    record.listed(first, whole=True, who="cli:me", now=NOW)
    assert not record.get(first.registration.id).listed
    assert record.listed(second, whole=True, who="cli:you", now=NOW).count == 0
    assert record.get(first.registration.id).listed


def test_those_who_plan_and_those_who_sum_the_same_files_wait_for_each_other_in_turn(store: Store) -> None:
    """In whatever order their lists are: no database ends one of them for a deadlock."""
    files = [file(f"{number:04d}", bytes=1, adler32="00000001", md5="0" * 32) for number in range(300)]
    registration = planned(store, *files)
    record, wrong = store.registrations, list[Exception]()

    def often(do: Callable[[], None]) -> None:
        try:
            for _ in range(8):
                do()
        except Exception as error:
            wrong.append(error)

    planning = threading.Thread(target=often, args=[lambda: record.plan(registration, files[::-1], guids())])
    summing = threading.Thread(target=often, args=[lambda: record.note_sums(registration.id, files)])
    for thread in (planning, summing):
        thread.start()
    for thread in (planning, summing):
        thread.join()

    assert wrong == []


def test_a_name_that_a_list_gives_twice_is_refused(store: Store) -> None:
    """With two places, within one batch and across batches; the same place twice is one file."""
    registration = begun(store)
    plan = store.registrations.plan
    plan(registration, [file("a"), file("a", pfn="/other/a"), file("b"), file("c"), file("c")], guids())
    plan(registration, [file("b", pfn="/other/b"), file("c")], guids())

    assert states(store, registration) == {"a": "refused", "b": "refused", "c": "planned"}
    reasons = [each.reason for each in store.registrations.files(registration.id, [FileState.REFUSED])]
    assert reasons[0] == ("it is asked for twice, as /data/a and as /other/a: a file has one name, and a name one file")


def test_sums_of_an_earlier_registration_are_taken_over(store: Store) -> None:
    """A second registration of the dataset need not read the same files once more, and keeps their GUIDs."""
    first = planned(store, file("a"), file("b"))
    bring(store, first, FileState.SUMMED, FileState.ATTACHED)
    store.registrations.finish(first.id, "all", who="register", now=NOW)

    second = planned(store, file("a"), file("b", pfn="/moved/b"), file("c"))

    assert second.id != first.id
    a, b, c = store.registrations.files(second.id)
    assert a == summed(file("a", guid="00000000-0000-0000-0000-000000000001", state=FileState.SUMMED))
    assert (b.state, b.bytes, b.guid) == (FileState.PLANNED, None, "00000000-0000-0000-0000-000000000002")
    assert (c.state, c.guid) == (FileState.PLANNED, "00000000-0000-0000-0000-000000000001")  # the first of another call


def test_a_file_goes_only_where_the_table_lets_it(store: Store) -> None:
    """Attached is only what has sums; what is attached is not refused, and not summed by whoever comes late."""
    registration = planned(store, file("a"), file("b"))
    files = store.registrations.files(registration.id)
    store.registrations.note_attached(registration.id, files)
    assert states(store, registration) == {"a": "planned", "b": "planned"}

    bring(store, registration, FileState.SUMMED, FileState.ATTACHED)
    store.registrations.refuse(registration.id, {each.did: "late" for each in files})

    assert states(store, registration) == {"a": "attached", "b": "attached"}
    store.registrations.note_lost(registration.id, [files[0].did])
    assert states(store, registration) == {"a": "summed", "b": "attached"}


def test_a_registration_is_done_only_when_the_catalog_has_all_of_it(store: Store) -> None:
    """And counts its files for good then."""
    registration = planned(store, file("a"), file("b"))
    bring(store, registration, FileState.SUMMED)
    with pytest.raises(NotAllowed, match="cannot be done"):
        store.registrations.finish(registration.id, "all", who="register", now=NOW)

    store.registrations.note_attached(registration.id, store.registrations.files(registration.id))
    done = store.registrations.finish(registration.id, "all", who="register", now=NOW)

    assert (done.state, done.reason, done.files, done.bytes) == (
        RegistrationState.DONE,
        "all",
        {FileState.ATTACHED: 2},
        10,
    )
    assert store.registrations.fail(registration.id, "late", who="register", now=NOW) == done


def test_a_registration_is_resumed_by_its_number(store: Store) -> None:
    """What was refused is tried again, but for what its list alone can mend."""
    barred = file("x.partial", state=FileState.REFUSED, reason="partial")
    registration = planned(store, file("a"), file("b"), barred)
    store.registrations.refuse(registration.id, {"group.sphenix:a": "differs"})
    store.registrations.fail(registration.id, "2 were refused", who="register", now=NOW)

    resumed = store.registrations.resume(registration.id, who="cli:me", why="mended", now=later(9))

    assert (resumed.state, resumed.calls, resumed.updated_at) == (RegistrationState.OPEN, 2, later(9))
    assert states(store, registration) == {"a": "planned", "b": "planned", "x.partial": "refused"}


def test_what_cannot_be_resumed_says_why(store: Store) -> None:
    """One that is done, one whose list was not read to its end, one beside another of its dataset, one that is not."""
    resume = store.registrations.resume
    opened = store.registrations.begin(WANTED, who="cli:me", why=None, now=NOW)
    unread = opened.registration
    with pytest.raises(NotAllowed, match="register the same files once more"):
        resume(unread.id, who="me", why=None, now=NOW)
    store.registrations.listed(opened, whole=True, who="me", now=NOW)
    again = begun(store)  # with a list of its own, of which nobody knows how far it was read
    with pytest.raises(NotAllowed, match="register the same files once more"):
        resume(again.id, who="me", why=None, now=NOW)
    store.registrations.finish(unread.id, "nothing", who="me", now=NOW)
    with pytest.raises(NotAllowed, match="is done"):
        resume(unread.id, who="me", why=None, now=NOW)
    with pytest.raises(NotFound, match="there is no registration 99"):
        resume(RegistrationId(99), who="me", why=None, now=NOW)


def test_registrations_are_listed_newest_first(store: Store) -> None:
    """By state, dataset, RSE, and what the name holds; page by page."""
    others = [begun(store, Wanted(Did("user.me", f"data_{number}"), None)) for number in range(3)]
    failed = planned(store, file("a"), file("b", bytes=7))
    store.registrations.fail(failed.id, "why", who="me", now=NOW)

    def found(wanted: RegistrationFilter, **page: Any) -> Sequence[int]:
        return [each.id for each in store.registrations.list(wanted, **page)]

    everything = RegistrationFilter()
    assert found(everything, limit=2) == [failed.id, others[2].id]
    assert found(everything, limit=2, before=others[2].id) == [others[1].id, others[0].id]
    assert found(RegistrationFilter(states=[RegistrationState.FAILED])) == [failed.id]
    assert found(RegistrationFilter(dataset=RUN)) == found(RegistrationFilter(rse="BNL")) == [failed.id]
    assert found(RegistrationFilter(text="a_1")) == [others[1].id]
    (shown,) = store.registrations.list(RegistrationFilter(dataset=RUN))
    assert (shown.files, shown.bytes, shown.reason) == ({FileState.PLANNED: 2}, 7, "why")


def test_names_that_no_database_keeps_are_no_trouble(store: Store) -> None:
    """NUL, and bytes of a file name that are no text, are written out."""
    registration = planned(store, file("a\0b", path="/d/\udcff", state=FileState.REFUSED, reason="\0"))

    (kept,) = store.registrations.files(registration.id)
    assert (kept.did, kept.path, kept.reason) == ("group.sphenix:a\\0b", "/d/\\udcff", "\\0")


def test_a_size_that_no_file_has_is_refused(store: Store) -> None:
    """A manifest may hold any number; the rest of it is not lost for that."""
    registration = planned(store, file("a", bytes=2**63), file("b", events=2**70), file("c", bytes=2**63 - 1))

    assert states(store, registration) == {"a": "refused", "b": "refused", "c": "planned"}


def test_ten_thousand_files_take_few_statements_and_little_memory(store: Store) -> None:
    """They are written and read in pages; memory does not grow with them."""
    many, page = 10_000, 500
    opened = store.registrations.begin(WANTED, who="me", why=None, now=NOW)
    registration = opened.registration
    statements: list[str] = []
    record = store.registrations

    def page_of(start: int) -> list[RegisteredFile]:
        return [file(f"f{number:06d}") for number in range(start, start + page)]

    record.plan(registration, page_of(0), guids())  # whatever is made once is made now
    tracemalloc.start()
    event.listen(store.database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    for start in range(page, many, page):
        record.plan(registration, page_of(start), guids())
    for some in record.pages(registration.id, [FileState.PLANNED], size=page):
        record.note_sums(registration.id, [summed(each) for each in some])
    for some in record.pages(registration.id, [FileState.SUMMED], size=page):
        record.note_attached(registration.id, some)
    record.listed(opened, whole=True, who="me", now=NOW)
    done = record.finish(registration.id, "all", who="me", now=NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (done.files, done.bytes) == ({FileState.ATTACHED: many}, many * 5)
    assert len(statements) < 20 * many / page
    assert peak < 8_000_000
