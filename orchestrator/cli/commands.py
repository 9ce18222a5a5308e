"""All the commands, under their names."""

from __future__ import annotations

import typer

from orchestrator.cli import (
    catalog,
    checking,
    demo,
    dispatches,
    dispatching,
    doctor,
    exchange,
    explaining,
    init,
    launches,
    linting,
    locating,
    messages,
    previewing,
    reconciling,
    refreshing,
    registering,
    replay,
    rooms,
    rules,
    running,
    runs,
    serving,
    show,
    stopping,
    transient,
    trying,
    workflows,
)

app = typer.Typer(
    name="muleteer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Starts the right workflow on the grid, once, when a dataset closes.",
    epilog="Exit codes: 0 done; 1 something in it failed; 2 wrong usage; 3 refused; 4 not found; 5 out of reach.",
)
app.command("init")(init.init)
app.command("run")(running.run)
app.command("listen")(running.listen)
app.command("show")(show.show)
app.command("serve")(serving.serve)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("locate")(locating.locate)
app.command("manifest")(locating.manifest)
dispatching.app.command("stop")(stopping.stop)
dispatching.app.command("start")(stopping.start)
dispatching.app.command("status")(stopping.status)
messages.app.command("inject")(exchange.inject)
messages.app.command("export")(exchange.export)
messages.app.command("import")(exchange.import_)
messages.app.command("refresh")(refreshing.refresh)
messages.app.command("explain")(explaining.explain)
rules.app.command("test")(trying.test)
rules.app.command("preview")(previewing.preview)
rules.app.command("lint")(linting.lint)
app.add_typer(messages.app, name="messages")
app.add_typer(rules.app, name="rules")
app.add_typer(rooms.app, name="rooms")
app.add_typer(dispatching.app, name="dispatch")
app.add_typer(dispatches.app, name="dispatches")
app.add_typer(launches.app, name="launches")
app.add_typer(workflows.app, name="workflow")
app.add_typer(catalog.app, name="catalog")
app.add_typer(registering.app, name="register")
app.add_typer(checking.app, name="check")
app.add_typer(reconciling.app, name="reconcile")
app.add_typer(replay.app, name="replay")
app.add_typer(runs.app, name="runs")
app.add_typer(transient.app, name="transient")
app.add_typer(serving.app, name="token")
app.add_typer(init.database, name="db")
