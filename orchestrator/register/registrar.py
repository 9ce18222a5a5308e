"""What actors and launches ask to have registered, by the settings of this home."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import chain
from typing import Final

from orchestrator.core.actor import Done, GiveUp, Interrupted, Outcome, RegisterRequest, Retry, Wait
from orchestrator.core.registering import Mistold, Policy, Told, plan
from orchestrator.register.containers import way_down
from orchestrator.register.filler import Filled, Filler
from orchestrator.register.known_sums import KnownSumsAway
from orchestrator.register.sources import Sources
from orchestrator.rucio.port import CatalogUnavailable
from orchestrator.settings import ConfigurationError
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.registration_rows import Listing, Wanted
from schemas.registration import RegistrationState

#: Gives a filler for one request, which asks whether it is to stop.
Opening = Callable[[Callable[[], bool]], AbstractContextManager[Filler]]

#: So long it is waited for what will come back by itself.
_PATIENCE: Final = timedelta(minutes=1)


class Registrar:
    """Fills datasets for actors and launches."""

    def __init__(self, opening: Opening, sources: Sources, policy: Policy) -> None:
        self._opening = opening
        self._sources = sources
        self._policy = policy

    def register(self, request: RegisterRequest, stopping: Callable[[], bool]) -> Outcome:
        """Fill a dataset; what was begun is gone on with."""
        wanted = Wanted(
            request.dataset,
            request.rse,
            request.closes,
            request.containers,
            request.metadata,
            request.lifetime,
            Listing.REPEATED,
        )
        files = plan(self._tellings(request), request.dataset.scope, self._policy, made_later, request.rse)
        try:
            with self._opening(stopping) as filler:
                return outcome_of(filler.fill(wanted, files, who=request.who, why=request.why))
        except (CatalogUnavailable, KnownSumsAway, StoreUnavailable) as error:
            return Wait(str(error), _PATIENCE)
        except ConfigurationError as error:
            return GiveUp(str(error))

    def wrong(self, containers: tuple[str, ...]) -> str | None:
        """What is wrong with ways of containers."""
        try:
            for way in containers:
                way_down(way, "scope")
        except ValueError as error:
            return str(error)
        return None

    def _tellings(self, request: RegisterRequest) -> Iterator[Told | Mistold]:
        manifests = (self._sources.from_manifest(name) for name in request.manifests)
        return chain(self._sources.from_words(request.files), chain.from_iterable(manifests))


def made_later() -> str:
    """No GUID: our record makes one with the file's first row, so that every later call has the same."""
    return ""


def outcome_of(filled: Filled) -> Outcome:
    """What came of it, as actors say it."""
    said = filled.registration.reason or ""
    name = f"registration {filled.registration.id}"
    if filled.stopped:
        return Interrupted(f"{name} was stopped, and goes on where it stood")
    match filled.registration.state:
        case RegistrationState.DONE:
            return Done(said)
        case RegistrationState.OPEN:
            other = f" ({filled.other})" if filled.other is not None else ""
            return Wait(f"{name}: somebody else{other} brings more files into {filled.registration.dataset}", _PATIENCE)
        case RegistrationState.FAILED:
            return (GiveUp if filled.hopeless else Retry)(f"{name}: {said}")
