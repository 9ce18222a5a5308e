"""What a home of muleteer needs whose engine is a stand-in: a workflow of two steps, a site profile, a token."""

from __future__ import annotations

from pathlib import Path

from .server import PandaServer
from .tokens import make_token

WORKFLOW = """
name: calo
launch_name: "rn{run:08d}-CALOR"
parameters:
  run: {type: integer}
inputs:
  raw: "{scope}:{name}"
steps:
  - {name: combine, command: [./step.sh, "{run}"], inputs: [raw], outputs: ["made-*.root"]}
  - {name: reco, command: [./step.sh, "{run}"], inputs: [combine], outputs: ["dst-*.root"]}
"""


def add_workflow(home: Path, document: str = WORKFLOW) -> None:
    """The workflow `calo`, with the script of its steps."""
    folder = home / "workflows" / "calo"
    folder.mkdir(parents=True)
    (folder / "workflow.yaml").write_text(document)
    (folder / "step.sh").write_text("#!/bin/sh\n")
    (folder / "step.sh").chmod(0o755)


def add_site(home: Path, panda: PandaServer, **more: str) -> Path:
    """The profile `standin`, and a token that lies in the home; `more` is added to it, in YAML."""
    profile = {
        "name": "standin",
        "url": panda.url,
        "url_ssl": panda.url,
        "vo": "sphenix",
        "prefix": "user.shrek",
        "token_file": "token",
        "site": "QUEUE",
        **more,
    }
    (home / "sites").mkdir()
    file = home / "sites" / "standin.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in profile.items()))
    (home / "token").write_text(make_token())
    (home / "token").chmod(0o600)
    return file
