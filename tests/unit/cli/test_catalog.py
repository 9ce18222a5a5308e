"""The embedded catalog by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.session import Exit
from tests.unit.cli.conftest import Muleteer


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("a.root", "b.root")]
    for path in made:
        path.write_text(path.name)
    return made


def test_a_dataset_is_shown_with_its_files_and_their_copies(muleteer: Muleteer, files: list[Path]) -> None:
    """Each file with its sums, and where every copy lies."""
    a, b = files
    muleteer("catalog", "create", "test:ONE", a)
    muleteer("catalog", "create", "test:TWO", b, "--rse", "TAPE", "--lifetime", "2h")
    said = muleteer("catalog", "add", "test:TWO", a, "--rse", "TAPE")

    shown = muleteer("catalog", "show", "test:TWO", "--json").json
    read = muleteer("catalog", "show", "test:TWO").out

    assert said.out == "1 files are new in test:TWO\n"
    assert [(each["name"], each["bytes"]) for each in shown["content"]] == [("a.root", 6), ("b.root", 6)]
    assert shown["content"][0]["copies"] == [{"rse": "LOCAL", "pfn": str(a)}, {"rse": "TAPE", "pfn": str(a)}]
    assert shown["expired_at"] > shown["created_at"]
    assert "erased at" in read
    assert [line.split()[3] for line in read.splitlines()[2:]] == ["LOCAL", "TAPE", "TAPE"]


def test_a_file_is_shown_by_itself(muleteer: Muleteer, files: list[Path]) -> None:
    """Its sums and its copies."""
    muleteer("catalog", "create", "test:ONE", files[0])

    shown = muleteer("catalog", "show", "test:a.root", "--json").json

    assert (shown["did_type"], shown["bytes"], shown["adler32"]) == ("FILE", 6, "07990254")
    assert shown["copies"] == [{"rse": "LOCAL", "pfn": str(files[0])}]
    assert f"LOCAL  {files[0]}" in muleteer("catalog", "show", "test:a.root").out


def test_containers_are_made_filled_listed_shown_and_erased(muleteer: Muleteer) -> None:
    """What is in one is said with what it is."""
    muleteer("catalog", "create", "test:ONE")
    muleteer("catalog", "create", "test:TWO")

    made = muleteer("catalog", "add-container", "test:BOX", "test:ONE")
    filled = muleteer("catalog", "enclose", "test:BOX", "test:ONE", "test:TWO")

    assert (made.out, filled.out) == ("test:BOX is there, with 1 in it\n", "1 are new in test:BOX\n")
    assert muleteer("catalog", "list", "--containers", "--json").json == [{"scope": "test", "name": "BOX"}]
    assert "test:BOX" in muleteer("catalog", "list", "--containers").out
    assert [each["name"] for each in muleteer("catalog", "list", "--json").json] == ["ONE", "TWO"]
    assert muleteer("catalog", "show", "test:BOX", "--json").json == {
        "scope": "test",
        "name": "BOX",
        "did_type": "CONTAINER",
        "content": [
            {"scope": "test", "name": "ONE", "did_type": "DATASET"},
            {"scope": "test", "name": "TWO", "did_type": "DATASET"},
        ],
    }
    assert "test:BOX is a container of 2" in muleteer("catalog", "show", "test:BOX").out
    muleteer("catalog", "erase", "test:BOX")
    assert muleteer("catalog", "list", "--containers").out == "None fits.\n"


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("show", "test:NONE"), Exit.NOT_FOUND, "test:NONE"),
        (("create", "test:ONE"), Exit.REFUSED, "exists already"),
        (("create", "test:NEW", "no-such-file"), Exit.NOT_FOUND, "no-such-file cannot be read"),
        (("add-container", "test:ONE"), Exit.REFUSED, "exists already"),
        (("enclose", "test:ONE", "test:ONE"), Exit.NOT_FOUND, "no container test:ONE"),
        (("create", "test:NEW", "--lifetime", "soon"), Exit.USAGE, "not a length of time"),
    ],
)
def test_what_cannot_be_done_is_explained(muleteer: Muleteer, words: tuple[str, ...], code: Exit, why: str) -> None:
    """Nothing is changed."""
    muleteer("catalog", "create", "test:ONE")

    said = muleteer("catalog", *words)

    assert (said.code, said.out) == (code, "")
    assert why in said.err
    assert [each["name"] for each in muleteer("catalog", "list", "--json").json] == ["ONE"]


def test_a_dataset_is_made_whole_or_not(muleteer: Muleteer, files: list[Path]) -> None:
    """Files that cannot be registered leave no dataset behind."""
    muleteer("catalog", "create", "test:ONE", files[0])
    files[0].write_text("another content")

    for words in (("test:NEW", files[0]), ("test:NEW", files[1], "--rse", "no rse")):
        assert muleteer("catalog", "create", *words).code == Exit.REFUSED

    assert [each["name"] for each in muleteer("catalog", "list", "--json").json] == ["ONE"]
