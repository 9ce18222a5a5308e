"""Create a dataset, fill it and close it: one operation that can be killed anywhere and called again.

What is done stands in our own record, in this order: a file with its GUID before the catalog sees it, its sums once
they are known, that it is attached only once the catalog has it. After a crash between the two the catalog is looked
at, and the record brought up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import structlog

from orchestrator.clock import Clock, utc_now
from orchestrator.core.registering import Mistold
from orchestrator.register import containers
from orchestrator.register.comparing import Differences, counted
from orchestrator.register.contents import DatasetContents
from orchestrator.register.describing import describe, lifetime_kept
from orchestrator.register.lists import Lists, ReadList, called_since
from orchestrator.register.noting import Noting, Summing, Tell
from orchestrator.register.reading import Stopped
from orchestrator.rucio.port import (
    Catalog,
    CatalogError,
    CatalogUnavailable,
    DatasetState,
    NotAdmitted,
)
from orchestrator.store.port import NotAllowed
from orchestrator.store.registration_calls import Begun, Caller
from orchestrator.store.registration_rows import Listing, Wanted
from orchestrator.store.registrations import Registrations
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile, Registration, RegistrationId

log = structlog.get_logger(__name__)

_WHO: Final = "register"


@dataclass(frozen=True, slots=True)
class Filled:
    """What came of it."""

    registration: Registration
    #: It was told to stop half-way, and can be called again.
    stopped: bool = False
    #: Trying again cannot help until somebody mends something: it is not about single files.
    hopeless: bool = False
    #: What was on its list, and was no file that can be registered.
    mistold: Sequence[Mistold] = ()
    #: Who else brings files into the dataset, if somebody does.
    other: Caller | None = None


class _Incomplete(Exception):
    """Not all of it is in the catalog. The text says what is not, and why."""


class Filler:
    """Brings files into the catalog. Doing it twice changes nothing."""

    def __init__(
        self,
        record: Registrations,
        catalog: Catalog,
        summing: Summing,
        *,
        clock: Clock = utc_now,
        at_once: int = 1000,
        new_guid: Callable[[], str] = lambda: str(uuid4()),
        stopping: Callable[[], bool] = lambda: False,
        tell: Tell = lambda what, done, of: None,
    ) -> None:
        """
        Args:
            at_once: files that are planned, compared and attached with one call.
            stopping: asked for each file that is summed, and for each such call.
        """
        self._record = record
        self._catalog = catalog
        self._clock = clock
        self._stopping = stopping
        self._noting = Noting(record, summing, clock=clock, at_once=at_once, stop_if_told=self._stop_if_told, tell=tell)
        self._contents = DatasetContents(
            *(record, catalog, self._noting), at_once=at_once, stop_if_told=self._stop_if_told, tell=tell
        )
        self._lists = Lists(
            record, clock=clock, at_once=at_once, new_guid=new_guid, stop_if_told=self._stop_if_told, tell=tell
        )

    def fill(
        self, wanted: Wanted, files: Iterable[RegisteredFile | Mistold], *, who: str, why: str | None = None
    ) -> Filled:
        """Register files, attach them to their dataset, and close it if that is wanted and all of them are in it.

        A file that cannot be registered is refused with its reason; the others are registered, the dataset stays open,
        and the registration has failed. Calling it again goes on where it stopped, and tries what was refused. It
        fails too if files that were asked for before are not on this list, unless it replaces that one.

        Raises:
            CatalogUnavailable, KnownSumsAway, StoreUnavailable: what was done stands; call it again later. After
                NotAdmitted the registration has failed, for it waits for somebody to mend the settings.
            NotAllowed: as `Registrations.begin`.
        """
        begun = self._record.begin(wanted, who=who, why=why, now=self._clock())
        return self._through(begun, lambda: self._lists.write_down(begun, files))

    def resume(self, id_: RegistrationId, *, who: str, why: str | None = None) -> Filled:
        """Go on with a registration that was asked for before. Raises as `fill` does; NotFound, NotAllowed."""
        resumed = self._record.resume(id_, who=who, why=why, now=self._clock())
        return self._through(Begun(resumed, Listing.WHOLE), ReadList)

    def _through(self, begun: Begun, plan: Callable[[], ReadList]) -> Filled:
        registration, list_ = begun.registration, ReadList()
        id_ = registration.id
        try:
            list_ = plan()
            closes = registration.closes and begun.listing is not Listing.MORE
            done = self._bring(registration, list_.wrong, closes=closes)
            return Filled(self._record.finish(id_, done, who=_WHO, now=self._clock()))
        except Stopped:
            return Filled(self._record.get(id_), stopped=True)
        except NotAllowed as error:  # somebody else has planned more files meanwhile
            log.info("registration.goes_on", registration=id_, reason=str(error))
            found = self._record.get(id_)
            return Filled(found, mistold=list_.mistold, other=called_since(found, begun) or begun.at_work)
        except NotAdmitted as error:  # somebody has to mend the settings first
            self._record.fail(id_, str(error), who=_WHO, now=self._clock())
            raise
        except CatalogUnavailable:
            raise
        except (CatalogError, _Incomplete) as error:
            failed = self._record.fail(id_, str(error), who=_WHO, now=self._clock())
            hopeless = isinstance(error, CatalogError)
            return Filled(failed, hopeless=hopeless, mistold=list_.mistold, other=called_since(failed, begun))

    def _bring(self, registration: Registration, wrong: Sequence[str], *, closes: bool) -> str:
        """The whole of it, in order. Returns in words what was done.

        Args:
            wrong: what keeps it from being all, whatever becomes of its files.
        """
        if self._noting.waiting(registration.id):
            self._catalog.demand_rse(registration.rse)  # before hours are spent on sums
        if registration.dataset is None:
            self._noting.sum(registration.id)
            self._contents.attach(registration, None)
            self._contents.demand_alone(registration)
            self._demand_all(registration, wrong, Differences())
            return self._summary(registration, "registered")
        dataset = Did.parse(registration.dataset)
        ways = _ways(registration, dataset)
        state = self._contents.make(dataset, registration)
        if state is DatasetState.OPEN:
            containers.make(self._catalog, ways)
        self._demand_all(registration, wrong, self._contents.bring(state, registration, dataset))
        if state is DatasetState.CLOSED:
            describe(self._catalog, dataset, registration.metadata)
            containers.make(self._catalog, ways)
        containers.put_into(self._catalog, dataset, ways)
        if closes:
            self._catalog.close(dataset)
        elif registration.closes and state is DatasetState.OPEN:
            raise _Incomplete(
                f"all its files are in {dataset}, and these were not to close it: "
                f"`muleteer register resume {registration.id}` does"
            )
        remark = lifetime_kept(self._catalog, dataset, registration.lifetime)
        return self._summary(registration, f"{dataset} {'closed' if closes else 'filled'}") + remark

    # What is demanded, and said.

    def _demand_all(self, registration: Registration, wrong: Sequence[str], found: Differences) -> None:
        """Raises _Incomplete, with all that is wrong."""
        said = []
        refused = self._record.get(registration.id).files.get(FileState.REFUSED, 0)
        if refused:
            first = self._record.files(registration.id, [FileState.REFUSED], limit=3)
            named = "; ".join(f"{file.did}: {file.reason}" for file in first)
            said.append(f"{counted(refused)} refused: {named}{'; ...' if refused > len(first) else ''}")
        said += wrong
        if found:
            said.append(str(found))
        if said:
            raise _Incomplete(". ".join(said))

    def _summary(self, registration: Registration, done: str) -> str:
        count = self._record.get(registration.id).files.get(FileState.ATTACHED, 0)
        unseen = self._record.count_without_guid(registration.id)
        remark = f"; {unseen} of them were there before without a GUID, and PanDA does not see such files"
        return f"{done} with {count} {'file' if count == 1 else 'files'}" + (remark if unseen else "")

    def _stop_if_told(self) -> None:
        if self._stopping():
            raise Stopped


def _ways(registration: Registration, dataset: Did) -> Sequence[Sequence[Did]]:
    """The containers above the dataset. Raises CatalogError."""
    try:
        return [containers.way_down(way, dataset.scope) for way in registration.containers]
    except ValueError as error:
        raise CatalogError(str(error)) from None
