"""The intake filter: what is put away as it comes, and why."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.sieve import Sieve
from schemas.did import Did
from schemas.event import CatalogEvent
from tests.unit.making import NOW


def event(type_: str = "create_dts", scope: str | None = "group.sphenix", **payload: Any) -> CatalogEvent:
    return CatalogEvent(type_, None if scope is None else Did(scope, "N"), NOW, payload)


@pytest.mark.parametrize(
    ("sieve", "caught", "why"),
    [
        (Sieve(accounts=["idds*"]), event(account="idds-prod"), "intake filter: account idds-prod"),
        (Sieve(accounts=["x", "idds"]), event(account="idds"), "intake filter: account idds"),
        (Sieve(accounts=["!root"]), event(account="me"), "intake filter: account me"),
        (Sieve(scopes=["user.*"]), event(scope="user.me"), "intake filter: scope user.me"),
        (Sieve(events=["transfer-*"]), event("transfer-done", None), "intake filter: event transfer-done"),
    ],
)
def test_what_fits_is_caught_with_the_reason(sieve: Sieve, caught: CatalogEvent, why: str) -> None:
    """By account, scope or event, each with globs; the reason says which, and what was found."""
    assert sieve.catches(caught) == why


@pytest.mark.parametrize(
    ("sieve", "passed"),
    [
        (Sieve(), event(account="idds")),
        (Sieve(accounts=["idds*"]), event(account="sphnxpro")),
        (Sieve(accounts=["*"]), event()),
        (Sieve(accounts=["*"]), event(account=7)),
        (Sieve(accounts=["!root"]), event(account="root")),
        (Sieve(scopes=["*"]), event(scope=None)),
        (Sieve(scopes=["user.*"]), event(scope="group.user.x")),
        (Sieve(events=["transfer-*"]), event("close")),
    ],
)
def test_what_does_not_fit_passes(sieve: Sieve, passed: CatalogEvent) -> None:
    """An event that names no account is caught by no account, whatever the globs."""
    assert sieve.catches(passed) is None
