"""Each time that a registration is begun or gone on with: whose list counts, and what it says of the lists before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, false, func, insert, or_, select, update

from orchestrator.core.states import REGISTRATION_FILE
from orchestrator.store.journal import move, record, without_nul
from orchestrator.store.port import NotAllowed
from orchestrator.store.registration_rows import Listing, Wanted, wanted_row
from orchestrator.store.tables import Row, registration_files, registrations
from schemas.registration import FileState, Registration, RegistrationState

_SUBJECT: Final = "registration"

#: Files that are named of many.
_NAMED: Final = 3

_UNATTACHED: Final = tuple(state for state in REGISTRATION_FILE if state is not FileState.ATTACHED)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who called a registration."""

    who: str
    at: datetime

    def __str__(self) -> str:
        return f"{self.who} at {self.at:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Begun:
    """A registration that was begun, and what its list counts for."""

    registration: Registration
    #: Never REPEATED by somebody who was not the last to call.
    listing: Listing
    #: It was there, and the list before this one was not read to its end: it named more than is known of it.
    was_unread: bool = False
    #: Who called it before, and has not ended it: he is at work still, or was killed.
    at_work: Caller | None = None


@dataclass(frozen=True, slots=True)
class Wanting:
    """Files that were asked for before, and are wanted still."""

    count: int = 0
    #: DIDs of some of them.
    some: Sequence[str] = ()


def newest(connection: Connection, wanted: Wanted, *, lock: bool = False) -> Row | None:
    """The newest registration of the dataset at that RSE."""
    if wanted.dataset is None:
        return None
    same = (registrations.c.dataset == str(wanted.dataset), registrations.c.rse == (wanted.rse or ""))
    query = select(registrations).where(*same).order_by(registrations.c.id.desc()).limit(1)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else dict(row)


def insert_new(connection: Connection, wanted: Wanted, who: str, why: str | None, now: datetime) -> int:
    """Begin one. Returns its id."""
    row = {
        **wanted_row(wanted),
        "dataset": None if wanted.dataset is None else str(wanted.dataset),
        "rse": wanted.rse or "",
        "state": RegistrationState.OPEN.value,
        "who": who,
        "why": without_nul(why),
        "calls": 1,
        "listed": False,
        "created_at": now,
        "updated_at": now,
    }
    id_: int = connection.scalars(insert(registrations).values(row).returning(registrations.c.id)).one()
    record(connection, _SUBJECT, [id_], None, RegistrationState.OPEN, who=who, why=why, at=now)
    return id_


def reopen(
    connection: Connection, row: Row, who: str, why: str | None, now: datetime, changes: Mapping[str, Any]
) -> None:
    """Go on with one that is not done. Whoever repeats himself is not journalled each time."""
    values = {"who": who, "why": without_nul(why), "calls": row["calls"] + 1, "updated_at": now, "counts": None}
    values |= changes
    connection.execute(update(registrations).where(registrations.c.id == row["id"]).values(values))
    if row["state"] != RegistrationState.OPEN:
        source, target = RegistrationState.FAILED, RegistrationState.OPEN
        move(connection, registrations, [row["id"]], source, target, who=who, why=why, at=now, reason=None)
    elif row["who"] != who:
        record(connection, _SUBJECT, [row["id"]], row["state"], row["state"], who=who, why=why, at=now)


def changes_of(row: Row, wanted: Wanted) -> Row:
    """What a list changes of a registration that is not done. Raises NotAllowed: it may not."""
    if wanted.listing is not Listing.MORE:
        return {**wanted_row(wanted), "listed": False}
    if wanted.containers or wanted.metadata or wanted.lifetime is not None:
        raise NotAllowed(
            f"registration {row['id']} of {row['dataset']} is {row['state']}, and says what its containers, metadata "
            "and lifetime are to be: add files without them, or finish it first"
        )
    return {}


def listing_of(before: Row | None, wanted: Wanted, who: str, why: str | None) -> tuple[Listing, bool]:
    """What a list counts for, by the registration as it was; and whether the list before was not read to its end."""
    if before is None:
        # nobody asked for anything before: it is as if it were the whole
        return (Listing.WHOLE if wanted.listing is Listing.MORE else wanted.listing), False
    same = (before["who"], before["why"]) == (who, without_nul(why))
    listing = Listing.WHOLE if wanted.listing is Listing.REPEATED and not same else wanted.listing
    return listing, not before["listed"]


def at_work(before: Row | None) -> Caller | None:
    """Who called a registration last that is open."""
    if before is None or before["state"] != RegistrationState.OPEN:
        return None
    return Caller(before["who"], before["updated_at"])


def let_go(connection: Connection, begun: Begun) -> int:
    """Forget files of lists that this one replaces and that are not on it. Returns how many.

    What is attached already, and is not on a list that says it is all, is then something foreign in the dataset.
    """
    mine = registration_files.c.registration_id == begun.registration.id
    call = registration_files.c.call
    replaced: Mapping[Listing, ColumnElement[bool]] = {
        Listing.ANEW: call < begun.registration.calls,
        Listing.REPEATED: and_(call == begun.registration.calls - 1, registration_files.c.state.in_(_UNATTACHED)),
    }
    return connection.execute(delete(registration_files).where(mine, replaced.get(begun.listing, false()))).rowcount


def wanted_still(connection: Connection, begun: Begun) -> Wanting:
    """Files of earlier lists that are not on this one and are not in the catalog.

    If the list before was not read to its end, nobody knows what else is on it; then also those that are there count,
    so that only a list that has all of them is taken for that list.
    """
    if begun.listing is Listing.MORE:
        return Wanting()
    did, call = registration_files.c.did, registration_files.c.call
    old = [registration_files.c.registration_id == begun.registration.id, call < begun.registration.calls]
    missing = registration_files.c.state.in_(_UNATTACHED)
    if not begun.was_unread:
        old.append(missing)
    elif begun.listing is Listing.REPEATED:  # it knows what it left out of its own list
        old.append(or_(missing, call < begun.registration.calls - 1))
    count = connection.scalars(select(func.count()).where(*old)).one()
    return Wanting(count, connection.scalars(select(did).where(*old).order_by(did).limit(_NAMED)).all())


def is_listed(begun: Begun, wanting: Wanting, *, whole: bool) -> bool:
    """Whether all that was asked for is known, now that this list was read."""
    known = not begun.was_unread
    if begun.listing is Listing.MORE:
        return known
    return whole and (known or not wanting.count)
