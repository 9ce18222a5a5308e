"""What jobs need to tell how far they are: two small programs in every package, and where to tell it.

The address goes with what is sent, not with what is kept: its token is a secret, if a small one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from orchestrator.panda.port import Package, PackedFile

_HERE: Final = Path(__file__).parent

#: The folder of a package that jobs find on their PATH.
FOLDER: Final = "muleteer/bin"
#: Where jobs find the address. `job.py` and the embedded engine's runner read it.
ADDRESS: Final = "muleteer/callback.json"


def programs() -> dict[str, PackedFile]:
    """What jobs are given to tell how far they are, whether or not anybody listens."""
    return {
        f"{FOLDER}/muleteer_report": PackedFile((_HERE / "report.sh").read_bytes(), executable=True),
        f"{FOLDER}/muleteer_report.py": PackedFile((_HERE / "report.py").read_bytes()),
    }


def with_address(package: Package, launch: str, url: str, token: str, beat: float) -> Package:
    """The package as it is sent: its jobs tell that address that they are alive every `beat` seconds."""
    document = {"launch": launch, "url": url, "token": token, "beat": beat}
    return {**package, ADDRESS: PackedFile((json.dumps(document, indent=1) + "\n").encode())}
