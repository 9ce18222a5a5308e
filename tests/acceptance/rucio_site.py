"""A home with a real Rucio server as its catalog, and an RSE that is the home's own folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

from tests.acceptance.home import Home
from tests.services.rucio import Login, Rucio

_numbers = count(1)

#: Says under which address the RSE has what lies in the home.
SETTINGS = """
[[registration.rewrite]]
prefix = "{folder}"
pfn = "file://localhost:0{folder}"
"""


@dataclass
class Site:
    """A home, and what an experiment has in its Rucio."""

    home: Home
    rucio: Rucio
    scope: str
    rse: str
    login: Login

    def raw(self, run: int, files: int = 3, size: int = 0) -> list[str]:
        """The raw files of a run, on a disk that the RSE knows; each of a line, and as many bytes more."""
        folder = self.home.place / "raw"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"raw-{run:08d}-{number}" for number in range(files)]
        for path in paths:
            path.write_text(f"{path.name}\n{'x' * size}")
        return [str(path) for path in paths]


def new_site(
    new_home: Callable[[Mapping[str, str]], Home], rucio: Rucio, settings: Mapping[str, str] | None = None
) -> Site:
    """An account that may fill the datasets of one scope, and its home."""
    name = f"acceptance{os.getpid()}n{next(_numbers)}"
    login = rucio.catalog.add_account(name, admin=True)
    rucio.catalog.add_scope(name, login.account)
    home = new_home(
        {
            "CATALOG__KIND": "rucio",
            "CATALOG__HOST": rucio.url,
            "CATALOG__ACCOUNT": login.account,
            "CATALOG__USERNAME": login.account,
            "CATALOG__PASSWORD": login.password,
            "CATALOG__RSE": name.upper(),
            "RECONCILE__EVERY": "0s",
            "RECONCILE__SCOPES": f'["{name}"]',
            **(settings or {}),
        }
    )
    rucio.catalog.add_rse_at(name.upper(), home.place)
    (home.place / "muleteer.toml").write_text(SETTINGS.format(folder=home.place))
    return Site(home, rucio, name, name.upper(), login)
