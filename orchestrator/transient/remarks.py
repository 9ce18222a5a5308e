"""Says in the log what stands in the way of policies that release by themselves, each thing once."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from orchestrator.transient.desk import Looked
from schemas.transient import PolicySummary

log = structlog.get_logger()


class Remarks:
    """Is given what each survey came to. What was said is said again only after it was over."""

    def __init__(self) -> None:
        #: The versions of policies that release nothing.
        self._silent: set[tuple[str, int]] = set()
        self._refused: str | None = None

    def take(self, looked: Looked) -> None:
        """Say what is new."""
        self._of_policies(looked.survey.summaries.values())
        if looked.refused is not None and looked.refused != self._refused:
            log.warning("transient.not_released", reason=looked.refused, released=len(looked.released))
        self._refused = looked.refused

    def _of_policies(self, summaries: Iterable[PolicySummary]) -> None:
        silent = {(each.policy, each.version): each.refused for each in summaries if each.refused is not None}
        for key in sorted(silent.keys() - self._silent):
            log.warning("transient.policy_releases_nothing", policy=key[0], version=key[1], reason=silent[key])
        self._silent = set(silent)
