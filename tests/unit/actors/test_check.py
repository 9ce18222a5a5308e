"""The actors `check` and `reconcile`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.check import Check
from actors.reconcile import Reconcile
from orchestrator.core.actor import Done, GiveUp, Order, Outcome, Retry, Tools, Wait
from orchestrator.reconcile.acting import InCatalog
from orchestrator.reconcile.gate import Gate
from orchestrator.reconcile.reconciler import Reconciler
from orchestrator.store.store import Store
from schemas.did import Did
from tests.services.catalog import FakeCatalog, Faulty, When
from tests.unit.making import NAME, NOW, SCOPE, later, message, order, tools

DID = Did(SCOPE, NAME)


def asked(**options: Any) -> Order:
    return replace(order(["true"]), options=options)


@pytest.fixture
def catalog() -> FakeCatalog:
    found = FakeCatalog(clock=lambda: NOW)
    found.add_dataset(DID)
    return found


def looking(home: Path, catalog: FakeCatalog | Faulty, store: Store) -> Tools:
    def reconciler() -> Reconciler:
        hour = timedelta(hours=1)
        return Reconciler(
            catalog, store.messages, store.reconciliations, overlap=hour, patience=timedelta(), clock=lambda: later(1)
        )

    gate = Gate(catalog)
    return replace(tools(home), reality=InCatalog(lambda: gate, reconciler))


def test_a_check_is_done_once_everything_is_as_it_should_be(tmp_path: Path, catalog: FakeCatalog, store: Store) -> None:
    given = looking(tmp_path, catalog, store)

    open_ = Check().act(asked(closed=True), given)
    catalog.close(DID)

    assert open_ == Retry(f"{DID}: it is open")
    assert Check().act(asked(closed=True), given) == Done(f"{DID} is as it should be")
    assert Check().act(asked(dataset=f"{SCOPE}:NONE", filled=True), given) == Retry(
        f"{SCOPE}:NONE: the catalog has no such dataset: never made, or erased"
    )


def test_while_the_catalog_is_away_both_wait(tmp_path: Path, catalog: FakeCatalog, store: Store) -> None:
    """It costs no try."""
    outcomes: list[Outcome] = [
        Check().act(asked(closed=True), looking(tmp_path, Faulty(catalog, {1: When.BEFORE}), store)),
    ]
    first = looking(tmp_path, catalog, store)
    Reconcile().act(asked(), first)
    outcomes.append(Reconcile().act(asked(), looking(tmp_path, Faulty(catalog, {1: When.BEFORE}), store)))

    assert [type(each) for each in outcomes] == [Wait, Wait]


def test_what_is_about_no_dataset_cannot_be_checked(tmp_path: Path, catalog: FakeCatalog, store: Store) -> None:
    about_nothing = replace(asked(closed=True), message=message(scope=None, name=None))
    given = looking(tmp_path, catalog, store)

    assert isinstance(Check().act(about_nothing, given), GiveUp)
    assert isinstance(Check().act(asked(closed=True, dataset="nonsense"), given), GiveUp)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "nothing is checked"),
        ({"dataset": "a:b"}, "nothing is checked"),
        ({"names": "("}, "check.names: pattern"),
        ({"numbered": r"\d+"}, "has no group n"),
    ],
)
def test_a_check_that_cannot_work_is_refused_with_the_rule(
    tmp_path: Path, options: Mapping[str, Any], text: str
) -> None:
    assert text in (Check().check(options, tools(tmp_path)) or "")


def test_braces_of_a_pattern_are_written_twice(tmp_path: Path) -> None:
    """As everywhere in options, which are templates."""
    assert Check().check({"names": r"RUN-\d{{8}}-{name}"}, tools(tmp_path)) is None


def test_reconciling_says_what_it_found(tmp_path: Path, catalog: FakeCatalog, store: Store) -> None:
    given = looking(tmp_path, catalog, store)
    Reconcile().act(asked(), given)
    catalog.close(DID)

    assert Reconcile().act(asked(), given) == Done("1 closings compared; 1 were missing, and are stored now")
    assert Reconcile().check({}, given) is None
