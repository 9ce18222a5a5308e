"""The token: where it comes from, that it is renewed while we run, and that nobody ever sees it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.panda.client.token import HIDDEN, Token
from orchestrator.panda.port import EngineUnavailable
from tests.services.panda import make_token

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def _in_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def _token(file: Path | None = None, **environment: str) -> Token:
    return Token(file, environment, clock=lambda: NOW)


def _ending(span: timedelta, name: str = "Shrek Producer") -> str:
    return make_token(name=name, expires=NOW + span)


def test_the_environment_goes_before_the_sites_file(tmp_path: Path) -> None:
    """First PANDA_AUTH_ID_TOKEN, then OIDC_AUTH_ID_TOKEN, OIDC_AUTH_TOKEN_FILE, and the site's file last."""
    year = timedelta(days=365)
    named = _in_file(tmp_path / "named", _ending(year, "From Named"))
    site = _in_file(tmp_path / "site", _ending(year, "From Site"))
    variables = {
        "PANDA_AUTH_ID_TOKEN": _ending(year, "From Panda"),
        "OIDC_AUTH_ID_TOKEN": _ending(year, "From Oidc"),
        "OIDC_AUTH_TOKEN_FILE": str(named),
    }
    found = []
    for leave_out in range(4):
        kept = dict(list(variables.items())[leave_out:])
        found.append(_token(site, **kept).identity().name)

    assert found == ["From Panda", "From Oidc", "From Named", "From Site"]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "  \n\n"])
def test_white_space_around_a_token_is_taken_off(tmp_path: Path, ending: str) -> None:
    """A newline at the end would make the client print the token in an error."""
    raw = _ending(timedelta(days=30))

    assert _token(_in_file(tmp_path / "token", raw + ending)).text() == raw
    assert _token(None, PANDA_AUTH_ID_TOKEN=raw + ending).text() == raw


def test_the_clients_own_file_is_understood(tmp_path: Path) -> None:
    """A `.token` holds JSON with the token as id_token."""
    raw = _ending(timedelta(days=30))
    file = _in_file(tmp_path / ".token", json.dumps({"id_token": raw, "refresh_token": "r" * 40}))

    assert _token(file).text() == raw


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_a_file_that_others_can_open_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    file = _in_file(tmp_path / "token", _ending(timedelta(days=30)), mode)
    token = _token(file)

    with pytest.raises(EngineUnavailable, match=rf"mode {mode:04o}.*nothing was sent: chmod 600 {file}"):
        token.text()
    file.chmod(0o400)
    assert token.text()


@pytest.mark.parametrize(
    "text", ["", "secret-but-no-token", "a.b", "e30.e30", "!.!.!", '{"id_token": 3}', '{"access_token": "x.y.z"}']
)
def test_what_is_no_token_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(EngineUnavailable, match="no token") as refusal:
        _token(_in_file(tmp_path / "token", text)).text()
    assert not text or text not in str(refusal.value)


def test_a_missing_file_and_no_token_at_all_say_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"absent cannot be read.*No such file"):
        _token(tmp_path / "absent").text()
    with pytest.raises(EngineUnavailable, match="set token_file in the site's profile, or PANDA_AUTH_ID_TOKEN"):
        _token().text()


def test_a_renewed_file_is_read_at_once(tmp_path: Path) -> None:
    """A token is renewed while we run, in place or by a new file of the same name and size."""
    file = _in_file(tmp_path / "token", _ending(timedelta(days=-1), "Old Token"))
    token = _token(file)
    with pytest.raises(EngineUnavailable, match="Old Token expired on 2026-11-21 12:00 UTC"):
        token.text()
    fresh = _ending(timedelta(days=30), "New Token")
    os.replace(_in_file(tmp_path / "fresh", fresh), file)  # noqa: PTH105  # as renewing scripts do

    assert token.text() == fresh
    assert token.identity().name == "New Token"


def test_an_expired_token_says_that_nothing_was_sent_and_where_to_put_a_new_one(tmp_path: Path) -> None:
    file = _in_file(tmp_path / "token", _ending(timedelta(seconds=0)))

    with pytest.raises(EngineUnavailable, match=rf"nothing was sent; put a new one into {file}.*tried again"):
        _token(file).text()
    with pytest.raises(EngineUnavailable, match="start again with a new one in PANDA_AUTH_ID_TOKEN"):
        _token(None, PANDA_AUTH_ID_TOKEN=_ending(timedelta(seconds=-5))).text()


def test_who_we_are_and_whether_we_make_official_datasets() -> None:
    """The client looks for `<vo>/production` exactly: a slash before it is another group."""
    with_slash = make_token(groups=["/sphenix/production"], expires=timedelta(days=9))
    identity = _token(None, PANDA_AUTH_ID_TOKEN=make_token(expires=timedelta(days=9))).identity()

    assert (identity.name, identity.nickname) == ("Shrek Producer", "shrek")
    assert identity.makes_official("sphenix")
    assert not identity.makes_official("epic")
    assert not _token(None, PANDA_AUTH_ID_TOKEN=with_slash).identity().makes_official("sphenix")


def test_the_end_is_announced_days_ahead_and_not_at_every_turn(tmp_path: Path) -> None:
    file = _in_file(tmp_path / "token", _ending(timedelta(days=8)))
    token = _token(file)

    assert token.expires_in(NOW) == timedelta(days=8)
    assert token.warn(NOW) is None
    said = token.warn(NOW + timedelta(days=2))
    assert said is not None
    assert "Shrek Producer expires in 6d, on 2026-11-30 12:00 UTC" in said
    assert token.warn(NOW + timedelta(days=2, hours=11)) is None
    assert token.warn(NOW + timedelta(days=2, hours=12)) is not None
    assert "has expired" in (token.warn(NOW + timedelta(days=9)) or "")
    _in_file(file, _ending(timedelta(days=3)))
    assert token.warn(NOW) is not None, "a new token is a new matter"


def test_a_token_without_an_end_is_good_for_ever() -> None:
    token = _token(None, PANDA_AUTH_ID_TOKEN="e30.eyJuYW1lIjoiTm8gRW5kIn0.x")

    assert token.text()
    assert token.expires_in(NOW) is None
    assert token.warn(NOW) is None


def test_no_text_holds_a_token_after_it_was_redacted(tmp_path: Path) -> None:
    """Ours of now and of before, any other, and one that was cut off in the middle."""
    old, new = _ending(timedelta(days=20), "Old Token"), _ending(timedelta(days=30), "New Token")
    file = _in_file(tmp_path / "token", old)
    token = _token(file)
    token.text()
    _in_file(file, new + "\n")
    token.text()
    stranger = make_token(name="Some Body")

    shown = token.redact(f"was {old}; is b'Bearer {new}'; other {stranger}; cut {new[:60]}")

    assert shown == f"was {HIDDEN}; is b'Bearer {HIDDEN}'; other {HIDDEN}; cut {HIDDEN}"
    assert new not in repr(token)
    assert str(file) in repr(token)
