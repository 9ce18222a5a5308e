"""The window: its REST service, and who may use it."""

from __future__ import annotations

import ipaddress
import threading
import time
from datetime import timedelta
from typing import Annotated

import typer

from orchestrator.cli.running import Signals
from orchestrator.cli.session import Exit, Home, Json, command, fail, opened
from orchestrator.cli.terminal import out, print_json
from orchestrator.settings import FILE_NAME

#: How often it is looked whether the service still runs.
_GLANCE = timedelta(seconds=1)

app = typer.Typer(no_args_is_help=True, help="Who may ask the window: each person or program has a token.")


def serve(
    home: Home = None,
    host: Annotated[str, typer.Option("--host", help="An address that only this machine can reach.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to listen.")] = 8642,
    jobs_only: Annotated[
        bool, typer.Option("--jobs-only", help="Take in what jobs report, and serve nothing else.")
    ] = False,
) -> None:
    """Serve the window until stopped: REST under /api/v1, described by /api/openapi.json.

    Other machines reach it through a tunnel (ssh -L 8642:localhost:8642) or a proxy that encrypts.
    """
    if not _only_from_here(host):
        fail(Exit.USAGE, f"{host} can be reached from elsewhere, and tokens would travel in the clear: use 127.0.0.1")
    import uvicorn  # at the start of every other command it would cost a quarter of a second

    signals = Signals()
    with opened(home, quiet=False) as muleteer:
        muleteer.store.counts()
        window = muleteer.jobs_alone() if jobs_only else muleteer.window()
        if window is None:
            fail(
                Exit.REFUSED, f"no job is told where to report: set url under [callback] in {muleteer.home}/{FILE_NAME}"
            )
        if not jobs_only and not muleteer.tokens.names():
            out.print(f"Nobody has a token yet: {command()} token add NAME --home {muleteer.home}")
        server = uvicorn.Server(uvicorn.Config(window, host=host, port=port, log_config=None, access_log=False))
        # in a thread of its own, where it leaves the signals to us
        thread = threading.Thread(target=server.run, name="window")
        thread.start()
        while thread.is_alive() and not server.started:
            time.sleep(0.05)
        if server.started:
            out.print(f"The window is at http://{host}:{port}; what it can be asked: /api/openapi.json")
        while thread.is_alive() and not signals.wait(_GLANCE):
            pass
        server.should_exit = True
        thread.join()
        if not server.started:
            fail(Exit.UNAVAILABLE, f"port {port} of {host} cannot be used: choose another with --port")


def _only_from_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@app.command("add")
def add(name: Annotated[str, typer.Argument(help="Who it is for; the journal shows it.")], home: Home = None) -> None:
    """Make a token, and print it: this once, it is kept nowhere."""
    with opened(home) as muleteer:
        out.print(muleteer.tokens.add(name))


@app.command("list")
def list_(home: Home = None, json_: Json = False) -> None:
    """List those who have a token."""
    with opened(home) as muleteer:
        names = muleteer.tokens.names()
    if json_:
        print_json(names)
        return
    for name in names or ["Nobody has a token."]:
        out.print(name)


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="Whose.")], home: Home = None) -> None:
    """Take a token away. A running service refuses it from then on."""
    with opened(home) as muleteer:
        muleteer.tokens.remove(name)
    out.print(f"{name} has no token any more")
