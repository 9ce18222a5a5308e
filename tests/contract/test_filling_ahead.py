"""Datasets are filled: what would be done is said, and nothing is done."""

from __future__ import annotations

import os
from dataclasses import replace

from orchestrator.core.registering import Mistold
from orchestrator.register.foreseeing import Foresight
from orchestrator.register.reading import Reader
from orchestrator.register.summing import Summing
from orchestrator.register.verdicts import Foreseen, What
from orchestrator.store.registration_rows import Wanted
from schemas.registration import FileState, RegisteredFile
from tests.contract.filling import FAILED, SCOPE, World, other, planned
from tests.services.catalog import Faulty


def foreseen(world: World, files: list[RegisteredFile | Mistold], wanted: Wanted | None = None) -> dict[str, Foreseen]:
    foresight = Foresight(world.store.registrations, world.catalog, Summing(Reader()), at_once=2)
    return {each.did.removeprefix(f"{SCOPE}:"): each for each in foresight.foresee(wanted or world.wanted(), files)}


def test_what_would_be_done_is_said_and_nothing_is_done(world: World) -> None:
    """Of containers, the dataset, and every file."""
    other(world, "b.root", "content of b.root")
    other(world, "c.root", "something else")
    bad = planned("x.partial", world.folder / "x", state=FileState.REFUSED, reason="partial")
    missing = planned("y.root", world.folder / "y.root")
    catalog = Faulty(world.catalog)

    found = foreseen(replace(world, catalog=catalog), [*world.files("abc"), bad, missing, Mistold("list:7", "no PFN")])

    assert {did: each.what for did, each in found.items()} == {
        "ALL": What.CREATE,
        "CALOR": What.CREATE,
        world.dataset.name: What.CREATE,
        "a.root": What.REGISTER,
        "b.root": What.ATTACH,
        "c.root": What.REFUSE,
        "x.partial": What.REFUSE,
        "y.root": What.REFUSE,
        "list:7": What.REFUSE,
    }
    assert "another file of this name" in str(found["c.root"].reason)
    changing = {"add_dataset", "add_container", "register", "attach", "enclose", "close", "reopen", "set_metadata"}
    assert not changing & set(catalog.calls)
    assert world.store.registrations.list() == []


def test_of_a_dataset_that_is_done_nothing_would_be_done(world: World) -> None:
    """All of it is as it should be."""
    world.fill()

    found = foreseen(world, list(world.files()))

    assert {each.what for each in found.values()} == {What.KEEP}


def test_what_a_closed_dataset_will_not_take_is_foreseen(world: World) -> None:
    """A file that is not in it is refused, and one that nobody asked for is said."""
    world.fill(world.files("ab"))

    found = foreseen(world, list(world.files("bc")))

    assert {did: found[did].what for did in ("a.root", "b.root", "c.root")} == {
        "a.root": What.FOREIGN,
        "b.root": What.KEEP,
        "c.root": What.REFUSE,
    }
    assert "closed" in str(found["c.root"].reason)


def test_files_too_small_and_foreign_ones_and_other_metadata_are_foreseen(world: World) -> None:
    """Of a dataset that is open; what an earlier list of it brought is not foreign."""
    world.fill([*world.files("a"), world.file("e.root", "")])
    foreign = other(world, "z.root", "z")
    world.catalog.attach(world.dataset, [foreign])

    found = foreseen(world, [*world.files("b"), world.file("e.root")], world.wanted(metadata={"run_number": 2}))

    assert {did: found[did].what for did in ("b.root", "e.root", "z.root", world.dataset.name)} == {
        "b.root": What.REGISTER,
        "e.root": What.REFUSE,
        "z.root": What.FOREIGN,
        world.dataset.name: What.REFUSE,
    }
    assert "a.root" not in found and str(found["e.root"].reason).endswith("e.root is refused: it is empty")
    assert "with run_number 21615, and not 2" in str(found[world.dataset.name].reason)


def test_a_file_that_changed_after_it_was_attached_is_refused(world: World) -> None:
    """A second call finds that it is not what the catalog has, by its size or the moment of its change."""
    world.fill(wanted=world.wanted(closes=False))
    path = world.folder / "a.root"
    path.write_text("content of A.root")
    os.utime(path, ns=(1, 1))

    filled = world.fill(wanted=world.wanted(closes=False))

    assert filled.registration.state is FAILED
    assert "another file of this name (adler32" in str(filled.registration.reason)
