"""Who may look through the window."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.monitor.access import TokenError, Tokens


def test_a_token_is_known_by_its_digest_alone(tmp_path: Path) -> None:
    """Whoever reads the file finds nobody's token in it, and nobody else may read it."""
    tokens = Tokens(tmp_path / "tokens")

    token = tokens.add("shift@hall")

    assert tokens.owner(token) == "shift@hall"
    assert tokens.owner(token + "x") is tokens.owner("") is None
    assert token not in tokens.file.read_text()
    assert tokens.file.stat().st_mode & 0o077 == 0


def test_a_token_that_was_taken_away_is_refused_at_once(tmp_path: Path) -> None:
    """A service that runs reads the file again when it has changed."""
    service, command = Tokens(tmp_path / "tokens"), Tokens(tmp_path / "tokens")
    token, other = command.add("one"), command.add("two")
    assert (service.owner(token), service.owner(other)) == ("one", "two")

    command.remove("one")

    assert (service.owner(token), service.owner(other)) == (None, "two")
    assert service.names() == ["two"]


@pytest.mark.parametrize("name", ["", "a b", "-x", "a\nb", "x" * 65, "ä"])
def test_a_name_is_one_word(tmp_path: Path, name: str) -> None:
    """It is written into the journal, and into a file of one line each."""
    with pytest.raises(TokenError, match="is no name"):
        Tokens(tmp_path / "tokens").add(name)


def test_a_second_token_for_one_name_is_refused(tmp_path: Path) -> None:
    """The first one goes on to hold."""
    tokens = Tokens(tmp_path / "tokens")
    first = tokens.add("me")

    with pytest.raises(TokenError, match="muleteer token remove me"):
        tokens.add("me")

    assert tokens.owner(first) == "me"


def test_nobody_to_take_a_token_from(tmp_path: Path) -> None:
    """The error names those who have one."""
    tokens = Tokens(tmp_path / "tokens")
    tokens.add("me")

    with pytest.raises(TokenError, match="those who have: me"):
        tokens.remove("you")


@pytest.mark.parametrize("line", ["me", "me 12", "me " + "g" * 64, "m e " + "0" * 64])
def test_a_file_that_was_written_by_hand_is_refused_whole(tmp_path: Path, line: str) -> None:
    """It says where; nobody gets in meanwhile."""
    tokens = Tokens(tmp_path / "tokens")
    tokens.file.write_text(f"{line}\n")

    with pytest.raises(TokenError, match="tokens:1: expected a name and a digest"):
        tokens.owner("anything")
