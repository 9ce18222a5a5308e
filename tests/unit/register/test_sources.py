"""Where files come from."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.core.registering import Mistold, Told
from orchestrator.register.sources import Sources


def tree(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, *words: str, **options: bool) -> tuple[list[str], list[str]]:
    """The files, relative to the folder, and what is wrong."""
    tellings = list(Sources(folder, **options).from_words(words))
    files = [telling.entry.pfn for telling in tellings if isinstance(telling, Told)]
    mistakes = [str(telling) for telling in tellings if isinstance(telling, Mistold)]
    return [file.removeprefix(f"{folder}/") for file in files], mistakes


def test_words_are_files_folders_patterns_and_urls(tmp_path: Path) -> None:
    """In the order of the words; what is in a folder, and what fits a pattern, by name."""
    tree(tmp_path, "d/2/b", "d/1", "d/2/a", "x.root", "p2", "p1", "z")

    files, mistakes = found(tmp_path, "z", "d", "p*", "root://h//a", str(tmp_path / "x.root"))

    assert files == ["z", "d/1", "d/2/a", "d/2/b", "p1", "p2", "root://h//a", "x.root"]
    assert mistakes == []


def test_what_is_hidden_is_passed_over_unless_it_is_wanted(tmp_path: Path) -> None:
    """Files and folders; one that is named is wanted."""
    tree(tmp_path, "d/.a", "d/.b/c", "d/e")

    assert found(tmp_path, "d") == (["d/e"], [])
    assert found(tmp_path, "d", hidden=True) == (["d/.a", "d/.b/c", "d/e"], [])
    assert found(tmp_path, "d/.a", "d/.b") == (["d/.a", "d/.b/c"], [])
    assert found(tmp_path, "d/*", hidden=True)[0] == ["d/.a", "d/.b/c", "d/e"]


def test_two_stars_are_any_folders(tmp_path: Path) -> None:
    """Each file once, though the folders fit too."""
    tree(tmp_path, "d/e/f.root", "d/g.root", "d/h")

    assert found(tmp_path, "d/**/*.root") == (["d/e/f.root", "d/g.root"], [])
    assert found(tmp_path, "d/**") == (["d/e/f.root", "d/g.root", "d/h"], [])


@pytest.mark.parametrize("name", ["a b", "a\nb", "ä€", "a*b", "[a]", "-"])
def test_a_file_may_be_called_anything(tmp_path: Path, name: str) -> None:
    """A name that is there is no pattern."""
    tree(tmp_path, f"d/{name}", "d/axb", "d/a")

    assert found(tmp_path / "d", name) == ([name], [])
    assert name in found(tmp_path, "d")[0][0] + "".join(found(tmp_path, "d")[0])


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """And all the others are found."""
    tree(tmp_path, "a", "z")
    (tmp_path / "empty").mkdir()

    files, mistakes = found(tmp_path, "a", "b", "c*", "empty", "z")

    assert files == ["a", "z"]
    assert mistakes == [
        "b: there is no such file",
        "c*: no file fits this pattern",
        "empty: there are no files in this folder",
    ]


def test_a_name_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    """The catalog could not keep it."""
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a").touch()
    os.close(os.open(os.fsencode(folder) + b"/b\xff", os.O_CREAT))

    files, mistakes = found(tmp_path, "d")

    assert files == ["d/a"]
    assert len(mistakes) == 1
    assert "not UTF-8" in mistakes[0]
    assert mistakes[0].encode()


def test_links_to_files_are_found_and_links_to_folders_followed_if_wanted(tmp_path: Path) -> None:
    """A link that leads back to a folder above it is followed once, and told; one to nowhere is for the reader."""
    tree(tmp_path, "d/a", "other/b")
    (tmp_path / "d" / "file").symlink_to("a")
    (tmp_path / "d" / "folder").symlink_to("../other")
    (tmp_path / "d" / "nowhere").symlink_to("nothing")
    (tmp_path / "d" / "up").symlink_to(".")
    (tmp_path / "d" / "self").symlink_to("self")

    files, mistakes = found(tmp_path, "d")
    assert files == ["d/a", "d/file", "d/nowhere", "d/self"]
    assert [text.partition(":")[0] for text in mistakes] == [f"{tmp_path}/d/folder", f"{tmp_path}/d/up"]
    files, mistakes = found(tmp_path, "d", follow_links=True)
    assert files == ["d/a", "d/file", "d/folder/b", "d/nowhere", "d/self"]
    assert mistakes == [f"{tmp_path}/d/up: this link leads back to a folder above it"]
    assert found(tmp_path, "d/nowhere") == (["d/nowhere"], [])


def test_a_path_with_dots_is_told_without(tmp_path: Path) -> None:
    """What they mean behind a link, the disk says."""
    tree(tmp_path, "d/e/a", "d/b", "c")
    (tmp_path / "link").symlink_to("d/e")

    assert found(tmp_path, "./d/../c", "link/../b", "link/../*") == (["c", "d/b", "d/b", "d/e/a"], [])
    assert found(tmp_path / "d" / "e", "..")[0] == [f"{tmp_path}/d/b", "a"]


def test_a_manifest_in_a_file_begins_where_it_lies(tmp_path: Path) -> None:
    """One on a pipe begins where the sources begin."""
    tree(tmp_path, "d/list")
    (tmp_path / "d" / "list").write_text("a\n/b\n")
    sources = Sources(tmp_path)

    of_file = list(sources.from_manifest("d/list"))
    of_pipe = list(sources.from_stream(io.BytesIO(b"a\n"), "standard input"))

    assert [(each.place, each.entry.pfn) for each in of_file if isinstance(each, Told)] == [
        (f"{tmp_path}/d/list:1", f"{tmp_path}/d/a"),
        (f"{tmp_path}/d/list:2", "/b"),
    ]
    assert [(each.place, each.entry.pfn) for each in of_pipe if isinstance(each, Told)] == [
        ("standard input:1", f"{tmp_path}/a")
    ]


def test_a_manifest_that_names_no_file_is_told(tmp_path: Path) -> None:
    """Nobody meant nothing: not with a head, not in a file, not on a pipe."""
    path = tmp_path / "list.csv"
    path.write_text("pfn,md5\n")
    sources = Sources(tmp_path)

    assert list(sources.from_manifest("list.csv")) == [Mistold(str(path), "it names no file")]
    assert list(sources.from_stream(io.BytesIO(), "standard input")) == [Mistold("standard input", "it names no file")]


def test_a_manifest_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """It is not there, or is a folder."""
    sources = Sources(tmp_path)

    assert [str(each) for name in ("missing", ".") for each in sources.from_manifest(name)] == [
        f"{tmp_path}/missing: it cannot be read: No such file or directory",
        f"{tmp_path}: it cannot be read: Is a directory",
    ]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: for as long as this lasts, we are not root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_read_is_told() -> None:
    """The others are read."""
    with tempfile.TemporaryDirectory() as name:  # whose parents anybody may enter, as pytest's own are not
        folder = Path(name)
        tree(folder, "d/locked/a", "d/z")
        folder.chmod(0o755)
        (folder / "d" / "locked").chmod(0)

        with as_nobody():
            files, mistakes = found(folder, "d")
        (folder / "d" / "locked").chmod(0o700)

    assert files == ["d/z"]
    assert mistakes == [f"{folder}/d/locked: this folder cannot be read: Permission denied"]
