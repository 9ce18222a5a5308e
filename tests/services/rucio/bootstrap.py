"""The database of a new Rucio: its tables, and the account root."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

from . import files, installation

#: Of root, in every database that this process makes.
PASSWORD = secrets.token_urlsafe(12)

_STEPS = """\
from rucio.db.sqla.util import build_database, create_base_vo, create_root_account
build_database()
create_base_vo()
create_root_account()
"""


def bootstrap(database: str, directory: Path) -> None:
    """Make an empty PostgreSQL database, given as a URL for SQLAlchemy, one for a server. Raises RuntimeError.

    Takes two seconds; `Postgres.create_database(name, template)` copies the result in a tenth of one.
    """
    installation.make()
    configuration = files.server_files(directory, database, PASSWORD, cache_port=None)
    made = subprocess.run(
        installation.command("python", "-c", _STEPS, configuration=configuration),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        raise RuntimeError(f"Rucio cannot make its tables in {database}:\n{made.stderr[-3000:]}")
