"""What an experiment has in its Rucio before anything happens: scopes, accounts, places for files."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rucio.client import Client


@dataclass(frozen=True)
class Login:
    """An account and how to log in to it; the user is called like the account."""

    account: str
    password: str


@dataclass(frozen=True)
class Rse:
    """A place for files: a folder of this machine."""

    name: str
    folder: Path

    def pfn(self, path: str) -> str:
        """The address of the file at `path` in it, which a non-deterministic RSE wants with each replica."""
        return f"file://localhost:0{self.folder}/{path}"


class Catalog:
    """Makes them, as root."""

    def __init__(self, client: Client, storage: Path) -> None:
        """Folders of RSEs are made in `storage`."""
        self._client = client
        self._storage = storage

    def add_scope(self, scope: str, account: str = "root") -> None:
        """A scope; its account may make, fill and close datasets in it."""
        self._client.add_scope(account, scope)

    def add_account(self, account: str, *, admin: bool = False) -> Login:
        """A service account with a password. It may do nothing outside of its own scopes, or, as admin, everything."""
        login = Login(account, secrets.token_urlsafe(12))
        self._client.add_account(account, "SERVICE", f"{account}@localhost")
        self._client.add_identity(account, account, "USERPASS", f"{account}@localhost", password=login.password)
        if admin:
            self._client.add_account_attribute(account, "admin", "true")
        return login

    def add_rse(self, name: str, *, deterministic: bool = True) -> Rse:
        """An RSE with a folder behind it, from which the reaper deletes for real.

        Rucio makes up the paths of a deterministic one: scope, two folders of a hash, name.
        """
        return self.add_rse_at(name, self._storage / name, deterministic=deterministic)

    def add_rse_at(self, name: str, folder: Path, *, deterministic: bool = False) -> Rse:
        """An RSE whose folder is wherever somebody wants it; what lies there may be registered."""
        rse = Rse(name, folder)
        rse.folder.mkdir(parents=True, exist_ok=True)
        self._client.add_rse(name, deterministic=deterministic)
        self._client.add_protocol(name, _protocol("file", "posix", f"{rse.folder}/"))
        return rse

    def add_mock_rse(self, name: str) -> None:
        """A deterministic RSE with nothing behind it, where every deletion succeeds."""
        self._client.add_rse(name, deterministic=True)
        self._client.add_protocol(name, _protocol("MOCK", "mock", "/mock/"))

    def add_rule(self, did: tuple[str, str], rse: str, locked: bool = False) -> str:
        """A replication rule of root, for one copy. Returns its id."""
        names = [{"scope": did[0], "name": did[1]}]
        [rule_id] = self._client.add_replication_rule(names, 1, rse, locked=locked)
        return str(rule_id)

    def lock_rule(self, rule_id: str, locked: bool = True) -> None:
        """Lock a replication rule, or unlock it."""
        self._client.update_replication_rule(rule_id, {"locked": locked})

    def allow(self, account: str, rse: str, most_bytes: int = 10**15) -> None:
        """Let an account that is not root make rules for an RSE. Without it Rucio says its quota is used up."""
        self._client.set_local_account_limit(account, rse, most_bytes)


def _protocol(scheme: str, module: str, prefix: str) -> dict[str, Any]:
    local = {"read": 1, "write": 1, "delete": 1}
    far = {**local, "third_party_copy_read": 1, "third_party_copy_write": 1}
    return {
        "scheme": scheme,
        "hostname": "localhost",
        "port": 0,
        "prefix": prefix,
        "impl": f"rucio.rse.protocols.{module}.Default",
        "domains": {"lan": local, "wan": far},
    }
