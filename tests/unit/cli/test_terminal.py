"""How wide what is printed is where there is no terminal."""

from __future__ import annotations

import pytest

from orchestrator.store.store import Store
from tests.unit.cli.conftest import Muleteer
from tests.unit.making import NOW, frame

NAME = "DST-" + "Q" * 120


@pytest.fixture(autouse=True)
def _one_message(store: Store) -> None:
    store.messages.take_in([frame(name=NAME)], origin="broker", now=NOW)


def test_nothing_is_folded_in_a_file(muleteer: Muleteer) -> None:
    """Each row is a line, as programs that read lines want it."""
    assert any(NAME in line for line in muleteer("messages", "list").out.splitlines())


def test_columns_says_how_wide_it_is(muleteer: Muleteer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is folded, and nothing is left out; what is no number counts as nothing."""
    monkeypatch.setenv("COLUMNS", "100")
    folded = muleteer("messages", "list").out.splitlines()
    monkeypatch.setenv("COLUMNS", "wide")

    assert max(map(len, folded)) <= 100
    assert sum(line.count("Q") for line in folded) == 120
    assert NAME in muleteer("messages", "list").out
