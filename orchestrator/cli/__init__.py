"""What people type. Each file holds the commands of one noun; `session` and `terminal` what they share."""

from __future__ import annotations

import gc
import sys
from typing import Final

#: As a shell has it after Ctrl-C.
_INTERRUPTED: Final = 130


def main() -> None:
    """The command `muleteer`."""
    try:
        # most of a second goes by with this, and somebody may press Ctrl-C in it. What is imported stays: looking
        # through it for garbage, again and again, takes a sixth of that time
        gc.disable()
        from orchestrator.cli.commands import app

        gc.freeze()
        gc.enable()
        app()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
