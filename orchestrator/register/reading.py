"""Size, Adler-32 and MD5 of files: each file read once, many at the same time.

A file has one thread, which reads a block and gives it to one sum after the other while the block is in the cache.
Measured against a second thread for each file that took over one of the sums: that is a tenth slower as soon as every
core has a file of its own, and a tenth quicker only for a file that is alone. The Adler-32 of isal takes a third of the
time of that of zlib, and lets other threads go on as well.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from isal.isal_zlib import adler32 as adler32_of

from schemas.registration import Sums

T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E", bound=Exception)

#: Bytes read at once, and how soon a reading stops.
BLOCK: Final = 1 << 20

#: Files for each thread that are taken from the list ahead of their turn.
_AHEAD: Final = 4

_KINDS: Final = (
    (stat.S_ISDIR, "a directory: name the files in it"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


class NotRead(Exception):
    """A file cannot be read, or not be relied upon. The text says which, why, and what to do next."""


class Stopped(Exception):
    """Somebody wants the reading to stop. Nothing is wrong with the file."""


class Reader:
    """Reads files, from several threads at once: each keeps one block in memory."""

    def __init__(
        self,
        *,
        follow_links: bool = False,
        stopping: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda size: None,
    ) -> None:
        """
        Args:
            follow_links: read what a link points to; else a link is refused.
            stopping: asked for each block.
            progress: told of each block how many bytes were read; called by all the threads.
        """
        self._follow_links = follow_links
        self._stopping = stopping
        self._progress = progress
        self._mine = threading.local()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End all readings: those that go on, and those that are begun later."""
        self._stopped.set()

    def sums(self, path: str) -> Sums:
        """Read a file from its beginning to its end.

        Raises:
            NotRead: it is missing, no regular file, may not be read, or changed while it was read.
            Stopped: it was stopped.
        """
        before = self.status(path)
        try:
            with _opened(path) as file:
                _demand_same(path, before, os.fstat(file.fileno()))
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                size, adler32, md5 = self._read(file)
                _demand_same(path, before, os.fstat(file.fileno()))
            # another file may have taken its name
            _demand_same(path, before, Path(path).stat())
        except OSError as error:
            raise NotRead(_said(path, error)) from None
        if size != before.st_size:
            raise NotRead(f"{path} has {before.st_size} bytes, and {size} could be read: look after its disk")
        return Sums(bytes=size, adler32=adler32, md5=md5, modified_ns=before.st_mtime_ns)

    def status(self, path: str) -> os.stat_result:
        """What is known of a regular file without reading it. Raises NotRead."""
        try:
            found = Path(path).lstat()
            if stat.S_ISLNK(found.st_mode):
                found = self._followed(Path(path))
        except (OSError, ValueError) as error:
            raise NotRead(_said(path, error)) from None
        if not stat.S_ISREG(found.st_mode):
            raise NotRead(f"{path} is no regular file but {_kind_of(found.st_mode)}")
        return found

    def _followed(self, link: Path) -> os.stat_result:
        target = link.readlink()
        if not self._follow_links:
            raise NotRead(f"{link} is a link to {target}: name the file itself, or set registration.follow_links")
        try:
            return link.stat()
        except FileNotFoundError:
            raise NotRead(f"{link} is a link to {target}, which is not there") from None

    def _read(self, file: FileIO) -> tuple[int, str, str]:
        block = self._block()
        size, adler32, md5 = 0, 1, hashlib.md5(usedforsecurity=False)
        while count := file.readinto(block):
            if self._stopped.is_set() or self._stopping():
                raise Stopped
            part = block[:count]
            md5.update(part)
            adler32 = adler32_of(part, adler32)
            size += count
            self._progress(count)
        return size, f"{adler32:08x}", md5.hexdigest()

    def _block(self) -> memoryview:
        """The block of this thread."""
        if not hasattr(self._mine, "block"):
            self._mine.block = memoryview(bytearray(BLOCK))
        block: memoryview = self._mine.block
        return block


def _opened(path: str) -> FileIO:
    # a FIFO that has just taken the file's place would be waited for
    return FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))


def _demand_same(path: str, before: os.stat_result, now: os.stat_result) -> None:
    if _state(before) != _state(now):
        raise NotRead(f"{path} changed while it was read: register it again once nobody writes to it")


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _kind_of(mode: int) -> str:
    """What something is that is no regular file, in words."""
    return next((said for is_kind, said in _KINDS if is_kind(mode)), "something else")


def _said(path: str, error: OSError | ValueError) -> str:
    match error:
        case FileNotFoundError():
            return f"{path} is not there"
        case PermissionError():
            return f"{path} may not be read by this user: {error.strerror}"
        case OSError(errno=errno.ELOOP):
            return f"{path} is a link that leads back to itself"
        case OSError():
            return f"{path} cannot be read: {error.strerror}"
        case ValueError():
            return f"{path!r} can be no path: {error}"


def in_parallel(
    work: Callable[[T], R], items: Iterable[T], threads: int, *, passing: type[E], stop: Callable[[], None]
) -> Generator[tuple[T, R | E], None, None]:
    """Do the work for each of the items in so many threads, and give results as they come.

    Few items are held at a time, however many there are. Whoever wants no more closes the iterator.

    Args:
        passing: exceptions that are results; any other ends it.
        stop: called if it ends before its time, to end what goes on in the threads, which is waited for.
    """
    remaining = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reading")
    doing: dict[Future[R], T] = {}
    done: SimpleQueue[Future[R]] = SimpleQueue()
    try:
        while True:
            for item in islice(remaining, threads * _AHEAD - len(doing)):
                future = pool.submit(work, item)
                doing[future] = item
                future.add_done_callback(done.put)
            if not doing:
                return
            future = done.get()
            outcome = _outcome(future, passing)
            yield doing.pop(future), outcome
    finally:
        if doing:
            stop()
        pool.shutdown(cancel_futures=True)


def _outcome(future: Future[R], passing: type[E]) -> R | E:
    try:
        return future.result()
    except passing as error:
        return error
