"""Where the Rucio server is and as whom we speak to it, from the settings and from a rucio.cfg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.rucio.client.access import access_of
from orchestrator.settings import CatalogSettings, ConfigurationError, load

HOST = "https://rucio.example.org"


def settings(**given: Any) -> CatalogSettings:
    return CatalogSettings(**{"kind": "rucio", "host": HOST, "account": "prod", **given})


def test_a_password_from_its_own_file(tmp_path: Path) -> None:
    """Signing in goes to the same server unless it is said; nothing of it is printed."""
    (tmp_path / "pw").write_text("hush\n")

    access = access_of(settings(username="u", password_file="pw", timeout="30s"), tmp_path)

    assert (access.host, access.auth_host, access.account, access.auth_type, access.vo) == (
        HOST,
        HOST,
        "prod",
        "userpass",
        "def",
    )
    assert access.credentials == {"username": "u", "password": "hush"}
    assert access.timeout == (5.0, 30.0)
    assert access.tokens.parent == tmp_path
    assert "hush" not in repr(access)


def test_a_server_at_another_address_can_be_said_to_be_the_same(tmp_path: Path) -> None:
    """Unless it is, address and VO tell it from any other."""
    login = {"username": "u", "password": "p"}
    old = access_of(settings(**login), tmp_path).identity

    moved = access_of(settings(**login, host="https://new.example.org", identity=old), tmp_path)

    assert old == "https://rucio.example.org (def)"
    assert (moved.host, moved.identity) == ("https://new.example.org", old)
    assert access_of(settings(**login, vo="dun"), tmp_path).identity != old


def test_certificates_proxies_keys_and_tokens(tmp_path: Path) -> None:
    """Files are looked for in the home."""
    for name in ("cert", "key", "proxy"):
        (tmp_path / name).touch()

    def credentials(**given: Any) -> Any:
        return access_of(settings(**given), tmp_path).credentials

    cert, key = str(tmp_path / "cert"), str(tmp_path / "key")
    assert credentials(auth_type="x509", client_cert="cert", client_key="key") == {
        "client_cert": cert,
        "client_key": key,
    }
    assert credentials(auth_type="x509", client_cert="cert") == {"client_cert": cert, "client_key": cert}
    assert credentials(auth_type="x509_proxy", client_cert="proxy") == {"client_proxy": str(tmp_path / "proxy")}
    assert credentials(auth_type="ssh", client_key="key") == {"ssh_private_key": key}
    assert credentials(auth_type="gss") == {}
    access = access_of(settings(auth_type="oidc", token_file="token"), tmp_path)
    assert (access.credentials, access.token_file) == ({}, tmp_path / "token")


def test_a_rucio_cfg_says_what_the_settings_leave_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings say counts; files in it may have ~ and variables."""
    monkeypatch.setenv("CERTIFICATES", "/certificates")
    (tmp_path / "rucio.cfg").write_text(
        "[client]\nrucio_host = https://one.example.org\nauth_host = https://auth.example.org\naccount = cfg\n"
        "auth_type = userpass\nusername = u\npassword = hush\nca_cert = $CERTIFICATES/ca.pem\nvo = abc\n"
    )

    access = access_of(CatalogSettings(kind="rucio", config=Path("rucio.cfg"), account="mine"), tmp_path)
    elsewhere = access_of(settings(config="rucio.cfg"), tmp_path)

    assert (access.host, access.auth_host) == ("https://one.example.org", "https://auth.example.org")
    assert (access.account, access.vo, access.ca_cert) == ("mine", "abc", "/certificates/ca.pem")
    assert access.credentials == {"username": "u", "password": "hush"}
    # another server than in the file is not signed in to at the file's
    assert (elsewhere.host, elsewhere.auth_host) == (HOST, HOST)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"account": None}, "catalog.account is not set"),
        ({"username": None}, "catalog.username is not set"),
        ({"password": None}, "catalog.password is not set: MULETEER_CATALOG__PASSWORD"),
        ({"password_file": "nowhere"}, "the password for Rucio cannot be read"),
        ({"auth_type": "x509"}, "catalog.client_cert is not set"),
        ({"auth_type": "x509", "client_cert": "nowhere"}, "there is no file .*/nowhere"),
        ({"auth_type": "x509_proxy"}, "catalog.client_cert is not set"),
        ({"auth_type": "ssh"}, "catalog.client_key is not set"),
        ({"auth_type": "oidc"}, "oidc needs catalog.token_file"),
        ({"config": "nowhere"}, r"\[client\] of .*/nowhere cannot be read: No such file"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    """With the setting that it would be."""
    with pytest.raises(ConfigurationError, match=said):
        access_of(settings(**{"username": "u", "password": "p", **given}), tmp_path)


@pytest.mark.parametrize(
    "text", ["no section\npassword = hush", "[server]\nx = 1", "[client]\nx = %(y)s\npassword = hush"]
)
def test_a_rucio_cfg_that_cannot_be_read_shows_no_secret(tmp_path: Path, text: str) -> None:
    """Where it is and what kind of mistake it is, but none of its lines."""
    (tmp_path / "rucio.cfg").write_text(text)

    with pytest.raises(ConfigurationError, match=r"rucio\.cfg cannot be read: \w+Error") as error:
        access_of(CatalogSettings(kind="rucio", config=Path("rucio.cfg")), tmp_path)

    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind = 'rucio'", "kind rucio needs host"),
        ("host = 'https://user:hush@rucio.example.org'", "catalog.host: "),
        ("host = 'rucio.example.org'", "catalog.host: "),
        ("auth_type = 'kerberos'", "catalog.auth_type: "),
        ("timeout = '10ms'", "1s is the least"),
        ("passwort = 'hush'", "catalog.passwort: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_the_settings_is_named(tmp_path: Path, text: str, said: str) -> None:
    """And no secret is shown with it."""
    (tmp_path / "muleteer.toml").write_text(f"[catalog]\n{text}\n")

    with pytest.raises(ConfigurationError) as error:
        load(tmp_path)

    assert said in str(error.value) and "hush" not in str(error.value)
