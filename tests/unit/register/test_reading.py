"""Size and sums of files, read once."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.register.reading import BLOCK, NotRead, Reader, Stopped, in_parallel
from schemas.registration import Sums


def expected(content: bytes, path: Path) -> Sums:
    return Sums(
        bytes=len(content),
        adler32=f"{zlib.adler32(content):08x}",
        md5=hashlib.md5(content).hexdigest(),
        modified_ns=path.stat().st_mtime_ns,
    )


def not_read(path: Path | str, reader: Reader | None = None) -> str:
    with pytest.raises(NotRead) as error:
        (reader or Reader()).sums(str(path))
    return str(error.value)


@given(st.binary(max_size=300), st.sampled_from([0, 1, BLOCK - 300, BLOCK - 1, BLOCK, 2 * BLOCK - 100]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_sums_are_those_of_the_whole_content(tmp_path: Path, end: bytes, before: int) -> None:
    """Whatever is in it, and wherever it ends between two blocks."""
    content = end[:7].ljust(7, b"x") * (before // 7) + end
    path = tmp_path / "file"
    path.write_bytes(content)

    assert Reader().sums(str(path)) == expected(content, path)


def test_a_block_is_not_taken_for_longer_than_it_is(tmp_path: Path) -> None:
    """A short file after a long one, in one thread: nothing is left of the first."""
    long, short = tmp_path / "long", tmp_path / "short"
    long.write_bytes(b"l" * (BLOCK + 10))
    short.write_bytes(b"s")
    reader = Reader()
    reader.sums(str(long))

    assert reader.sums(str(short)) == expected(b"s", short)


@pytest.mark.parametrize("name", ["a b", "a\nb", "ä€😀", "-", "*"])
def test_a_file_may_be_called_anything(tmp_path: Path, name: str) -> None:
    """The catalog may refuse the name; reading does not."""
    path = tmp_path / name
    path.write_bytes(b"x")

    assert Reader().sums(str(path)) == expected(b"x", path)


def test_what_is_no_file_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    """A FIFO is not waited for, a device not read."""
    fifo, bound = tmp_path / "fifo", tmp_path / "socket"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(bound))

        assert "a FIFO" in not_read(fifo)
        assert "a socket" in not_read(bound)
    assert "a directory" in not_read(tmp_path)
    assert "a character device" in not_read("/dev/zero")
    assert "is not there" in not_read(tmp_path / "missing")
    assert "is not there" in not_read(tmp_path / "missing" / "file")
    assert "can be no path" in not_read("/a\0b")


def test_a_file_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    """Not even its folder, for whoever runs the tests may read everything: a file used as a folder serves as well."""
    (tmp_path / "file").write_bytes(b"x")
    locked = tmp_path / "locked"
    locked.write_bytes(b"x")
    locked.chmod(0)

    assert "cannot be read: Not a directory" in not_read(tmp_path / "file" / "file")
    if os.geteuid() != 0:
        assert "may not be read" in not_read(locked)


def test_a_link_is_read_only_if_that_is_wanted(tmp_path: Path) -> None:
    """The text names what it points to."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    follower = Reader(follow_links=True)

    assert "a link to file" in not_read(tmp_path / "link")
    assert follower.sums(str(tmp_path / "link")) == expected(b"x", tmp_path / "file")
    assert "nowhere, which is not there" in not_read(tmp_path / "dangling", follower)
    assert "leads back to itself" in not_read(tmp_path / "loop", follower)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _shrink(path: Path) -> None:
    os.truncate(path, BLOCK)


def _replace(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [_grow, _touch, _shrink, _replace, _remove])
def test_a_file_that_changes_while_it_is_read_is_not_relied_upon(tmp_path: Path, change: object) -> None:
    """Written to, cut off, or replaced by another of the same size and time."""
    assert callable(change)
    path = tmp_path / "file"
    path.write_bytes(b"x" * (2 * BLOCK))
    calls: list[int] = []

    def progress(size: int) -> None:
        calls.append(size)
        if len(calls) == 1:
            change(path)

    said = not_read(path, Reader(progress=progress))

    assert "changed while it was read" in said or "is not there" in said


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    """Each block, and nothing of an empty file."""
    (tmp_path / "file").write_bytes(b"x" * (BLOCK + 5))
    (tmp_path / "empty").touch()
    told: list[int] = []
    reader = Reader(progress=told.append)

    reader.sums(str(tmp_path / "file"))
    reader.sums(str(tmp_path / "empty"))

    assert told == [BLOCK, 5]


def test_reading_stops_at_the_next_block(tmp_path: Path) -> None:
    """Asked for by the one who made the reader, or by `stop`."""
    (tmp_path / "file").write_bytes(b"x" * (4 * BLOCK))
    told: list[int] = []
    reader = Reader(stopping=lambda: len(told) == 2, progress=told.append)
    with pytest.raises(Stopped):
        reader.sums(str(tmp_path / "file"))
    stopped = Reader()
    stopped.stop()

    assert told == [BLOCK, BLOCK]
    with pytest.raises(Stopped):
        stopped.sums(str(tmp_path / "file"))


def test_work_in_parallel_gives_every_result_and_holds_few() -> None:
    """Failures that were foreseen are results; the list is read as far as it is needed."""
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken = number
            yield number

    def work(number: int) -> int:
        if number % 10 == 3:
            raise NotRead(str(number))
        return -number

    results = {}
    for item, result in in_parallel(work, items(), 3, passing=NotRead, stop=lambda: None):
        results[item] = result
        assert taken < len(results) + 3 * 4

    assert {item: str(result) for item, result in results.items()} == {
        number: str(number) if number % 10 == 3 else str(-number) for number in range(1000)
    }
    assert sum(isinstance(result, NotRead) for result in results.values()) == 100


def test_as_many_work_as_there_are_threads() -> None:
    """None waits for another: each of them meets all the others."""
    together = threading.Barrier(4, timeout=20)

    results = list(in_parallel(lambda item: together.wait(), range(8), 4, passing=NotRead, stop=lambda: None))

    assert len(results) == 8


def test_leaving_early_stops_what_goes_on() -> None:
    """Closing the iterator waits for the threads, which are told; so does an exception that nobody foresaw."""
    leaving = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            return item
        if item == 5:
            raise ZeroDivisionError
        assert leaving.wait(20)
        return item

    results = in_parallel(work, range(3), 2, passing=NotRead, stop=leaving.set)
    next(results)
    begun = time.monotonic()
    results.close()

    assert time.monotonic() - begun < 10
    assert leaving.is_set()
    leaving.clear()
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(work, [5, 1], 2, passing=NotRead, stop=leaving.set))
