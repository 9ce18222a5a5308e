"""Edit a rule in force with the editor of one's choice."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.init import SCHEMA, schema_line
from orchestrator.cli.rules_change import Reason, tell
from orchestrator.cli.rules_cycles import heed_cycles
from orchestrator.cli.session import Exit, Home, Json, fail, opened, person
from orchestrator.cli.terminal import err, out
from orchestrator.clock import utc_now
from orchestrator.dispatch.rules import RulesRefused, read_rules_text, rules_text
from orchestrator.store.port import NotAllowed, StoreError
from orchestrator.wiring import Muleteer
from schemas.rule import Rule, RuleVersion


def edit(
    name: Annotated[str, typer.Argument(help="The rule's name.")],
    home: Home = None,
    reason: Reason = None,
    json_: Json = False,
) -> None:
    """Edit a rule in force with $VISUAL or $EDITOR, and put it in force when the editor is left.

    A text that is refused is kept, and its place is named.
    """
    with opened(home) as muleteer:
        old = muleteer.store.rules.version(name)
        if old.until_revision is not None:
            fail(Exit.NOT_FOUND, f"rule {name} is not in force: `muleteer rules rollback` can bring it back")
        draft = _draft(muleteer.home, old)
        new = _edited(muleteer, old, draft)
        if new.same_as(old.rule):
            draft.unlink()
            out.print(f"rule {name} is as it was: nothing was changed")
            return
        heed_cycles(muleteer, [new], allow=True)
        try:
            change = muleteer.store.rules.replace(old, new, who=person(), reason=reason, now=utc_now())
        except NotAllowed as error:
            fail(Exit.REFUSED, f"{error}. Nothing was changed; {_kept(draft)}")
        except StoreError:
            err.print(_kept(draft))
            raise
        draft.unlink()
        tell(muleteer, change, json_)


def _draft(home: Path, old: RuleVersion) -> Path:
    """The rule in a file of its own, for nobody else to read."""
    hint = f"# Rule {old.rule.name}, version {old.version}. It comes into force once saved, when the editor is left.\n"
    schema = home / SCHEMA
    lines = (schema_line(schema) if schema.exists() else "") + hint + rules_text([old.rule])
    handle, path = tempfile.mkstemp(prefix=f"{old.rule.name}-", suffix=".yaml")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(lines)
    return Path(path)


def _edited(muleteer: Muleteer, old: RuleVersion, draft: Path) -> Rule:
    """What came of the editor, once it is a rule that could be in force."""
    while True:
        _open_editor(draft)
        try:
            return _read(muleteer, old, draft)
        except RulesRefused as error:
            if not (sys.stdin.isatty() and sys.stdout.isatty()):
                fail(Exit.REFUSED, f"{error}\nNothing was changed; {_kept(draft)}")
            err.print(str(error))
            if not typer.confirm("Edit it again?", default=True, err=True):
                fail(Exit.REFUSED, f"nothing was changed; {_kept(draft)}")


def _open_editor(draft: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        ended = subprocess.run([*shlex.split(editor), str(draft)], check=False).returncode
    except (OSError, ValueError) as error:
        draft.unlink()
        fail(Exit.REFUSED, f"the editor {editor!r} cannot be started ({error}): name one in $EDITOR")
    if ended != 0:
        fail(Exit.REFUSED, f"the editor {editor!r} ended with {ended}: nothing was changed; {_kept(draft)}")


def _read(muleteer: Muleteer, old: RuleVersion, draft: Path) -> Rule:
    """Raises RulesRefused."""
    try:
        text = draft.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RulesRefused(f"{draft}: cannot be read: {error}") from None
    rules = read_rules_text(text, str(draft), muleteer.home, muleteer.actors, muleteer.tools())
    if [rule.name for rule in rules] != [old.rule.name]:
        found = ", ".join(rule.name for rule in rules) or "none"
        raise RulesRefused(
            f"{draft}: rules: expected the rule {old.rule.name} alone; found {found}. Others go to `rules apply`"
        )
    return rules[0]


def _kept(draft: Path) -> str:
    return f"the edited text is kept in {draft}: mend it, then `muleteer rules apply {draft}`"
