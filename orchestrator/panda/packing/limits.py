"""What panda-client and PanDA take of a submission directory, and what they would leave out without a word."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from typing import Final

from orchestrator.panda.port import EngineRefused, Package, PackedFile

#: A compressed sandbox that is not built on the grid.
_SANDBOX: Final = 10 * 1024 * 1024
#: A compressed sandbox that is.
_SOURCES: Final = 768 * 1024 * 1024
#: What an archive needs for a file beside its content, at most.
_TAR_ENTRY: Final = 1024
#: prun leaves out larger files unless they are named with --extFile.
_FILE: Final = 1024 * 1024
#: So it does with files of these names.
_LEFT_OUT: Final = re.compile(r"(\.root(\.\d+)*|\.o|\.a|\.so)$")
#: These it leaves out in any case.
_NEVER_SENT: Final = re.compile(r"jobReport\.json|jobReport\.txt|jobReportExtract\.pickle")
#: The client hands paths to a shell and to regular expressions of its own, so they have to be plain.
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=@%~-]*")
_PLAIN: Final = "letters, digits and _ . = @ % ~ -, and not begin with a dot or a dash"


def check_paths(package: Package) -> None:
    """Raises EngineRefused if a file would be left out, or would harm on the way."""
    for path in package:
        parts = path.split("/")
        hidden = next((part for part in parts if part.startswith(".")), None)
        if hidden is not None:
            raise EngineRefused(
                f"{path}: PanDA's client leaves out hidden files: rename {hidden}, or leave it out with resources"
            )
        if not all(map(_PART.fullmatch, parts)):
            raise EngineRefused(f"{path}: a file that jobs get may have only {_PLAIN} in its name: rename it")
        if _NEVER_SENT.search(path):
            raise EngineRefused(f"{path}: PanDA's client never sends a file of that name: rename it")


def to_be_named(package: Package) -> tuple[str, ...]:
    """The files that prun sends only if --extFile names them."""
    return tuple(path for path, file in sorted(package.items()) if _LEFT_OUT.search(path) or len(file.content) > _FILE)


def megabytes(package: Package, needed: Iterable[str]) -> int:
    """The least --maxSizeInSandbox by which pchain sends these files to the server, which has to read them."""
    largest = max(len(package[path].content) for path in needed)
    # pchain takes files below N * 1024 kilobytes, and a kilobyte that has begun counts
    return -(-largest // 1024) // 1024 + 1


def check_size(package: Package, *, built: bool) -> None:
    """Raises EngineRefused if the compressed package is over the limit of the client."""
    limit = _SOURCES if built else _SANDBOX
    if sum(len(file.content) + _TAR_ENTRY for file in package.values()) <= limit:  # even uncompressed
        return
    size = _compressed(package)
    if size > limit:
        largest = sorted(package, key=lambda path: -len(package[path].content))[:3]
        named = ", ".join(f"{path} ({_in_megabytes(len(package[path].content))})" for path in largest)
        raise EngineRefused(
            f"the files that jobs get are {_in_megabytes(size)} compressed, and PanDA takes "
            f"{_in_megabytes(limit)}; the largest are {named}: leave files out with resources, or put them where jobs "
            "can read them"
        )


def _compressed(package: Mapping[str, PackedFile]) -> int:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=6) as tar:
        for path, file in package.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(file.content)
            tar.addfile(entry, io.BytesIO(file.content))
    return archive.tell()


def _in_megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MB"
