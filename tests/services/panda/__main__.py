"""`python -m tests.services.panda --port N`: the stand-in as a process, until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from . import PandaServer


def main() -> None:
    """Serve until SIGINT or SIGTERM; prints the URL as the first line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.services.panda", description="A stand-in for a PanDA server."
    )
    parser.add_argument("--port", type=int, help="port on loopback; without, a free one")
    parser.add_argument("--vo", action="append", help="a VO it knows (default: sphenix)")
    parser.add_argument("--directory", type=Path, help="keep state.json and the cache here")
    parser.add_argument("--live", type=float, metavar="SECONDS", help="let tasks move by themselves, this long a state")
    parser.add_argument("--slow", type=float, metavar="SECONDS", help="how long each put_workflow_request takes")
    options = parser.parse_args()
    server = PandaServer(port=options.port, vos=options.vo or ("sphenix",), directory=options.directory)
    if options.live is not None:
        server.live(options.live)
    if options.slow is not None:
        server.fault("put_workflow_request", "slow", seconds=options.slow)
    with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
