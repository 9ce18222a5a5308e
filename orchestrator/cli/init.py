"""Make a home directory; bring a database up to date."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

import schemas
from orchestrator import logs
from orchestrator.cli.session import Exit, Home, command, errors_explained, fail
from orchestrator.cli.terminal import out
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

[catalog]
# kind = "embedded"                          # "rucio" for a Rucio server
# config = "/opt/rucio/etc/rucio.cfg"        # what its section [client] says need not be said here
# host = "https://rucio.example.org"
# account = "production"
# username = "production"                    # or auth_type = "x509" and client_cert, "x509_proxy", "oidc"
# password_file = "secrets/rucio"            # or the variable MULETEER_CATALOG__PASSWORD
# rse = "EXAMPLE_DISK"                       # where files are registered unless it is said

[engine]
# kind = "embedded"                          # "panda" for whole workflows on PanDA, "panda-stepwise" step by step
# site = "example"                           # for PanDA: the profile sites/example.yaml
# largest_package = 20                       # megabytes that are sent, and kept, for one launch

[transient]
# every = "1h"                               # how often datasets are looked at; "0s": never by itself
# undo = "1d"                                # how long a release can be taken back before anything is done
# never = ["group.example:CALIB-*"]          # what must never leave, whatever a policy says
# raw_scopes = ["raw*"]                      # nothing leaves these scopes
# datasets_per_day = 100
# bytes_per_day = 50_000_000_000_000
# accounts = ["production"]                  # whose replication rules do not keep a dataset, besides our own
# disks = {"root://door.example.org:1094//data" = "/data"}   # where copies can be seen from here

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


_SITE = """\
# How one PanDA is used. Copy this file to sites/<name>.yaml, and write engine.site = "<name>" into muleteer.toml.
# It holds no secret: the token is in a file of its own, or in the variable PANDA_AUTH_ID_TOKEN.
name: example
description: Shown wherever people act.
instance: testbed                            # production, integration or testbed
url: http://pandaserver.example.org:25080
url_ssl: https://pandaserver.example.org:25443
# cache_url: https://pandacache.example.org:25443
vo: myvo
# production_role: true                      # pause, resume, and act on the launches of others
# working_group: mygroup
# official: true                             # datasets of the group; the token must name the group <vo>/production
prefix: user.me                              # what every dataset's name begins with: user.<nickname> or group.<vo>
# site: MY_QUEUE                             # where steps run that name no site and no queue
# queues: {high: MY_LARGE_QUEUE, low: MY_SMALL_QUEUE}
token_file: secrets/panda_token              # readable by you alone: chmod 600
# ca_directory: /etc/grid-security/certificates
monitor:
  task: https://panda.example.org/task/{id}/
  request: https://panda.example.org/idds/wfprogress/?requestid={id}
# submit_timeout: 5m                         # how long one call of prun or pchain may take
# settle: 10m                                # after a doubt, so long the server may need to show what it took
# parallel: 8                                # submissions at the same time
# poll: 30s
# stalled_after: 6h
"""


def init(home: Home = None) -> None:
    """Make a directory a home of muleteer: settings, a first rule, a folder for workflows."""
    place = (home or Path()).resolve()
    try:
        (place / "workflows").mkdir(parents=True, exist_ok=True)
        (place / "sites").mkdir(exist_ok=True)
        for name, content in ((FILE_NAME, _SETTINGS), ("rules.yaml", _RULES), ("sites/example.yaml", _SITE)):
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
