"""Transient datasets: every life of a dataset that a policy has matched, and how far it is on its way out.

`held -> releasable -> released -> leaving -> gone`. Nothing is done in the catalog before `leaving`, which is written
down with all copies that leave before the first call.
"""

from __future__ import annotations

from orchestrator.store.transient_claiming import Claiming
from orchestrator.store.transient_copies import Copies
from orchestrator.store.transient_leaving import Leaving
from orchestrator.store.transient_recalling import Recalling
from orchestrator.store.transient_releasing import Releasing
from orchestrator.store.transient_reporting import Reporting
from orchestrator.store.transient_seeing import Seeing
from orchestrator.store.transient_spending import Spending
from orchestrator.store.transient_telling import Telling


class Transients(Seeing, Releasing, Spending, Claiming, Leaving, Recalling, Copies, Reporting, Telling):
    """Transient datasets: seen, released, taken back, claimed, leaving, called back, reported, told of by events."""
