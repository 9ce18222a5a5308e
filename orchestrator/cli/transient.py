"""Transient datasets: what may leave, what was released, and what became of it."""

from __future__ import annotations

import typer

from orchestrator.cli import (
    transient_acting,
    transient_planning,
    transient_policies,
    transient_report,
    transient_showing,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Intermediate datasets: released when their successor is proved complete. Nothing else ever leaves.",
)
app.add_typer(transient_policies.app, name="policies")
app.command("plan")(transient_planning.plan)
app.command("release")(transient_planning.release)
app.command("take-back")(transient_acting.take_back)
app.command("recall")(transient_planning.recall)
app.command("list")(transient_showing.list_)
app.command("show")(transient_showing.show)
app.command("keep")(transient_acting.keep)
app.command("keeps")(transient_showing.keeps)
app.command("lift")(transient_acting.lift)
app.command("extend")(transient_acting.extend)
app.command("stop")(transient_acting.stop)
app.command("go")(transient_acting.go)
app.add_typer(transient_report.app, name="report")
app.command("survey")(transient_planning.survey)
app.command("step")(transient_planning.step)
