"""How the stand-in's tasks and workflows move, by commands of callers, by control and by the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

from .gates import holds
from .model import FINAL, File, Params, Request, Task, Work, now
from .rules import LIVE, OUTCOME, STILL_ACTIVE, lived, rejected


class State:
    """Everything the server knows. Hold `lock` while reading or changing it.

    refine_after: seconds until JEDI knows a submitted task; None: only when `refine()` is called.
    hold_workflows: iDDS gives request ids but submits no task while this is True.
    command_seconds: how long commands (kill, retry ...) wait until they show; None: until `settle()`.
    step_seconds: seconds between the states of a task that moves by itself; None: tasks stay where they are.
    """

    def __init__(self, first_task_id: int = 30_000_001) -> None:
        self.lock = threading.RLock()
        self.tasks: dict[int, Task] = {}
        self.requests: dict[int, Request] = {}
        self.native_workflows: list[Params] = []
        self.cache: dict[str, File] = {}
        self.refine_after: float | None = 0.0
        self.hold_workflows = False
        self.command_seconds: float | None = 0.0
        self.step_seconds: float | None = None
        self.set_numbers(first_task_id, 1, 1)
        self.job_ids = count(6_000_000_001)
        self._by_name: dict[str, list[int]] = {}
        self._moving: set[int] = set()  # tasks the clock has to look at
        self._gated: set[int] = set()  # requests with steps that are no tasks yet

    def set_numbers(self, task: int, request: int, transform: int) -> None:
        """The next ids to give."""
        self.task_ids, self.request_ids, self.transform_ids = count(task), count(request), count(transform)

    # --- finding

    def find(self, task: int | str) -> Task:
        """The task with this id or name, the newest of several. Raises KeyError without one."""
        if isinstance(task, int) or task.isdigit():
            if int(task) not in self.tasks:
                raise KeyError(f"no task has the id {task}")
            return self.tasks[int(task)]
        ids = self._by_name.get(task.rstrip("/"))
        if not ids:
            raise KeyError(f"no task is named {task}")
        return self.tasks[ids[-1]]

    def named(self, name: str) -> list[Task]:
        """All tasks of this name, the oldest first."""
        return [self.tasks[task] for task in self._by_name.get(name.rstrip("/"), [])]

    def known(self, task: int) -> Task | None:
        """The task if JEDI knows it."""
        found = self.tasks.get(task)
        return found if found is not None and found.status is not None else None

    # --- submission

    def submit(self, params: Params, owner: str, parent: int | None = None) -> tuple[int, str]:
        """Insert a task. Returns PanDA's code and message: 0 new, 1 and 2 duplicate, 3 runs again.

        The clock does not look at it before the next `tick()`.
        """
        older = self._duplicate_of(params, owner) if params.get("uniqueTaskName") is True else None
        if older is None:
            return 0, f"succeeded. new jediTaskID={self._insert(params, owner, parent).id}"
        if older.status is None:
            text = f"jediTaskID={older.id} is already queued for outDS={older.name}. "
            return 1, text + "You cannot submit duplicated tasks. "
        if rejected("incexec", older.status):
            return 2, STILL_ACTIVE.format(older)
        return 3, self._run_again(older, params)

    def _duplicate_of(self, params: Params, owner: str) -> Task | None:
        """The newest task with the same name, VO, label, and owner unless it is official."""
        same = [
            task
            for task in self.named(params["taskName"])
            if task.name == params["taskName"]
            and (params.get("official") or task.owner == owner)
            and all(task.params.get(key) == params.get(key) for key in ("vo", "prodSourceLabel"))
        ]
        return same[-1] if same else None

    def _insert(self, params: Params, owner: str, parent: int | None) -> Task:
        number = next(self.task_ids)
        params = {**params, "userName": owner, "taskType": "anal", "taskPriority": 1000}
        due = time.time() + (self.refine_after or 0.0)
        task = Task(number, params["taskName"], owner, params, parent or number, due)
        self.remember(task)
        return task

    def _run_again(self, task: Task, params: Params) -> str:
        text = f"reactivation accepted. jediTaskID={task.id} (currently in {task.status} state) "
        task.params.update(params)
        self._register(task, "incexec", params)
        return text + "will be re-executed with old and/or new input"

    def remember(self, task: Task) -> None:
        """Take a task in, a new one or one from a file."""
        self.tasks[task.id] = task
        self._by_name.setdefault(task.name.rstrip("/"), []).append(task.id)
        self._moving.add(task.id)

    # --- workflows

    def launch(self, name: str, owner: str, out_ds: str, works: list[Work]) -> Request:
        """Give a workflow a request id; its first steps become tasks. The same one twice gets two ids."""
        request = Request(next(self.request_ids), name, owner, out_ds, works)
        for work in works:
            work.transform_id = next(self.transform_ids)
        self.remember_request(request)
        self.tick()
        return request

    def remember_request(self, request: Request) -> None:
        self.requests[request.id] = request
        self._gated.add(request.id)

    def workflows(self, out_ds: str) -> list[Request]:
        """All workflows submitted with this outDS, the oldest first."""
        return [request for request in self.requests.values() if request.out_ds == out_ds]

    def abort(self, request: Request) -> None:
        """Kill the tasks of a workflow and never submit the rest of it."""
        request.aborted, request.updated = True, now()
        self._gated.discard(request.id)
        for task in self.tasks_of(request):
            if task.status is not None and not rejected("kill", task.status):
                self._register(task, "kill", None)

    def tasks_of(self, request: Request) -> Iterator[Task]:
        """The tasks that steps of a workflow have become."""
        return (self.tasks[work.task_id] for work in request.works if work.task_id is not None)

    def _open_gates(self) -> bool:
        """Submit the steps whose gates are open; tells whether there were any."""
        opened = False
        for number in [] if self.hold_workflows else sorted(self._gated):
            request = self.requests[number]
            waiting = [work for work in request.works if work.task_id is None and work.error is None]
            if not waiting:
                self._gated.discard(number)
            for work in waiting:
                if holds(work.gate, self._status_of(request)):
                    self._submit_work(work, request)
                    opened = True
        return opened

    def _status_of(self, request: Request) -> Callable[[int], str | None]:
        """Tells the status of the task that a node has become; None as long as JEDI knows of none."""
        numbers = {work.node: work.task_id for work in request.works}

        def status_of(node: int) -> str | None:
            number = numbers[node]
            return None if number is None else self.tasks[number].status

        return status_of

    def _submit_work(self, work: Work, request: Request) -> None:
        parents = [other.task_id for other in request.works if other.node in work.parents]
        parent = parents[0] if len(work.parents) == 1 and parents else None
        code, message = self.submit(work.params, request.owner, parent)
        request.updated = now()
        if code == 0:
            work.task_id = int(message.rpartition("=")[2])
        else:
            work.error = message

    # --- commands

    def command(self, task_id: int, command: str, arguments: Params | None = None) -> tuple[int, str]:
        """Register a command. Returns PanDA's code and message: 0 registered, 2 unknown task, 4 wrong state."""
        task = self.known(task_id)
        if task is None:
            return 2, f"jediTaskID={task_id} not found"
        if rejected(command, task.status):
            return 4, f"Command rejected: the {command} command is not accepted if the task is in {task.status} status "
        self._register(task, command, arguments)
        return 0, f"command={command} is registered for task ID {task.id}. will be executed in a few minutes"

    def _register(self, task: Task, command: str, arguments: Params | None) -> None:
        task.commands.append({"command": command, "arguments": arguments, "at": now()})
        task.command, task.due = command, time.time() + (self.command_seconds or 0.0)
        self._moving.add(task.id)

    def settle(self) -> None:
        """Carry all registered commands out now, and refine all tasks."""
        for task in [self.tasks[number] for number in sorted(self._moving)]:
            if task.status is None:
                self._refine(task)
            if task.command:
                self._carry_out(task)
        self.tick()

    def refine(self, task: int | str) -> None:
        """Let JEDI know this task."""
        found = self.find(task)
        if found.status is None:
            self._refine(found)
        self.tick()

    def _refine(self, task: Task) -> None:
        task.move("registered" if self.step_seconds is not None else "defined")
        task.due += self.step_seconds or 0.0

    def _carry_out(self, task: Task) -> None:
        command, task.command = task.command, None
        if command in ("retry", "incexec"):
            task.failed, task.error, task.attempt = 0, None, task.attempt + 1
        if command == "finish":
            task.move("finished" if task.finished else "failed")
        elif command == "resume":
            task.move(task.old_status or "ready")
        elif command:
            task.move(OUTCOME[command])
        task.due = time.time() + (self.step_seconds or 0.0)

    # --- the clock

    def tick(self) -> None:
        """Bring everything up to date with the clock and the settings."""
        moved = True
        while moved:
            moved = any([self._tick(self.tasks[number]) for number in sorted(self._moving)])
            moved = self._open_gates() or moved

    def touch(self, task: Task) -> None:
        """A task was changed from outside: its modification time says so, and the clock goes on from there."""
        task.modified = now()
        task.due = time.time() + (self.step_seconds or 0.0)
        self._moving.add(task.id)
        self.tick()

    def _tick(self, task: Task) -> bool:
        """Move one task by one step if it is due."""
        if task.due > time.time():
            return False
        if task.status is None:
            if self.refine_after is None:
                return False
            self._refine(task)
        elif task.command:
            if self.command_seconds is None:
                return False
            self._carry_out(task)
        elif (
            self.step_seconds is None
            or task.status not in LIVE[:-1]
            or not lived(task, self.tasks.get(task.parent, task), self.step_seconds)
        ):
            if self.step_seconds is None or task.status in FINAL:
                self._moving.discard(task.id)
            return False
        return True

    def live(self, step_seconds: float | None) -> None:
        """Let tasks move by themselves, or stop them (None)."""
        self.step_seconds = step_seconds
        for task in self.tasks.values():
            task.due = time.time() + (step_seconds or 0.0)
            self._moving.add(task.id)
        self.tick()
