"""Site profiles: which PanDA is used and how, one file each in the home's folder `sites`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from orchestrator.core.documents import Document, DocumentError
from orchestrator.settings import ConfigurationError
from schemas.site import Site

FOLDER: Final = "sites"


def read_site(home: Path, name: str) -> Site:
    """The profile of that name; its relative paths lie in the home.

    Raises:
        ConfigurationError: it is not there, or does not fit; each mistake with its file and line.
    """
    path = home / FOLDER / f"{name}.yaml"
    try:
        site = Document(path.read_text(encoding="utf-8"), str(path)).read(Site)
    except FileNotFoundError:
        raise ConfigurationError(f"there is no site profile {path}; there are: {_there(path.parent)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    except DocumentError as error:
        raise ConfigurationError(str(error)) from None
    if site.name != name:
        raise ConfigurationError(f"{path}: name: it is {site.name!r}, but the file is called {name}.yaml")
    files = {"token_file": _at(home, site.token_file), "ca_directory": _at(home, site.ca_directory)}
    return site.model_copy(update=files)


def _at(home: Path, path: Path | None) -> Path | None:
    return None if path is None else home / path.expanduser()


def _there(folder: Path) -> str:
    return ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) or "none"
