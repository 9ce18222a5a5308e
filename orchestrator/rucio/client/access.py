"""Where a Rucio server is, and as whom we speak to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from orchestrator.settings import CatalogSettings, ConfigurationError, secret

#: In the home directory. Tokens are kept here, and nobody else can look into it.
TOKENS: Final = "rucio-tokens"

#: Seconds to wait for a connection.
_CONNECT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Access:
    """All that is needed to speak to one server. Nothing else is asked: not the environment, nor other files."""

    host: str
    auth_host: str
    account: str
    auth_type: str
    #: As Rucio's client takes them: user and password, or files. Never printed.
    credentials: Mapping[str, str] = field(repr=False)
    #: A bundle or a directory; None: X509_CERT_DIR, or the certificates that Python brings along.
    ca_cert: str | None
    vo: str
    #: Where tokens are kept.
    tokens: Path
    #: A token that somebody else renews; read afresh with every request.
    token_file: Path | None = None
    #: Seconds to wait for a connection, and for an answer.
    timeout: tuple[float, float] = (_CONNECT, 120.0)
    #: What tells the server from any other, if its address does not.
    named: str | None = None

    @property
    def identity(self) -> str:
        """What tells the server from any other."""
        return self.named or f"{self.host} ({self.vo})"

    @property
    def token_name(self) -> str:
        """A name for the token's file. Another server, account or user has another one, and never gets this token."""
        whose = (self.host, self.auth_host, self.account, self.auth_type, self.vo, *sorted(self._public()))
        return f"token-{sha256(repr(whose).encode()).hexdigest()[:24]}"

    def _public(self) -> list[str]:
        return [f"{key}={value}" for key, value in self.credentials.items() if key != "password"]


def access_of(settings: CatalogSettings, home: Path) -> Access:
    """The access that the settings describe; what they leave out is taken from their rucio.cfg.

    Raises:
        ConfigurationError: something is missing, or a file cannot be read.
    """
    written = _read_config(home / settings.config) if settings.config is not None else {}
    host = settings.host or written.get("rucio_host")
    auth_type = settings.auth_type or written.get("auth_type") or "userpass"
    if not host:
        raise ConfigurationError("catalog.host is not set: the address of the Rucio server, https://rucio.example.org")
    token_file = _file(home, settings.token_file, written, "auth_token_file_path") if auth_type == "oidc" else None
    if auth_type == "oidc" and token_file is None:
        raise ConfigurationError("auth_type oidc needs catalog.token_file: a file in which somebody renews the token")
    return Access(
        host=host.rstrip("/"),
        auth_host=(settings.auth_host or (settings.host and host) or written.get("auth_host") or host).rstrip("/"),
        account=_needed(settings.account or written.get("account"), "account", "the Rucio account to act as"),
        auth_type=auth_type,
        credentials=_credentials(auth_type, settings, written, home),
        ca_cert=_text(_file(home, settings.ca_cert, written, "ca_cert")),
        vo=settings.vo or written.get("vo") or "def",
        tokens=home.resolve() / TOKENS,
        token_file=token_file,
        timeout=(_CONNECT, settings.timeout.total_seconds()),
        named=settings.identity,
    )


def _credentials(
    auth_type: str, settings: CatalogSettings, written: Mapping[str, str], home: Path
) -> Mapping[str, str]:
    match auth_type:
        case "userpass":
            password = secret(settings.password, settings.password_file, home, "the password for Rucio")
            return {
                "username": _needed(settings.username or written.get("username"), "username", "who signs in"),
                "password": _needed(
                    password or written.get("password"), "password", "MULETEER_CATALOG__PASSWORD, or password_file"
                ),
            }
        case "x509":
            certificate = _certificate(settings, written, home, "client_cert")
            key = _file(home, settings.client_key, written, "client_key")
            return {"client_cert": certificate, "client_key": _present(key) if key is not None else certificate}
        case "x509_proxy":
            return {"client_proxy": _certificate(settings, written, home, "client_x509_proxy")}
        case "ssh":
            key = _file(home, settings.client_key, written, "ssh_private_key")
            return {"ssh_private_key": _needed(_text(key), "client_key", "the private key")}
    return {}


def _certificate(settings: CatalogSettings, written: Mapping[str, str], home: Path, option: str) -> str:
    file = _file(home, settings.client_cert, written, option)
    if file is None:
        raise ConfigurationError("catalog.client_cert is not set: the file of the certificate or the proxy")
    return _present(file)


def _present(file: Path) -> str:
    if not file.is_file():
        raise ConfigurationError(f"there is no file {file}, which [catalog] names to sign in with")
    return str(file)


def _needed(value: str | None, setting: str, what: str) -> str:
    if not value:
        raise ConfigurationError(f"catalog.{setting} is not set: {what}")
    return value


def _file(home: Path, path: Path | None, written: Mapping[str, str], option: str) -> Path | None:
    """A file that the settings name, seen from the home, or one that a rucio.cfg names."""
    if path is not None:
        return home / path.expanduser()
    text = os.path.expandvars(written.get(option, "").strip())
    return home / Path(text).expanduser() if text else None


def _text(file: Path | None) -> str | None:
    return None if file is None else str(file)


def _read_config(path: Path) -> dict[str, Any]:
    """The section `client` of a rucio.cfg."""
    parser = ConfigParser()
    try:
        with path.open() as file:
            parser.read_file(file)
        return dict(parser.items("client"))
    except (OSError, UnicodeDecodeError, ConfigParserError) as error:
        # the parser's own words would show the line, and perhaps a password
        said = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(f"catalog.config: the section [client] of {path} cannot be read: {said}") from None
