"""What may happen next: one transition table for each thing that has states.

What a table does not list cannot happen: the store refuses it, and a test enumerates the complement.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from schemas.dispatch import DispatchState as D
from schemas.launch import CommandState as C
from schemas.launch import LaunchState as L
from schemas.message import MessageState as M
from schemas.registration import FileState as F
from schemas.registration import RegistrationState as G
from schemas.replay import ReplayState as P
from schemas.room import RoomState as R
from schemas.transient import TransientState as T

Table = Mapping[StrEnum, frozenset[StrEnum]]

MESSAGE: Table = {
    # judged: matched, unmatched (its event's policy), or overtaken by a later event of the same dataset
    M.PENDING: frozenset({M.DISPATCHED, M.DROPPED, M.HELD, M.SUPERSEDED}),
    # dispatched from here, or from dropped: given to a rule by a person
    M.HELD: frozenset({M.PENDING, M.DISPATCHED, M.DROPPED, M.SUPERSEDED}),
    # back in quarantine: it could not be read, and was put away
    M.DROPPED: frozenset({M.PENDING, M.DISPATCHED, M.QUARANTINED}),
    # read after all, replaced by a mended copy, or put away by a person
    M.QUARANTINED: frozenset({M.PENDING, M.SUPERSEDED, M.DROPPED}),
    # to be judged once more; what it started stays, and is not started again
    M.DISPATCHED: frozenset({M.PENDING}),
    M.SUPERSEDED: frozenset(),
}

DISPATCH: Table = {
    # failed: what it requires of the catalog did not come true in time
    D.READY: frozenset({D.RUNNING, D.HELD, D.REFUSED, D.CANCELLED, D.FAILED}),
    # back to ready is a retry; in_doubt is a worker that vanished
    D.RUNNING: frozenset({D.DONE, D.WAITING, D.FAILED, D.READY, D.IN_DOUBT}),
    D.WAITING: frozenset({D.RUNNING, D.HELD, D.CANCELLED}),
    D.IN_DOUBT: frozenset({D.READY, D.FAILED}),
    D.FAILED: frozenset({D.READY, D.CANCELLED}),
    D.HELD: frozenset({D.READY, D.CANCELLED}),
    # forced: a person let it take the key from the one that has it
    D.REFUSED: frozenset({D.READY, D.CANCELLED}),
    # to be carried out once more
    D.DONE: frozenset({D.READY}),
    D.CANCELLED: frozenset({D.READY}),
}

REPLAY: Table = {
    P.RUNNING: frozenset({P.STOPPED, P.DONE}),
    P.STOPPED: frozenset({P.RUNNING}),
    P.DONE: frozenset(),
}

LAUNCH: Table = {
    L.PREPARED: frozenset({L.SUBMITTING, L.FAILED, L.KILLED}),
    # back to prepared: the engine said that nothing was taken
    L.SUBMITTING: frozenset({L.SUBMITTED, L.IN_DOUBT, L.PREPARED, L.FAILED}),
    L.IN_DOUBT: frozenset({L.SUBMITTED, L.PREPARED, L.FAILED}),
    L.SUBMITTED: frozenset({L.RUNNING, L.FINISHED, L.PARTLY_FINISHED, L.FAILED, L.KILLED}),
    L.RUNNING: frozenset({L.FINISHED, L.PARTLY_FINISHED, L.FAILED, L.KILLED}),
    L.FINISHED: frozenset(),
    # running once more: a person, or its retry policy, had what failed retried
    L.PARTLY_FINISHED: frozenset({L.RUNNING}),
    L.FAILED: frozenset({L.RUNNING}),
    L.KILLED: frozenset({L.RUNNING}),
}

#: A launch that stands here goes on only if a person wants it to, or its retry policy.
LAUNCH_ENDED = frozenset({L.FINISHED, L.PARTLY_FINISHED, L.FAILED, L.KILLED})

COMMAND: Table = {
    C.WANTED: frozenset({C.TAKEN, C.REFUSED}),
    C.TAKEN: frozenset(),
    C.REFUSED: frozenset(),
}

ROOM: Table = {
    R.OPEN: frozenset({R.OVERDUE, R.DISPATCHED, R.DROPPED}),
    R.OVERDUE: frozenset({R.DISPATCHED, R.DROPPED}),
    # what comes later begins another round
    R.DISPATCHED: frozenset(),
    R.DROPPED: frozenset(),
}

REGISTRATION: Table = {
    G.OPEN: frozenset({G.DONE, G.FAILED}),
    # resumed, after somebody mended what stood in the way
    G.FAILED: frozenset({G.OPEN}),
    # what comes later is another registration
    G.DONE: frozenset(),
}

#: Files of a registration. They are many: the journal is of registrations, and a file's row says why it stands there.
REGISTRATION_FILE: Table = {
    F.PLANNED: frozenset({F.SUMMED, F.REFUSED}),
    # planned again: asked for with another path or other sums
    F.SUMMED: frozenset({F.ATTACHED, F.REFUSED, F.PLANNED}),
    # back to summed: the catalog has it no more
    F.ATTACHED: frozenset({F.SUMMED, F.PLANNED}),
    F.REFUSED: frozenset({F.PLANNED}),
}

TRANSIENT: Table = {
    # released from here, too: it was proved in that moment. Gone: by other hands
    T.HELD: frozenset({T.RELEASABLE, T.RELEASED, T.GONE}),
    T.RELEASABLE: frozenset({T.HELD, T.RELEASED, T.GONE}),
    # held: taken back, or no longer proved when its time came
    T.RELEASED: frozenset({T.HELD, T.LEAVING, T.GONE}),
    # held: called back by a person, as far as it was there still
    T.LEAVING: frozenset({T.HELD, T.GONE}),
    # held: it had vanished by other hands, so it was said, and is seen again, in the same life
    T.GONE: frozenset({T.HELD}),
}


def may_follow(table: Table, source: StrEnum, target: StrEnum) -> bool:
    """Whether the table lists the step from `source` to `target`."""
    return target in table[source]


def final(table: Table) -> frozenset[StrEnum]:
    """The states that nothing follows."""
    return frozenset(state for state, following in table.items() if not following)


def before(table: Table, target: StrEnum) -> frozenset[StrEnum]:
    """The states from which the table lists a step to `target`."""
    return frozenset(state for state, following in table.items() if target in following)
