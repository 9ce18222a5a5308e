"""Datasets that somebody else fills too, lists that are outdated, and accounts that are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.registering import Mistold, Policy, Told, planned
from orchestrator.register.filler import Filler
from orchestrator.register.reading import Reader
from orchestrator.register.summing import Summing
from orchestrator.rucio.port import DatasetState, NotAdmitted
from orchestrator.store.registration_calls import Caller
from orchestrator.store.registration_rows import Listing, Wanted
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.registration import FileState, ManifestEntry, RegistrationState
from tests.contract.filling import SCOPE, World
from tests.services.catalog import FakeCatalog, Faulty, When
from tests.unit.making import NOW

OPEN, DONE, FAILED = RegistrationState.OPEN, RegistrationState.DONE, RegistrationState.FAILED


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    """With a catalog in memory, which has nothing in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    return World(folder, store, FakeCatalog())


def before_the_first(call: str, do: Callable[[], Any]) -> Callable[[str, int], None]:
    """A hook that does something once, before the first call of that name."""
    done: list[str] = []

    def hook(name: str, _: int) -> None:
        if name == call and not done:
            done.append(name)
            do()

    return hook


def test_whoever_comes_second_with_another_list_is_told_of_the_first(world: World) -> None:
    """Who it is, since when, and that he may be waited for: his list is not to be replaced while he is at work."""
    begun = world.store.registrations.begin(world.wanted(), who="cli:jane", why=None, now=NOW)
    world.store.registrations.plan(begun.registration, world.files("ab"), str)
    world.store.registrations.listed(begun, whole=True, who="cli:jane", now=NOW)

    filled = world.fill(world.files("cd"))

    assert filled.registration.state is FAILED
    said = str(filled.registration.reason)
    assert f"cli:jane at {NOW:%Y-%m-%d %H:%M:%S} UTC began to fill it too: wait for that if it is still at work" in said
    assert begun.at_work is None


def test_after_a_call_that_was_ended_nobody_is_said_to_be_at_work(world: World) -> None:
    """A list that failed is an earlier list, and no more."""
    world.fill([*world.files("a"), world.file("e.root", "")])

    filled = world.fill(world.files("b"))

    assert "--only-these" in str(filled.registration.reason)
    assert "at work" not in str(filled.registration.reason)


def test_whoever_was_first_is_told_of_the_second(world: World) -> None:
    """What is left over is the second's to do."""

    def plan_more() -> None:
        begun = world.store.registrations.begin(world.wanted(), who="cli:joe", why=None, now=NOW)
        world.store.registrations.plan(begun.registration, world.files("z"), str)

    filled = world.fill(catalog=Faulty(world.catalog, hook=before_the_first("attach", plan_more)))

    assert (filled.registration.state, filled.other) == (OPEN, Caller("cli:joe", NOW))
    assert world.fill(world.files("abcdez")).other is None


def test_what_was_no_file_comes_with_the_result(world: World) -> None:
    """All of it, where the reason names the first of it."""
    mistold = [Mistold(f"list:{number}", "not UTF-8") for number in range(9)]

    filled = world.fill([*world.files("a"), *mistold, Mistold("list:1", "told twice, alike", harmless=True)])

    assert filled.mistold == mistold


def test_a_wish_that_is_outdated_is_let_go_of_a_closed_dataset_too(world: World) -> None:
    """Somebody has closed it without the file: another name for the dataset is not what helps."""
    begun = world.store.registrations.begin(world.wanted(), who="other", why=None, now=NOW)
    world.store.registrations.plan(begun.registration, world.files("abz"), str)
    world.store.registrations.listed(begun, whole=True, who="other", now=NOW)
    other = Did(SCOPE, "OTHER")
    assert replace(world, dataset=other).fill(world.files("ab"), Wanted(other)).registration.state is DONE
    entries = [replace(entry, pfn=f"{world.folder}/{entry.did.name}") for entry in world.catalog.files(other)]
    world.catalog.add_dataset(world.dataset)
    world.catalog.attach(world.dataset, entries)
    world.catalog.close(world.dataset)

    stale = world.fill(world.files("ab"))

    said = str(stale.registration.reason)
    assert (
        "If what is not in it is not wanted any more, fill it with the others and --only-these; else register" in said
    )
    done = world.fill(world.files("ab"), world.wanted(listing=Listing.ANEW))
    assert (done.registration.state, world.catalog.dataset(world.dataset).state) == (DONE, DatasetState.CLOSED)


def test_an_account_that_is_refused_leaves_nothing_open(world: World) -> None:
    """The registration has failed, with the reason; once that is mended it goes on by its number."""
    refusing = Faulty(world.catalog, {("demand_rse", 1): When.BEFORE}, error=lambda: NotAdmitted("a wrong password"))

    with pytest.raises(NotAdmitted):
        world.fill(catalog=refusing)

    (registration,) = world.store.registrations.list()
    assert (registration.state, registration.reason) == (FAILED, "a wrong password")
    filler = Filler(world.store.registrations, world.catalog, Summing(Reader()).all)
    assert filler.resume(registration.id, who="cli:me", why=None).registration.state is DONE


@pytest.mark.parametrize("verify", [False, True])
def test_a_file_that_changes_has_to_be_what_its_manifest_told(world: World, verify: bool) -> None:
    """Also when the registration is gone on with by its number, and the manifest is no more."""
    path = world.folder / "a.root"
    path.write_text("as it was")
    sums = Reader().sums(str(path))
    entry = ManifestEntry(pfn=str(path), adler32=sums.adler32, md5=sums.md5)
    file = planned(Told(entry, "list:1"), SCOPE, Policy(), str)
    summing = Summing(Reader(), verify=verify)

    def change() -> None:
        path.write_text("as it is!")
        os.utime(path, ns=(1, 1))

    catalog = Faulty(world.catalog, hook=before_the_first("attach", change))
    catalog.faults[("attach", 1)] = When.BEFORE
    with pytest.raises(Exception, match="away"):
        Filler(world.store.registrations, catalog, summing.all).fill(world.wanted(), [file], who="me")
    (registration,) = world.store.registrations.list()
    filled = Filler(world.store.registrations, world.catalog, summing.all).resume(registration.id, who="me")

    assert filled.registration.files == {FileState.REFUSED: 1}
    assert f"is not as told: its manifest says adler32 {sums.adler32}" in str(filled.registration.reason)
    path.write_text("as it was")
    again = Filler(world.store.registrations, world.catalog, summing.all).resume(registration.id, who="me")
    assert again.registration.state is DONE
    assert world.catalog.files(world.dataset)[0].md5 == sums.md5
