"""Words that several reasons share."""

from __future__ import annotations

from datetime import datetime

from orchestrator.core.states import LAUNCH_ENDED
from orchestrator.core.transient.facts import Maker, Unknown
from schemas.transient import Refusal


def unknown(what: str, why: Unknown) -> Refusal:
    """What cannot be asked stands in the way."""
    return Refusal("unknown", f"{what} is not known: {why.why}")


def moment(at: datetime) -> str:
    """A time as people read it."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def files_have(count: int) -> str:
    """`1 file has`, `2 files have`."""
    return "1 file has" if count == 1 else f"{count:,} files have"


def ended(maker: Maker) -> bool:
    """Whether the launch goes on only if somebody wants it to."""
    return maker.state in LAUNCH_ENDED


def said(maker: Maker) -> str:
    """A launch in words."""
    return f"launch {maker.launch} ({maker.workflow}, {maker.state})"
