"""`python -m tests.services.rucio --port N`: a server for trying by hand, until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.services.activemq import ActiveMQ
from tests.services.postgres import Postgres

from . import Rucio, bootstrap


def main() -> None:
    """Serve until SIGINT or SIGTERM, or for a time; prints the environment of a client, and how to log in."""
    options = _options()
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit())
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rucio-")))
        rucio = stack.enter_context(_rucio(directory, options.port, stack))
        if options.hermes is not None:
            login = {"user": options.user, "passcode": options.passcode}
            stack.enter_context(rucio.hermes(options.hermes, options.destination, **login))
        for name, value in rucio.environment().items():
            _say(f"export {name}={value}")
        _say(f"# {rucio.url}, account {rucio.account}, user {rucio.account}, password {rucio.password}")
        time.sleep(options.live)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.services.rucio", description="A real Rucio, empty.")
    parser.add_argument("--port", type=int, help="port on loopback; without, a free one")
    parser.add_argument("--live", type=float, default=86_400, metavar="SECONDS", help="how long (default: a day)")
    parser.add_argument("--hermes", type=int, metavar="PORT", help="send messages to the STOMP broker on this port")
    parser.add_argument("--destination", default="/queue/events", help="where hermes sends to (default: %(default)s)")
    parser.add_argument("--user", default=ActiveMQ.user, help="of the broker (default: %(default)s)")
    parser.add_argument("--passcode", default=ActiveMQ.passcode, help="of the broker (default: that of the tests)")
    return parser.parse_args()


def _rucio(directory: Path, port: int | None, stack: ExitStack) -> Rucio:
    if missing := Postgres.missing() or Rucio.missing():
        raise SystemExit(missing)
    postgres = Postgres(fsync=False)
    stack.callback(postgres.remove)
    postgres.start()
    database = postgres.create_database("rucio")
    bootstrap(database, directory / "bootstrap")
    return Rucio(directory, database, port=port)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
