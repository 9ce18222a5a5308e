"""What is seen on disks: whatever cannot be looked at is never taken for gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.transient.witness import Sight, Witness

PREFIX = "root://xrd.example.org:1094//pool"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk that is mounted: something lies on it."""
    folder = tmp_path / "mnt"
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "a.root").write_text("x")
    return folder


@pytest.mark.parametrize(
    ("pfn", "seen"),
    [
        (f"{PREFIX}/run/a.root", Sight.THERE),
        (f"{PREFIX}/run/b.root", Sight.GONE),
        (f"{PREFIX}/other/a.root", Sight.GONE),
        (f"{PREFIX}/run/a.root/under", Sight.GONE),
        (f"{PREFIX}/run", Sight.THERE),
        (f"{PREFIX}/../mnt/run/a.root", Sight.ELSEWHERE),
        (f"{PREFIX}/%2e%2e/mnt/run/a.root", Sight.ELSEWHERE),
        (f"{PREFIX}/run/a.root?svcClass=tape", Sight.THERE),
        (f"{PREFIX}/%72un/a.root?svcClass=tape", Sight.THERE),
        (f"{PREFIX}2/run/a.root", Sight.ELSEWHERE),
        ("root://other.example.org:1094//pool/run/a.root", Sight.ELSEWHERE),
        ("davs://xrd.example.org/pool/run/a.root", Sight.ELSEWHERE),
        ("", Sight.ELSEWHERE),
        (f"{PREFIX}/run/\0", Sight.UNSEEN),
        (f"{PREFIX}/run/{'x' * 300}", Sight.UNSEEN),
    ],
)
def test_a_prefix_says_where_a_disk_is_seen(disk: Path, pfn: str, seen: Sight) -> None:
    """A directory where a file should lie is something that lies there; `..` leads nowhere."""
    assert Witness({PREFIX: disk}).sees(pfn) is seen


def test_the_longest_prefix_counts(disk: Path, tmp_path: Path) -> None:
    """A disk may be mounted within another one."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "c.root").write_text("x")
    witness = Witness({PREFIX: disk, f"{PREFIX}/deep/": inner})

    assert witness.sees(f"{PREFIX}/deep/c.root") is Sight.THERE
    assert witness.where(f"{PREFIX}/deep/c.root") == str(inner / "c.root")
    assert witness.sees(f"{PREFIX}/run/a.root") is Sight.THERE


def test_a_prefix_ends_where_a_name_ends(disk: Path, tmp_path: Path) -> None:
    """`/data` says nothing of `/data2`: what lies there is not gone."""
    other = tmp_path / "mnt2"
    other.mkdir()
    (other / "x.root").write_text("x")
    witness = Witness({str(disk): disk})

    assert witness.sees(f"{other}/x.root") is Sight.THERE
    assert witness.sees(f"{disk}/run/a.root") is Sight.THERE


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a b.root", "a%20b.root"),
        ("a b.root", "a b.root"),
        ("a%20b.root", "a%2520b.root"),
        ("a%20b.root", "a%20b.root"),
        ("a?b.root", "a?b.root"),
        ("a?b.root", "a%3Fb.root"),
        ("a+b.root", "a+b.root"),
    ],
)
@pytest.mark.parametrize("prefix", [PREFIX, "file://localhost/pool"])
def test_what_is_quoted_and_what_is_not_is_found(disk: Path, prefix: str, name: str, said: str) -> None:
    """Not everybody quotes: what lies at any place that may be meant is there, and that place is told."""
    (disk / name).write_text("x")
    witness = Witness({prefix: disk})

    assert witness.sees(f"{prefix}/{said}") is Sight.THERE
    assert witness.where(f"{prefix}/{said}") == str(disk / name)


def test_a_path_is_no_url(disk: Path) -> None:
    """Nothing is quoted in it."""
    (disk / "a b.root").write_text("x")

    assert Witness({"/pool": disk}).sees("/pool/a%20b.root") is Sight.GONE


def test_a_disk_that_is_not_mounted_shows_nothing(tmp_path: Path) -> None:
    """Its directory is empty, or is not there: its files are not gone for that."""
    empty = tmp_path / "mnt"
    empty.mkdir()
    for root in (empty, tmp_path / "never", tmp_path / "file"):
        (tmp_path / "file").write_text("no directory")
        assert Witness({PREFIX: root}).sees(f"{PREFIX}/run/a.root") is Sight.UNSEEN


def test_an_empty_disk_says_what_to_do(disk: Path) -> None:
    """When the last file has gone it looks like one that is not mounted: a file that stays there tells them apart."""
    witness = Witness({PREFIX: disk})
    (disk / "run" / "a.root").unlink()
    (disk / "run").rmdir()

    assert witness.sees(f"{PREFIX}/run/a.root") is Sight.UNSEEN
    assert witness.why_unseen(f"{PREFIX}/run/a.root") == (
        f"{disk} is empty or not there: if its disk is mounted, put any file there"
    )
    (disk / "mounted").touch()
    assert witness.sees(f"{PREFIX}/run/a.root") is Sight.GONE


@pytest.mark.parametrize("pfn", ["{disk}/other/a.root", "file://localhost{disk}/other/a.root", "{disk}/run/a.root/x"])
def test_a_path_whose_directory_is_not_there_tells_nothing(disk: Path, pfn: str) -> None:
    """Whoever deletes files leaves directories: without it, it is the disk that is not there. If told, it is known."""
    told, path = pfn.format(disk=disk), pfn.format(disk=disk).removeprefix("file://localhost")

    assert Witness({}).sees(told) is Sight.UNSEEN
    assert Witness({}).why_unseen(told) == (
        f"{Path(path).parent} is not there: if its disk is mounted, make it, or tell its disk in [transient] disks"
    )
    assert Witness({told.removesuffix(path) + str(disk): disk}).sees(told) is Sight.GONE


def test_a_directory_that_is_empty_tells_that_its_file_is_gone(disk: Path) -> None:
    """A dataset's own directory is empty when it has left."""
    (disk / "run" / "a.root").unlink()

    assert Witness({}).sees(f"{disk}/run/a.root") is Sight.GONE


def test_what_refuses_to_be_looked_at_says_so(disk: Path) -> None:
    """In the words of the disk."""
    pfn = f"{disk}/{'x' * 300}/a.root"

    assert Witness({}).sees(pfn) is Sight.UNSEEN
    assert "File name too long" in Witness({}).why_unseen(pfn)


def test_paths_and_file_urls_are_seen_as_they_are(disk: Path) -> None:
    """Without being told where; blanks and signs are quoted in a URL, and not in a path."""
    odd = disk / "a#b c.root"
    odd.write_text("x")
    witness = Witness({})

    for pfn in (str(odd), f"file://localhost{disk}/a%23b%20c.root", f"file://{disk}/run/a.root"):
        assert witness.sees(pfn) is Sight.THERE
    assert witness.where(f"file://localhost{disk}/a%23b%20c.root") == str(odd)
    assert witness.sees(f"{disk}/never.root") is Sight.GONE
    assert witness.where("root://elsewhere//a.root") == "root://elsewhere//a.root"


def test_a_link_is_something_that_lies_there(disk: Path, tmp_path: Path) -> None:
    """Wherever it leads, out of the disk or to nothing: it is not followed."""
    outside = tmp_path / "outside.root"
    outside.write_text("x")
    (disk / "out.root").symlink_to(outside)
    (disk / "dangling.root").symlink_to(tmp_path / "never")
    witness = Witness({PREFIX: disk})

    assert witness.sees(f"{PREFIX}/out.root") is Sight.THERE
    outside.unlink()
    assert witness.sees(f"{PREFIX}/out.root") is Sight.THERE
    assert witness.sees(f"{PREFIX}/dangling.root") is Sight.THERE
