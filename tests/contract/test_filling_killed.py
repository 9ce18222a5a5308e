"""Datasets are filled: wherever it is killed or the catalog fails, the second call ends the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.port import Catalog, CatalogUnavailable
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.registration import RegistrationState
from tests.contract.filling import (
    DONE,
    FAILED,
    SCOPE,
    WAY,
    Counting,
    Dying,
    Killed,
    World,
    demand_agreement,
    dump,
    other,
)
from tests.services.catalog import FakeCatalog, Faulty, When


@pytest.fixture(params=["fake", "embedded"])
def catalogs(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], Catalog]:
    """Gives an empty catalog for each number."""
    if request.param == "fake":
        return lambda number: FakeCatalog()
    return lambda number: LocalCatalog(tmp_path / f"{number}.db", lambda headers, body: None)


def worlds(tmp_path: Path, store: Store, catalogs: Callable[[int], Catalog]) -> Iterator[World]:
    """One after the other, each with a dataset of its own; one file is in the catalog already, one is another there."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(1000):
        world = World(folder, store, catalogs(number), Did(SCOPE, f"CALOR-{number}"))
        other(world, "b.root", "content of b.root")
        yield world


def expected(world: World) -> tuple[Any, RegistrationState]:
    filled = world.fill()
    demand_agreement(world.store, world.catalog, world.dataset)
    return _dump(world), filled.registration.state


def _dump(world: World) -> Any:
    found = dump(world.catalog, [world.dataset], WAY)
    return {
        "dataset": found["datasets"][str(world.dataset)],
        "containers": [
            [child.replace(world.dataset.name, "") for child in each] for each in found["containers"].values()
        ],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("catalogs", "error", "differs"),
    [("fake", None, False), ("fake", Killed, True), ("embedded", Killed, False)],
    indirect=["catalogs"],
)
def test_wherever_the_catalog_fails_a_second_call_ends_the_same(
    tmp_path: Path,
    store: Store,
    catalogs: Callable[[int], Catalog],
    error: type[BaseException] | None,
    differs: bool,
) -> None:
    """At every call, before it, half-way and after it: the same catalog, and our record agrees with it."""
    coming = worlds(tmp_path, store, catalogs)

    def next_world() -> World:
        world = next(coming)
        if differs:
            other(world, "d.root", "other")
        return world

    reference = next_world()
    counting = Faulty(reference.catalog)
    state = reference.fill(catalog=counting).registration.state
    wanted = _dump(reference)
    assert counting.total >= 10 and state is (FAILED if differs else DONE)

    named: dict[str, Any] = {} if error is None else {"error": error}
    for number in range(1, counting.total + 1):
        for when in When:
            world = next_world()
            with pytest.raises(CatalogUnavailable if error is None else error):
                world.fill(catalog=Faulty(world.catalog, {number: when}, **named))

            again = world.fill()

            assert (again.registration.state, _dump(world)) == (state, wanted), (number, when)
            demand_agreement(store, world.catalog, world.dataset)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("catalogs", "after"),
    [("fake", False), ("fake", True), ("embedded", True)],
    indirect=["catalogs"],
)
def test_wherever_it_is_killed_when_it_writes_a_second_call_ends_the_same(
    tmp_path: Path, store: Store, catalogs: Callable[[int], Catalog], after: bool
) -> None:
    """Before each write into our record is committed, and after it."""
    coming = worlds(tmp_path, store, catalogs)
    reference = next(coming)
    counting = Dying(store.registrations, 0, after=after)
    state = reference.fill(record=counting.as_record()).registration.state
    wanted = _dump(reference)
    assert counting.writes > 7 and state is DONE

    for number in range(1, counting.writes + 1):
        world = next(coming)
        with pytest.raises(Killed):
            world.fill(record=Dying(store.registrations, number, after=after).as_record())

        again = world.fill()

        assert (again.registration.state, _dump(world)) == (state, wanted), number
        if not (after and number == counting.writes):  # then it was done, and a second registration saw that it was
            demand_agreement(store, world.catalog, world.dataset)


def test_wherever_it_is_killed_while_it_reads_a_second_call_ends_the_same(
    tmp_path: Path, store: Store, catalogs: Callable[[int], Catalog]
) -> None:
    """At each file."""
    coming = worlds(tmp_path, store, catalogs)
    wanted, state = expected(next(coming))

    for number in range(1, 6):
        world = next(coming)
        with pytest.raises(Killed):
            world.fill(reader=Counting(dies_at=number))

        again = world.fill()

        assert (again.registration.state, _dump(world)) == (state, wanted), number
        demand_agreement(store, world.catalog, world.dataset)
