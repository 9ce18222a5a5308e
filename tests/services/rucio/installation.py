"""A virtual environment for the server and its daemons: they pin libraries that muleteer has in other versions."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

#: What is installed; the rest follows from the pins of Rucio itself.
PACKAGES = ("rucio==41.5.1", "gunicorn>=27,<28", "psycopg[binary]>=3.2.4")

#: Beside the packages of the tests, so that `make clean` takes it away too.
HOME = Path(sys.prefix) / "rucio-server"

#: Written last, with what was installed: without it, or with other contents, the environment is made anew.
_COMPLETE = HOME / "complete"


class CannotInstall(Exception):
    """The environment could not be made. The text says what pip said."""


def make() -> None:
    """Make the environment if it is not there yet, which takes half a minute.

    Processes that ask at the same time wait for the one that makes it. Raises CannotInstall.
    """
    with HOME.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_complete():
            _install()


def packages() -> Path:
    """The folder of the installed packages."""
    return next(HOME.glob("lib/python3*/site-packages"))


def command(program: str, *arguments: str, configuration: Path) -> list[str | Path]:
    """A program of the environment, with a `rucio.cfg` and with no variable of the tests that could lead it astray."""
    folder = configuration.parent
    variables = (f"PATH={os.environ['PATH']}", f"HOME={folder}", f"TMPDIR={folder}", f"RUCIO_CONFIG={configuration}")
    return ["env", "--ignore-environment", *variables, HOME / "bin" / program, *arguments]


def _is_complete() -> bool:
    return _COMPLETE.exists() and _COMPLETE.read_text().splitlines() == list(PACKAGES)


def _install() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, with_pip=False, symlinks=True)
    # To compile all of it would take a third of the time. The little that is used is compiled when it is used.
    pip = [sys.executable, "-m", "pip", "--python", str(HOME), "--disable-pip-version-check", "--retries", "1"]
    made = subprocess.run(
        [*pip, "install", "--quiet", "--no-compile", *PACKAGES],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        raise CannotInstall(f"pip cannot install {' '.join(PACKAGES)} into {HOME}:\n{made.stderr[-2000:]}")
    _COMPLETE.write_text("\n".join(PACKAGES))
