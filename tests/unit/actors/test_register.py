"""The actor `register`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from actors.register import Register, RegisterOptions
from orchestrator.core.actor import Done, GiveUp, Interrupted, Order, Retry, Tools, Wait
from orchestrator.core.registering import Policy
from orchestrator.dispatch.actors import installed
from orchestrator.register.filler import Filler
from orchestrator.register.known_sums import KnownSumsAway
from orchestrator.register.reading import Reader
from orchestrator.register.registrar import Registrar
from orchestrator.register.sources import Sources
from orchestrator.register.summing import Summing
from orchestrator.rucio.port import Catalog, DatasetState
from orchestrator.settings import ConfigurationError
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.store import Store
from schemas.did import Did
from tests.services.catalog import FakeCatalog, Faulty, When
from tests.unit.making import NOW, order, tools

DID = Did("group.sphenix", "CALOR-00021615")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    yield opened
    opened.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a folder of three files, one of which is still written, and a list of two elsewhere."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a.root", "b.root", "more/c.root"):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text(name)
    (tmp_path / "list").write_text("out/a.root\nout/b.root\n")
    return tmp_path


def using(home: Path, store: Store, catalog: Catalog, *, stopping: bool = False) -> Tools:
    @contextmanager
    def opening(stop: Callable[[], bool]) -> Iterator[Filler]:
        summing = Summing(Reader(stopping=stop))
        yield Filler(store.registrations, catalog, summing.all, clock=lambda: NOW, stopping=stop)

    return replace(tools(home, stopping=stopping), registering=Registrar(opening, Sources(home), Policy()))


def asked(**options: Any) -> Order:
    return replace(order(["true"]), options={"dataset": str(DID), "files": ("out",), **options})


def test_a_rule_creates_a_dataset_fills_it_and_closes_it(home: Path, store: Store) -> None:
    """With all that it says; our record says which rule it was. Numbers that a template filled in are numbers again."""
    catalog = FakeCatalog(clock=lambda: NOW)
    metadata = {"run_number": "21615", "tag": "0021", "good": True}
    told = asked(containers=("ALL/CALOR",), metadata=metadata, lifetime="2d")

    outcome = Register().act(told, using(home, store, catalog))

    assert outcome == Done(f"{DID} closed with 3 files")
    assert catalog.dataset(DID).state is DatasetState.CLOSED
    assert [file.did.name for file in catalog.files(DID)] == ["a.root", "b.root", "c.root"]
    assert catalog.children(Did(DID.scope, "CALOR")) == [DID]
    known = catalog.metadata([DID])[DID]
    assert (known["run_number"], known["tag"], known["good"]) == (21615, "0021", True)
    assert known["expired_at"] - known["created_at"] == timedelta(days=2)
    (registration,) = store.registrations.list()
    assert (registration.who, registration.why) == ("rule raw", "dispatch 3")


def test_it_is_safe_to_repeat(home: Path, store: Store) -> None:
    """A dispatch may be tried any number of times."""
    catalog = FakeCatalog()
    given = using(home, store, catalog)
    first = Register().act(asked(), given)

    assert Register().act(asked(), given) == first == Done(f"{DID} closed with 3 files")
    assert [event["event_type"] for event in catalog.events] == ["create_dts", "close"]


def test_files_are_named_by_patterns_and_by_lists(home: Path, store: Store) -> None:
    """Which begin in the home; the dataset may stay open."""
    catalog = FakeCatalog()

    outcome = Register().act(
        asked(files=("out/more/*.root",), manifests=("list",), close=False), using(home, store, catalog)
    )

    assert outcome == Done(f"{DID} filled with 3 files")
    assert catalog.dataset(DID).state is DatasetState.OPEN


def test_files_that_are_refused_are_tried_again(home: Path, store: Store) -> None:
    """By the rule's retry policy: a file that was still written is there under its name the next time."""
    catalog = FakeCatalog()
    partial = home / "out" / "d.root.partial"
    partial.write_text("d")
    given = using(home, store, catalog)

    refused = Register().act(asked(), given)
    partial.rename(home / "out" / "d.root")
    done = Register().act(asked(), given)

    assert isinstance(refused, Retry) and "registration 1: 1 file is refused: " in refused.reason
    assert "*.partial" in refused.reason
    assert done == Done(f"{DID} closed with 4 files")


def test_a_list_that_cannot_be_read_closes_nothing(home: Path, store: Store) -> None:
    """The next try may find it."""
    catalog = FakeCatalog()

    outcome = Register().act(asked(manifests=("nowhere",)), using(home, store, catalog))

    assert isinstance(outcome, Retry) and "nowhere" in outcome.reason
    assert catalog.dataset(DID).state is DatasetState.OPEN


def test_what_a_person_must_mend_is_given_up(home: Path, store: Store) -> None:
    """No RSE of that name, a dataset that is none, settings that do not fit."""
    given = using(home, store, FakeCatalog())

    assert isinstance(Register().act(asked(rse="NOWHERE"), given), GiveUp)
    assert isinstance(Register().act(asked(dataset="x"), given), GiveUp)

    @contextmanager
    def unfit(stop: Callable[[], bool]) -> Iterator[Filler]:
        raise ConfigurationError("known_sums is not there")
        yield

    broken = replace(given, registering=Registrar(unfit, Sources(home), Policy()))
    assert Register().act(asked(), broken) == GiveUp("known_sums is not there")


@pytest.mark.parametrize("error", [KnownSumsAway("somebody writes them"), StoreUnavailable("it is full")])
def test_what_comes_back_by_itself_is_waited_for(home: Path, store: Store, error: Exception) -> None:
    """Sums that somebody writes, and the store."""

    @contextmanager
    def away(stop: Callable[[], bool]) -> Iterator[Filler]:
        raise error
        yield

    given = replace(using(home, store, FakeCatalog()), registering=Registrar(away, Sources(home), Policy()))

    assert Register().act(asked(), given) == Wait(str(error), timedelta(minutes=1))


def test_a_catalog_that_is_away_is_waited_for(home: Path, store: Store) -> None:
    """That costs no attempt."""
    catalog = FakeCatalog()

    away = Register().act(asked(), using(home, store, Faulty(catalog, {("attach", 1): When.AFTER})))

    assert isinstance(away, Wait)
    assert Register().act(asked(), using(home, store, catalog)) == Done(f"{DID} closed with 3 files")


def test_muleteer_can_be_stopped_half_way(home: Path, store: Store) -> None:
    """It goes on after the next start."""
    catalog = FakeCatalog()

    stopped = Register().act(asked(), using(home, store, catalog, stopping=True))

    assert isinstance(stopped, Interrupted)
    assert Register().act(asked(), using(home, store, catalog)) == Done(f"{DID} closed with 3 files")


def test_options_are_checked_before_a_rule_goes_live(home: Path, store: Store) -> None:
    """Something must be registered; what is no template yet must be right."""
    given = using(home, store, FakeCatalog())

    def wrong(**options: Any) -> str | None:
        return Register().check(asked(**options).options, given)

    with pytest.raises(ValidationError, match="say what is registered"):
        RegisterOptions(dataset="a:b")
    assert wrong(dataset="{scope}:CALOR-{run}", containers=("{name}/X",)) is None
    assert str(wrong(dataset="CALOR")).startswith("register.dataset: 'CALOR' is not a DID")
    assert str(wrong(containers=("A//B",))).startswith("register.containers: 'A//B' is no way of containers")


def test_rules_find_it_by_its_name() -> None:
    """It is installed with the product."""
    assert isinstance(installed().usable["register"], Register)
