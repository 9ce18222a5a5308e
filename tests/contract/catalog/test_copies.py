"""What every catalog promises of copies, and of the RSEs where they lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from orchestrator.rucio.port import Catalog, InvalidPfn, Replica, RseNotFound
from schemas.did import Did
from tests.contract.catalog.samples import strict
from tests.contract.catalogs import Desk


def test_copies_are_told_by_file(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Of files that are named, and of each file of datasets and containers, at any depth; all RSEs or some."""
    disk, tape = desk.rses
    inner, both, alone = desk.did("INNER"), desk.file("both.root", 20), desk.file("alone.root", 30)
    catalog.add_container(inner)
    catalog.enclose(inner, [run])
    catalog.enclose(box, [inner])
    catalog.attach(run, [both])
    catalog.register([replace(both, pfn=desk.pfn(tape, "both.root"))], tape)
    catalog.register([alone])
    on_disk = Replica(both.did, disk, both.pfn, 20)
    on_tape = Replica(both.did, tape, desk.pfn(tape, "both.root"), 20)
    single = Replica(alone.did, disk, alone.pfn, 30)

    def found(dids: Iterable[Did], rse: str | None = None) -> dict[Did, set[Replica]]:
        return {did: set(copies) for did, copies in catalog.replicas(dids, rse).items()}

    all_ = {both.did: {on_disk, on_tape}, alone.did: {single}}
    assert found([both.did, alone.did]) == all_
    assert found([run, alone.did], "*") == all_
    assert found([box, alone.did, both.did], f"{disk}|{tape}") == all_
    assert found([box, alone.did], disk) == {both.did: {on_disk}, alone.did: {single}}
    assert found([box, alone.did], tape) == {both.did: {on_tape}, alone.did: set()}
    assert found([box], f"{tape}|NO-SUCH-RSE") == {both.did: {on_tape}}


def test_a_copy_that_cannot_be_read_is_told_when_it_is_asked_for(desk: Desk, catalog: Catalog, run: Did) -> None:
    """It is there still, at its place; where each copy can be read both answers are the same."""
    disk, tape = desk.rses
    file = desk.file("a.root")
    catalog.attach(run, [file])
    catalog.register([replace(file, pfn=desk.pfn(tape, "a.root"))], tape)
    on_disk, on_tape = (Replica(file.did, rse, desk.pfn(rse, "a.root"), 10) for rse in (disk, tape))
    if desk.take_away is not None:
        desk.take_away(file.did, disk)
        assert catalog.replicas([run]) == catalog.replicas([file.did]) == {file.did: [on_tape]}
        assert catalog.replicas([run], disk) == {file.did: []}

    assert catalog.replicas([run], readable=False) == catalog.replicas([file.did], readable=False)
    assert set(catalog.replicas([run], readable=False)[file.did]) == {on_disk, on_tape}
    assert catalog.replicas([run], disk, readable=False) == {file.did: [on_disk]}


def test_what_has_no_files_has_no_copies(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """An empty dataset or container gives nothing, and a DID that there is not, or cannot be, is left out."""
    assert catalog.replicas([run, box, desk.did("never.root"), Did("a b", "\udc80\0:")]) == {}
    assert catalog.replicas([]) == {}


@pytest.mark.parametrize("expression", ["NO-SUCH-RSE", "no rse", "A||B"])
def test_an_expression_has_to_fit_an_rse(desk: Desk, catalog: Catalog, expression: str) -> None:
    """Copies at RSEs that there are not cannot be asked for."""
    catalog.register([desk.file()])

    with pytest.raises(RseNotFound, match="RSE"):
        catalog.replicas([desk.file().did], expression)


@strict
def test_an_rse_is_made_by_others(desk: Desk, run: Did) -> None:
    """Files cannot be registered at an RSE that there is not."""
    with pytest.raises(RseNotFound, match="NO-SUCH-RSE"):
        desk.catalog.attach(run, [desk.file()], "NO-SUCH-RSE")
    with pytest.raises(RseNotFound, match="NO-SUCH-RSE"):
        desk.catalog.register([desk.file()], "NO-SUCH-RSE")

    assert desk.catalog.registered([desk.file().did]) == {}


@strict
def test_an_rse_is_looked_for_before_files_are(desk: Desk) -> None:
    """Without any file, and without changing anything."""
    desk.catalog.demand_rse()
    desk.catalog.demand_rse(desk.rses[1])
    with pytest.raises(RseNotFound, match="NO-SUCH-RSE"):
        desk.catalog.demand_rse("NO-SUCH-RSE")


def test_an_rse_has_a_name(catalog: Catalog) -> None:
    """What can be none is found, also where RSEs are there when they are first used."""
    catalog.demand_rse()
    with pytest.raises(RseNotFound):
        catalog.demand_rse("no rse")


@strict
def test_an_rse_keeps_files_in_its_place(desk: Desk, run: Did) -> None:
    """A file that lies elsewhere is refused, and with it the call."""
    elsewhere = replace(desk.file("b.root"), pfn=desk.pfn(desk.rses[1], "b.root"))

    with pytest.raises(InvalidPfn, match=desk.rses[0]):
        desk.catalog.attach(run, [desk.file("a.root"), elsewhere])

    assert desk.catalog.files(run) == []
    assert desk.catalog.attach(run, [elsewhere], desk.rses[1]) == 1
