"""A service's process, which can be stopped, killed and suspended, and which never outlives the tests."""

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

#: Linux ties a child's fate to the *thread* that forked it. This one lives as long as the interpreter,
#: so a test may start a service from a thread of its own.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


class Child:
    """One process in a session of its own (Ctrl-C is ours, not its), with its output appended to `log`."""

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, goodbye: signal.Signals, user: str | None = None
    ) -> None:
        """Run `command`, as `user` if given (only root may ask for that).

        `goodbye` is the signal that asks it to end. It gets this one also when the test process dies.
        """
        self.goodbye = goodbye
        prefix = ["setpriv", f"--pdeathsig={goodbye.name.removeprefix('SIG')}"]
        if user is not None:
            prefix += [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        with log.open("ab") as output:
            self._process = _forker.submit(
                subprocess.Popen[bytes],
                [*prefix, *command],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ).result()

    @staticmethod
    def missing() -> str | None:
        """Why no child can be started here, or None."""
        return None if shutil.which("setpriv") else "setpriv (util-linux 2.34 or newer) is not on PATH"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, patience: float = 30) -> None:
        """Ask it to end and wait; after `patience` seconds kill it. Fine on a suspended or ended child."""
        if not self.running:
            return
        self._process.send_signal(self.goodbye)
        self.resume()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it with its children at once, like a power cut that spares the disk."""
        if not self.running:
            return
        self.suspend()  # so that it starts no new child meanwhile
        children = self._children()
        _send(signal.SIGKILL, [*children, self.pid])
        self._process.wait()
        # PostgreSQL does not start again while one of its old children holds the shared memory.
        for pid in children:
            _await_end(pid)

    def suspend(self) -> None:
        """Freeze it with its children: connections stay open and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)
        _send(signal.SIGSTOP, self._children())

    def resume(self) -> None:
        """Undo `suspend`."""
        _send(signal.SIGCONT, [*self._children(), self.pid])

    def _children(self) -> list[int]:
        # Not the process group: every PostgreSQL backend makes one of its own.
        if not self.running:
            return []
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


def _send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _await_end(pid: int) -> None:
    with suppress(ProcessLookupError):
        end = os.pidfd_open(pid)
        select.select([end], [], [], 10)
        os.close(end)
