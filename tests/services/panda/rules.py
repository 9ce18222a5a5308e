"""Which commands a task accepts in which state, and how a task moves that moves by itself."""

from __future__ import annotations

import time

from .model import FINAL, PROCESSED, Task

#: The states of a task that moves by itself, and what its parent must be for it to go there.
LIVE = ("registered", "defined", "ready", "running", "done")
NEEDED = {"running": {"running", *PROCESSED}, "done": PROCESSED}

#: States in which a command is refused, or the only ones in which it is accepted.
REFUSED = {
    "kill": {*FINAL, "prepared", "toabort", "aborting"},
    "finish": {*FINAL, "prepared", "toabort", "aborting"},
    "pause": {*FINAL, "paused"},
}
ACCEPTED = {
    "retry": {"finished", "failed", "exhausted"},
    "incexec": {"finished", "failed", "aborted", "done", "exhausted"},
    "resume": {"paused", "throttled", "staging"},
}
#: What a task becomes once JEDI has carried a command out.
OUTCOME = {"kill": "aborted", "pause": "paused", "retry": "ready", "incexec": "ready"}

STILL_ACTIVE = (
    "jediTaskID={0.id} is in the {0.status} state for outDS={0.name}. You can re-submit the task with "
    "new parameters for the same or another input once it goes into finished/failed/done. Or you can retry the "
    "task once it goes into running/finished/failed/done. Note that retry != resubmission according to "
    "https://twiki.cern.ch/twiki/bin/view/PanDA/PandaJEDI#Task_retry_and_resubmission "
)


def rejected(command: str, status: str | None) -> bool:
    """Whether a task in this state does not take this command."""
    accepted = ACCEPTED.get(command)
    return status in REFUSED.get(command, set()) or (accepted is not None and status not in accepted)


def lived(task: Task, parent: Task, step_seconds: float) -> bool:
    """Move a task that is due by one state, unless its parent is behind; with a dead parent it is aborted.

    A task without a parent is its own. Tells whether it moved.
    """
    following = LIVE[LIVE.index(task.status or "registered") + 1]
    if parent is not task and parent.status in FINAL - PROCESSED:
        task.error = f"parent task {parent.id} is {parent.status}"
        task.move("aborted")
        return True
    if parent is not task and parent.status not in NEEDED.get(following, {parent.status}):
        task.due = time.time()
        return False
    task.files = task.files or task.expected_files
    task.finished = {"done": task.files, "running": task.files // 2}.get(following, 0)
    task.due += step_seconds
    task.move(following)
    return True
