"""The store as a whole: open it once, hand it round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sqlalchemy import Column, Table, func, select

from orchestrator.core.sieve import Sieve
from orchestrator.store import schema
from orchestrator.store.by_hand import ByHand
from orchestrator.store.dispatches import Dispatches
from orchestrator.store.engine import Database
from orchestrator.store.facts import FactStore
from orchestrator.store.history import MessageHistory
from orchestrator.store.job_reports import JobReports
from orchestrator.store.journal import Journal
from orchestrator.store.launch_commands import LaunchCommands
from orchestrator.store.launch_retries import LaunchRetries
from orchestrator.store.launches import Launches
from orchestrator.store.messages import Messages
from orchestrator.store.reconciliations import Reconciliations
from orchestrator.store.registrations import Registrations
from orchestrator.store.relay import Relay
from orchestrator.store.replays import Replays
from orchestrator.store.requirements import Requirements
from orchestrator.store.rooms import Rooms
from orchestrator.store.rules import Rules
from orchestrator.store.run_flags import RunFlags
from orchestrator.store.signals import Bells
from orchestrator.store.suspensions import Suspensions
from orchestrator.store.tables import dispatches, identity, launches, messages
from orchestrator.store.transient_keeps import TransientKeeps
from orchestrator.store.transient_policies import TransientPolicies
from orchestrator.store.transient_readers import TransientReaders
from orchestrator.store.transients import Transients
from orchestrator.store.turns import Turns
from schemas.views import Counts


@dataclass(frozen=True)
class Store:
    """Everything that is remembered. Safe to use from every thread."""

    #: What tells this store from any other, 32 hexadecimal digits.
    id: str
    database: Database
    messages: Messages
    rules: Rules
    dispatches: Dispatches
    launches: Launches
    journal: Journal
    facts: FactStore
    run_flags: RunFlags
    #: The whole history of messages, to be looked through.
    history: MessageHistory
    #: What people do to many messages or dispatches at once.
    by_hand: ByHand
    #: What stands still.
    suspensions: Suspensions
    #: What people ask of launches.
    launch_commands: LaunchCommands
    #: What policies decide about launches.
    launch_retries: LaunchRetries
    #: What jobs tell about themselves.
    job_reports: JobReports
    #: Histories sent through the rules again.
    replays: Replays
    #: The waiting rooms of rules that join datasets.
    rooms: Rooms
    #: Files on their way into the catalog.
    registrations: Registrations
    #: What was compared with the catalog.
    reconciliations: Reconciliations
    #: What dispatches require of the catalog before they are started.
    requirements: Requirements
    #: Intermediate datasets that leave when they are needed no more.
    transients: Transients
    #: Which datasets are such.
    transient_policies: TransientPolicies
    #: What must stay, whatever a policy says.
    transient_keeps: TransientKeeps
    #: What of our own work hangs on datasets.
    transient_readers: TransientReaders
    #: Whose turn it is at work that only one process is to do.
    turns: Turns

    @classmethod
    def open(cls, url: str, sieve: Sieve | None = None) -> Self:
        """Open the store. SQLite's schema is brought up to date; PostgreSQL's must be (`muleteer db upgrade`).

        `sieve` says which messages are put away as they come.

        Raises:
            StoreUnavailable, StoreOutdated, StoreError.
        """
        database = Database(url)
        try:
            if database.is_sqlite and not schema.is_current(database):
                schema.upgrade(database)
            schema.demand_current(database)
            with database.read() as connection:
                id_ = connection.scalars(select(identity.c.id)).one()
        except Exception:
            database.close()
            raise
        return cls(
            id_,
            database,
            Messages(database, sieve),
            Rules(database),
            Dispatches(database),
            Launches(database),
            Journal(database),
            FactStore(database),
            RunFlags(database),
            MessageHistory(database),
            ByHand(database),
            Suspensions(database),
            LaunchCommands(database),
            LaunchRetries(database),
            JobReports(database),
            Replays(database),
            Rooms(database),
            Registrations(database),
            Reconciliations(database),
            Requirements(database),
            Transients(database),
            TransientPolicies(database),
            TransientKeeps(database),
            TransientReaders(database),
            Turns(database),
        )

    @property
    def bells(self) -> Bells:
        return self.database.bells

    def relay(self) -> Relay:
        """Hear what other processes commit, until closed."""
        return Relay(self.database)

    def await_turn(self) -> None:
        """Wait until this process may write, and write nothing. Raises StoreUnavailable: it may not."""
        with self.database.write() as connection:
            connection.execute(select(1))

    def counts(self) -> Counts:
        """How many of each there are, by state."""
        revision, versions = self.rules.in_force()
        waiting = self.facts.waiting()
        with self.database.read() as connection:

            def by(table: Table, column: Column[str]) -> dict[str, int]:
                rows = connection.execute(select(column, func.count()).select_from(table).group_by(column))
                return {state: count for state, count in rows}

            newest = select(messages.c.received_at).order_by(messages.c.id.desc()).limit(1)
            return Counts(
                messages=by(messages, messages.c.state),
                dispatches=by(dispatches, dispatches.c.state),
                launches=by(launches, launches.c.state),
                revision=revision,
                rules=sum(version.rule.enabled for version in versions),
                last_received_at=connection.scalars(newest).one_or_none(),
                waiting_for_catalog=waiting.messages,
                waiting_for_catalog_since=waiting.since,
            )

    def close(self) -> None:
        self.database.close()
