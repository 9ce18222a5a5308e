"""Registrations: our own record of what is brought into the catalog, written before the catalog sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import IntegrityError

from orchestrator.core.replanning import asked_twice
from orchestrator.store.engine import Database
from orchestrator.store.journal import move, record, without_nul
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.registration_calls import (
    Begun,
    Wanting,
    at_work,
    changes_of,
    insert_new,
    is_listed,
    let_go,
    listing_of,
    newest,
    reopen,
    wanted_still,
)
from orchestrator.store.registration_planning import add, plan_again
from orchestrator.store.registration_rows import (
    FILE_COLUMNS,
    RegistrationFilter,
    Wanted,
    counted,
    file_of,
    file_row,
    read_files,
    registration_of,
    storable,
    write_files,
)
from orchestrator.store.tables import Row, registration_files, registrations
from schemas.registration import FileState, RegisteredFile, Registration, RegistrationId, RegistrationState

#: Every registration there is.
ALL_REGISTRATIONS: Final = RegistrationFilter()

_SUBJECT: Final = "registration"

#: What summing finds out.
_SUMS: Final = ("bytes", "adler32", "md5", "guid", "modified_ns", "reason")


class Registrations:
    """Every registration there ever was, with its files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Its beginning.

    def begin(self, wanted: Wanted, *, who: str, why: str | None, now: datetime) -> Begun:
        """Begin a registration, or resume the one of the same dataset at the same RSE that is not done.

        Its list of files counts as unread until `listed`. Of a dataset two are never open at once; registrations
        without a dataset have nothing to do with one another.

        Raises:
            NotAllowed: more files are to come into a dataset whose registration is not done, and they say something
                of the dataset too.
        """
        while True:
            try:
                with self._database.write() as connection:
                    before = newest(connection, wanted, lock=True)
                    if before is None or before["state"] == RegistrationState.DONE:
                        id_, before = insert_new(connection, wanted, who, why, now), None
                    else:
                        id_ = before["id"]
                        reopen(connection, before, who, why, now, changes_of(before, wanted))
            except IntegrityError:  # another began it at the same moment: it is there now
                continue
            return Begun(self.get(RegistrationId(id_)), *listing_of(before, wanted, who, why), at_work(before))

    def resume(self, id_: RegistrationId, *, who: str, why: str | None, now: datetime) -> Registration:
        """Go on with a registration as it was asked for. What was refused is planned again, but for what is barred.

        Raises:
            NotFound.
            NotAllowed: it is done, or its list was not read to its end, or another of its dataset is open.
        """
        try:
            with self._database.write() as connection:
                row = _locked(connection, id_)
                if row["state"] == RegistrationState.DONE:
                    raise NotAllowed(f"registration {id_} is done: register the files again to have it looked at")
                if not row["listed"]:
                    raise NotAllowed(
                        f"the list of registration {id_} was not read to its end: register the same files once more, "
                        "and what is done already will not be done again"
                    )
                reopen(connection, row, who, why, now, {})
                _try_refused_again(connection, id_)
        except IntegrityError:
            raise NotAllowed(f"another registration of {row['dataset']} is open: resume that one") from None
        return self.get(id_)

    def plan(self, registration: Registration, files: Sequence[RegisteredFile], new_guid: Callable[[], str]) -> None:
        """Write down files that are to be registered, before anything else is done with them.

        What is known of a file that is there already stays, unless the list says otherwise now. What an earlier
        registration of the dataset has found out of the same files is taken over. A file may be refused already; one
        that the list names twice, with two places, is refused here.

        Args:
            new_guid: makes a GUID for each file that has none yet.
        """
        wanted: dict[str, RegisteredFile] = {}
        for file in map(storable, files):
            wanted[file.did] = asked_twice(wanted[file.did], file) if file.did in wanted else file
        with self._database.write() as connection:
            _locked(connection, registration.id)
            there = read_files(connection, registration.id, list(wanted))
            add(connection, registration, [file for did, file in wanted.items() if did not in there], new_guid)
            plan_again(connection, registration, [(*there[did], file) for did, file in wanted.items() if did in there])

    def listed(self, begun: Begun, *, whole: bool, who: str, now: datetime) -> Wanting:
        """The list was read. Returns what was asked for before and is wanted still, though it is not on the list.

        Only a list that replaces another one lets go of what was on that.

        Args:
            whole: nothing on the list was unreadable, so that what is planned is all there is.
        """
        registration = begun.registration
        with self._database.write() as connection:
            row = _locked(connection, registration.id)
            gone = let_go(connection, begun)
            wanting = wanted_still(connection, begun)
            # whoever came later has a list of his own, of which this says nothing
            if row["calls"] == registration.calls:
                told = {"listed": is_listed(begun, wanting, whole=whole), "updated_at": now}
                this = registrations.c.id == registration.id
                connection.execute(update(registrations).where(this).values(told))
            if gone:
                why = f"{gone} files that had been asked for before were not asked for again"
                record(connection, _SUBJECT, [registration.id], row["state"], row["state"], who=who, why=why, at=now)
        return wanting

    # Its files.

    def note_sums(self, id_: RegistrationId, files: Sequence[RegisteredFile]) -> None:
        """Size and sums of these files are known now, and whatever else they say."""
        with self._database.write() as connection:
            _locked(connection, id_)
            summed = [file_row(file) | {"reason": None} for file in files]
            write_files(connection, id_, FileState.SUMMED, summed, _SUMS)

    def note_attached(self, id_: RegistrationId, files: Sequence[RegisteredFile]) -> None:
        """The catalog has these files. To be called only after it was seen, or said so."""
        with self._database.write() as connection:
            _locked(connection, id_)
            attached = [file_row(file) | {"reason": None} for file in files]
            write_files(connection, id_, FileState.ATTACHED, attached, ("guid", "reason"))

    def note_lost(self, id_: RegistrationId, dids: Sequence[str]) -> None:
        """The catalog has these files no more: they are to be attached again."""
        with self._database.write() as connection:
            _locked(connection, id_)
            write_files(connection, id_, FileState.SUMMED, [{"did": did} for did in dids], ())

    def refuse(self, id_: RegistrationId, reasons: Mapping[str, str]) -> None:
        """These files are not registered, each for its reason."""
        with self._database.write() as connection:
            _locked(connection, id_)
            rows = [{"did": did, "reason": without_nul(reasons[did])} for did in reasons]
            write_files(connection, id_, FileState.REFUSED, rows, ("reason",))

    def files(
        self, id_: RegistrationId, states: Sequence[FileState] = (), *, limit: int = 1000, after: str | None = None
    ) -> Sequence[RegisteredFile]:
        """A page of its files in those states, in the database's order of DIDs.

        `after` is the last DID of the page before.
        """
        columns = [registration_files.c[name] for name in FILE_COLUMNS]
        query = select(*columns).where(registration_files.c.registration_id == id_)
        if states:
            query = query.where(registration_files.c.state.in_(states))
        if after is not None:
            query = query.where(registration_files.c.did > after)
        query = query.order_by(registration_files.c.did).limit(limit)
        with self._database.read() as connection:
            return [file_of(dict(row)) for row in connection.execute(query).mappings()]

    def pages(
        self, id_: RegistrationId, states: Sequence[FileState] = (), *, size: int = 1000
    ) -> Iterator[Sequence[RegisteredFile]]:
        """All of its files that stand in those states when they are read, a page at a time."""
        after: str | None = None
        while page := self.files(id_, states, limit=size, after=after):
            yield page
            after = page[-1].did

    def count_without_guid(self, id_: RegistrationId) -> int:
        """How many of its files the catalog has without a GUID."""
        these = (registration_files.c.registration_id == id_, registration_files.c.state == FileState.ATTACHED)
        query = select(func.count()).where(*these, registration_files.c.guid.is_(None))
        with self._database.read() as connection:
            return connection.scalars(query).one()

    # Its end.

    def finish(self, id_: RegistrationId, why: str, *, who: str, now: datetime) -> Registration:
        """It is done. Raises NotAllowed: the catalog does not have all of it."""
        with self._database.write() as connection:
            counts = _counts(connection, id_)
            if set(counts["files"]) - {FileState.ATTACHED}:
                raise NotAllowed(f"registration {id_} cannot be done: its files are {counts['files']}")
            _end(connection, id_, RegistrationState.DONE, counts, why, who, now)
        return self.get(id_)

    def fail(self, id_: RegistrationId, reason: str, *, who: str, now: datetime) -> Registration:
        """It has come as far as it can until somebody mends something. If somebody else ended it, that stands."""
        with self._database.write() as connection:
            _end(connection, id_, RegistrationState.FAILED, _counts(connection, id_), reason, who, now)
        return self.get(id_)

    # What there is.

    def known(self, wanted: Wanted, dids: Sequence[str]) -> Mapping[str, RegisteredFile]:
        """What the newest registration of the dataset at that RSE knows of files."""
        with self._database.read() as connection:
            last = newest(connection, wanted)
            found = {} if last is None else read_files(connection, last["id"], dids)
        return {did: file for did, (file, _) in found.items()}

    def get(self, id_: RegistrationId) -> Registration:
        """Raises NotFound."""
        with self._database.read() as connection:
            rows = [_one(connection, id_)]
            return registration_of(rows[0], counted(connection, rows)[id_])

    def list(
        self, wanted: RegistrationFilter = ALL_REGISTRATIONS, *, limit: int = 50, before: int | None = None
    ) -> Sequence[Registration]:
        """A page of registrations, newest first; `before` is the last id of the page before."""
        query = select(registrations).where(*wanted.conditions()).order_by(registrations.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(registrations.c.id < before)
        with self._database.read() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
            counts = counted(connection, rows)
        return [registration_of(row, counts[row["id"]]) for row in rows]


def _try_refused_again(connection: Connection, id_: int) -> None:
    refused = registration_files.c.state == FileState.REFUSED
    these = (registration_files.c.registration_id == id_, refused, ~registration_files.c.barred)
    again = {"state": FileState.PLANNED.value, "reason": None}
    connection.execute(update(registration_files).where(*these).values(again))


def _end(
    connection: Connection, id_: int, target: RegistrationState, counts: Row, why: str, who: str, now: datetime
) -> None:
    values: dict[str, Any] = {"reason": why, "counts": json.dumps(counts), "updated_at": now}
    move(connection, registrations, [id_], RegistrationState.OPEN, target, who=who, why=why, at=now, **values)


def _counts(connection: Connection, id_: int) -> Row:
    """Of its files as they are now. Waits for whoever changes them."""
    return counted(connection, [{**_locked(connection, id_), "counts": None}])[id_]


def _locked(connection: Connection, id_: int) -> Row:
    """Its row, held to the end of the transaction: whoever changes files of it takes turns.

    Each of them holds it before any row of a file, so that no two wait for each other in a circle.
    """
    return _one(connection, id_, lock=True)


def _one(connection: Connection, id_: int, *, lock: bool = False) -> Row:
    query = select(registrations).where(registrations.c.id == id_)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no registration {id_}")
    return dict(row)
