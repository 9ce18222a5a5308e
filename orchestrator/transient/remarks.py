"""Says in the log what stands in the way of policies that release by themselves, each thing once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog

from orchestrator.transient.desk import Looked
from orchestrator.transient.surveyor import Survey
from schemas.transient import PolicySummary

log = structlog.get_logger()

#: So many surveys that could not look closely at everything are more than chance.
_GOES_ON: Final = 2


class Remarks:
    """Is given what each survey came to. What was said is said again only after it was over."""

    def __init__(self) -> None:
        #: The versions of policies that release nothing.
        self._silent: set[tuple[str, int]] = set()
        self._refused: str | None = None
        self._strange: set[str] = set()
        #: Why it was not believed that datasets had vanished.
        self._doubt: str | None = None
        #: Surveys one after the other that could not look closely at everything.
        self._short = 0

    def take(self, looked: Looked) -> None:
        """Say what is new."""
        self._of_policies(looked.survey.summaries.values())
        if looked.refused is not None and looked.refused != self._refused:
            log.warning("transient.not_released", reason=looked.refused, released=len(looked.released))
        self._refused = looked.refused
        for what in sorted(set(looked.survey.strange) - self._strange):
            log.warning("transient.bounds_nothing", reason=what)
        self._strange = set(looked.survey.strange)
        if looked.doubt is not None and looked.doubt != self._doubt:
            log.error("transient.most_vanished", reason=looked.doubt)
        self._doubt = looked.doubt
        self._of_beyond(looked.survey)

    def _of_beyond(self, survey: Survey) -> None:
        beyond = survey.refused["beyond"]
        self._short = self._short + 1 if beyond else 0
        if self._short == _GOES_ON:
            next_ = "raise [transient] proofs, or see what stays: muleteer transient list --state held"
            log.warning("transient.beyond", looked_at=survey.proofs, not_looked_at=beyond, next=next_)

    def _of_policies(self, summaries: Iterable[PolicySummary]) -> None:
        silent = {(each.policy, each.version): each.refused for each in summaries if each.refused is not None}
        for key in sorted(silent.keys() - self._silent):
            log.warning("transient.policy_releases_nothing", policy=key[0], version=key[1], reason=silent[key])
        self._silent = set(silent)
