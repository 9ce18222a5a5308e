"""Make a home directory; bring a database up to date."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

import schemas
from orchestrator import logs
from orchestrator.cli.common import Exit, Home, command, errors_explained, fail, out
from orchestrator.settings import FILE_NAME, load
from orchestrator.store import schema
from orchestrator.store.engine import Database
from orchestrator.store.port import StoreOutdated
from orchestrator.wiring import store_url

_SETTINGS = """\
# muleteer's settings. Everything here is optional; the values shown are those in force without it.
# Any of them can be set in the environment too: MULETEER_BROKER__USER=..., MULETEER_STORE__URL=...

[store]
# url = "sqlite:///muleteer.db"              # a file in this directory; or postgresql://user@host/database
# url_file = "secrets/store_url"             # a file that holds the URL, when it holds a password

[broker]
# kind = "embedded"                          # "stomp" for ActiveMQ
# addresses = ["mq1.example.org:61613"]      # tried in turn
# destination = "/queue/events"              # or /topic/..., or /queue/Consumer.muleteer.VirtualTopic.events
# user = "muleteer"
# passcode_file = "secrets/passcode"         # or the variable MULETEER_BROKER__PASSCODE
# tls = false
# selector = "event_type = 'close'"

[worker]
# threads = 4                                # actions carried out at the same time
# lease = "15s"                              # a worker silent for this long is taken for dead

[unmatched]
# close = "pending"                          # a close that no rule wants waits for one that does
# "*" = "dropped"                            # anything else is put away
"""

#: Where a home keeps what tells editors how a rules file looks.
SCHEMA = Path(".muleteer") / "rule.schema.json"


def schema_line(schema: Path) -> str:
    """The first line of a rules file: editors that know YAML complete and check it by this schema."""
    return f"# yaml-language-server: $schema={schema}\n"


_RULES = f"""\
{schema_line(SCHEMA)}\
# Which datasets start what. `muleteer rules apply rules.yaml` puts this file in force.
rules:
  - name: hello
    description: Say hello to every dataset of the scope "test" that is closed.
    on: close
    scope: test
    pattern: '(?P<what>.+)'
    actions:
      - run: {{command: [echo, "{{what}} was closed"]}}
"""


def init(home: Home = None) -> None:
    """Make a directory a home of muleteer: settings, a first rule, a folder for workflows."""
    place = (home or Path()).resolve()
    try:
        (place / "workflows").mkdir(parents=True, exist_ok=True)
        for name, content in ((FILE_NAME, _SETTINGS), ("rules.yaml", _RULES)):
            path = place / name
            kept = path.exists()
            if not kept:
                path.write_text(content)
            out.print(f"{'kept   ' if kept else 'written'}  {path}")
        _write_schema(place / SCHEMA)
    except OSError as error:
        fail(Exit.REFUSED, f"{place} cannot be made a home: {error}")
    at = "" if place == Path().resolve() else f" --home {place}"
    out.print(f"\nNext: {command()} rules apply {place / 'rules.yaml'}{at}\n      {command()} run{at}")


def _write_schema(path: Path) -> None:
    """Of this version of the program, whatever an earlier one has written."""
    path.parent.mkdir(exist_ok=True)
    path.write_text((files(schemas) / "json" / SCHEMA.name).read_text(encoding="utf-8"), encoding="utf-8")
    out.print(f"written  {path}")


database = typer.Typer(no_args_is_help=True, help="The database behind the store.")


@database.command("upgrade")
def upgrade(
    home: Home = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is up to date; exit 1 if not.")] = False,
) -> None:
    """Bring the store's schema up to date. For SQLite every command does this by itself."""
    place = (home or Path()).resolve()
    if not place.is_dir():
        fail(Exit.NOT_FOUND, f"there is no directory {place}: `muleteer init --home {place}` makes it a home")
    with errors_explained():
        settings = load(place)
        logs.configure(level="warning")
        store = Database(store_url(settings, place))
        try:
            if check:
                _check(store)
                return
            before, after = schema.upgrade(store)
        finally:
            store.close()
        done = "was there already" if before == after else f"brought from {before or 'nothing'}"
        out.print(f"{store.address} is at {after} ({done})")


def _check(store: Database) -> None:
    try:
        schema.demand_current(store)
    except StoreOutdated as error:
        fail(Exit.FAILED, str(error))
    out.print(f"{store.address} is at {schema.head()}, the newest")
