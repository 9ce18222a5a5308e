"""Windows on a store, asked without a network in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from orchestrator.core.actor import Tools
from orchestrator.core.cycles import Cycle
from orchestrator.core.mistakes import Mistake
from orchestrator.dispatch.actors import installed
from orchestrator.dispatch.rules import mistakes_of
from orchestrator.monitor.access import Tokens
from orchestrator.monitor.app import build
from orchestrator.monitor.asking import Window
from orchestrator.monitor.transient_desk import TransientDesk
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.rule import Rule
from tests.unit.making import NOW, UNMATCHED, NoReality, NoRegistering, NoTransients


class Nothing:
    """Launches nothing, and finds nothing wrong with it."""

    def launch(self, request: Any) -> Any:
        raise AssertionError(request)

    def wrong(self, workflow: str, parameters: Any) -> str | None:
        return None


def _nobody() -> TransientDesk:
    raise AssertionError("nothing was to be released")


def asking(store: Store, tokens: Tokens, tmp_path: Path, desk: Callable[[], TransientDesk] | None = None) -> TestClient:
    """A client without a token, of a service for this store."""

    def mistakes(rule: Rule) -> Iterator[Mistake]:
        return mistakes_of(
            rule, installed(), Tools(tmp_path, Nothing(), lambda: False, NoReality(), NoRegistering(), NoTransients())
        )

    def going_round(coming: Sequence[Rule], prune: bool) -> Sequence[Cycle]:
        """As if whatever is called `round` started itself."""
        return [Cycle(("round", "round"), "x:y", True) for rule in coming if rule.name == "round" and rule.enabled]

    def known(dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        """As in a catalog that holds whatever is called `there`."""
        return {did: {"did_type": "DATASET", "is_open": False} for did in dids if "there" in did.name}

    window = Window(
        store=store,
        tokens=tokens,
        mistakes=mistakes,
        cycles=going_round,
        unmatched=UNMATCHED,
        catalog=known,
        stalled_after=timedelta(hours=6),
        desk=desk or _nobody,
        clock=lambda: NOW,
    )
    return TestClient(build(window), base_url="http://localhost")
