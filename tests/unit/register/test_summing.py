"""What a file is like: read, known, or both and compared."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.register.known_sums import KnownSums, KnownSumsAway, KnownSumsError
from orchestrator.register.reading import NotRead, Reader, Stopped
from orchestrator.register.summing import Summing
from schemas.registration import FileState, RegisteredFile, Sums

CONTENT = b"some events"
MD5 = hashlib.md5(CONTENT).hexdigest()
ADLER32 = f"{zlib.adler32(CONTENT):08x}"
OTHER = "0" * 32


class Read:
    """Counts the bytes that were read."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, size: int) -> None:
        self.bytes += size


@pytest.fixture
def read() -> Read:
    return Read()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.root"
    path.write_bytes(CONTENT)
    return path


def file_of(path: Path | None, **fields: object) -> RegisteredFile:
    told = {"did": "s:a.root", "pfn": str(path or "root://h//a.root"), "path": path and str(path)}
    return RegisteredFile.model_validate({**told, "state": FileState.PLANNED, **fields})


def refused(summing: Summing, file: RegisteredFile) -> str:
    with pytest.raises(NotRead) as error:
        summing(file)
    return str(error.value)


def test_a_file_of_which_nothing_is_known_is_read(path: Path, read: Read) -> None:
    """Its sums, its size and its time."""
    sums = Summing(Reader(progress=read))(file_of(path))

    assert sums == Sums(bytes=11, adler32=ADLER32, md5=MD5, modified_ns=path.stat().st_mtime_ns)
    assert read.bytes == len(CONTENT)


def test_sums_that_were_told_are_taken_unless_they_are_to_be_verified(path: Path, read: Read) -> None:
    """They may even be wrong. Verifying finds it, and names both."""
    told = file_of(path, bytes=11, adler32="00000000", md5=OTHER)

    sums = Summing(Reader(progress=read))(told)

    assert (sums.md5, sums.modified_ns, read.bytes) == (OTHER, path.stat().st_mtime_ns, 0)
    said = refused(Summing(Reader(), verify=True), told)
    assert "00000000" in said
    assert ADLER32 in said
    assert Summing(Reader(), verify=True)(file_of(path, bytes=11, adler32=ADLER32, md5=MD5)).md5 == MD5


def test_one_sum_by_itself_is_compared(path: Path, read: Read) -> None:
    """The other cannot be added to the catalog later, so the file is read anyhow."""
    summing = Summing(Reader(progress=read))

    assert summing(file_of(path, md5=MD5)).adler32 == ADLER32
    assert read.bytes == len(CONTENT)
    assert OTHER in refused(summing, file_of(path, md5=OTHER))


def test_a_size_that_is_wrong_is_found_without_reading(path: Path, read: Read) -> None:
    """Whatever else is known."""
    summing = Summing(Reader(progress=read))

    said = [refused(summing, file_of(path, bytes=10, **sums)) for sums in ({}, {"adler32": ADLER32, "md5": MD5})]

    assert all("bytes 10" in text and "11" in text for text in said)
    assert read.bytes == 0


def test_a_file_that_is_too_small_is_refused_without_reading(path: Path, read: Read) -> None:
    """An empty one always, but if somebody wants them."""
    empty = path.with_name("empty")
    empty.touch()
    least = Summing(Reader(progress=read), min_bytes=12)

    assert "fewer than 12" in refused(least, file_of(path))
    assert "empty" in refused(Summing(Reader()), file_of(empty))
    assert Summing(Reader(), min_bytes=0)(file_of(empty)).bytes == 0
    assert read.bytes == 0


def test_a_file_that_was_summed_is_read_again_only_if_it_changed(path: Path, read: Read) -> None:
    """By its time or its size."""
    summing = Summing(Reader(progress=read))
    noted = file_of(path, state=FileState.SUMMED, **summing(file_of(path)).model_dump())
    read.bytes = 0

    assert summing(noted) == Sums.model_validate(noted, from_attributes=True)
    assert read.bytes == 0
    os.utime(path, ns=(1, 1))
    assert summing(noted).modified_ns == 1
    path.write_bytes(b"other")
    os.utime(path, ns=(1, noted.modified_ns or 0))
    assert summing(noted).md5 == hashlib.md5(b"other").hexdigest()


def test_a_file_that_changed_is_compared_with_what_was_told_of_it(path: Path) -> None:
    """What was found by reading it before is no claim."""
    noted = file_of(path, state=FileState.SUMMED, bytes=11, adler32=ADLER32, md5=MD5, modified_ns=1)
    summing = Summing(Reader())
    path.write_bytes(b"other event")

    assert summing(noted).bytes == 11
    assert f"its manifest says md5 {MD5}" in refused(summing, noted.model_copy(update={"told": "bytes md5"}))
    assert summing(noted.model_copy(update={"told": "bytes"})).md5 == hashlib.md5(b"other event").hexdigest()
    path.write_bytes(b"longer than it was")
    assert "its manifest says bytes 11" in refused(summing, noted.model_copy(update={"told": "bytes"}))


def test_what_is_known_without_reading_is_told(path: Path, read: Read) -> None:
    """None if the file has to be read; what is wrong is said in the same words as when it is read."""
    summing, told = Summing(Reader(progress=read)), file_of(path, adler32=ADLER32, md5=MD5)
    small = Summing(Reader(progress=read), min_bytes=12)

    assert summing.unread(told) == summing(told)
    assert summing.unread(file_of(path)) is None and Summing(Reader(), verify=True).unread(told) is None
    with pytest.raises(NotRead) as before:
        small.unread(told)
    assert str(before.value) == refused(small, told)
    assert read.bytes == 0


def test_a_file_that_is_not_seen_is_taken_as_it_was_told() -> None:
    """Size and Adler-32 have to be told: the catalog must have them."""
    summing = Summing(Reader(), verify=True)

    sums = summing(file_of(None, bytes=3, adler32=ADLER32))

    assert sums == Sums(bytes=3, adler32=ADLER32, md5=None, modified_ns=None)
    assert "nobody told its bytes and adler32" in refused(summing, file_of(None))
    assert "nobody told its adler32" in refused(summing, file_of(None, bytes=3, md5=MD5))
    assert "empty" in refused(summing, file_of(None, bytes=0, adler32=ADLER32))


def test_many_files_are_summed_and_none_hinders_another(path: Path) -> None:
    """Each gets its sums or its reason."""
    files = [file_of(path.with_name(f"{number}.root"), pfn=f"/{number}") for number in range(40)]
    for number, file in enumerate(files):
        if number % 4:
            Path(str(file.path)).write_bytes(str(number).encode())

    results = dict(Summing(Reader(), threads=3).all(files))

    for number, file in enumerate(files):
        result = results[file]
        if number % 4:
            assert isinstance(result, Sums)
            assert result.md5 == hashlib.md5(str(number).encode()).hexdigest()
        else:
            assert "is not there" in str(result)


def test_summing_that_is_stopped_ends(path: Path) -> None:
    """With an exception of its own: no file is to blame."""
    reader = Reader()
    results = Summing(reader, threads=2).all([file_of(path)] * 100)
    next(results)
    reader.stop()

    with pytest.raises(Stopped):
        list(results)


def database(path: Path, index: bool, columns: str = "lfn, md5, size") -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"CREATE TABLE files ({columns}, adler32)")
        rows = [("a.root", MD5.upper(), 11, ADLER32), ("b.root", OTHER, 1, None), ("b.root", MD5, 1, None)]
        db.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)
        if index:
            db.execute(f"CREATE INDEX quick ON files ({columns.split(',')[0]})")
        db.commit()
    return path


@pytest.mark.parametrize("index", [True, False])
def test_known_sums_may_stand_in_a_database(path: Path, read: Read, index: bool) -> None:
    """With or without an index, under other names, in capitals. Two answers are none."""
    known_path = database(path.with_name("known.db"), index, "name, md5, size")

    with closing(KnownSums.open(known_path, "files", {"lfn": "name", "bytes": "size"})) as known:
        summing = Summing(Reader(progress=read), known)
        sums = summing(file_of(path))

        assert (sums.md5, sums.adler32, read.bytes) == (MD5, ADLER32, 0)
        assert "2 different sums" in refused(summing, file_of(path, did="s:b.root"))
        assert summing(file_of(path, did="s:c.root")).md5 == MD5
        assert read.bytes == len(CONTENT)


def test_a_database_with_an_index_is_not_copied(path: Path) -> None:
    """What is added to it while it is open is known."""
    known_path = database(path.with_name("known.db"), index=True)
    with closing(KnownSums.open(known_path, "files", {"bytes": "size"})) as known:
        with closing(sqlite3.connect(known_path)) as db:
            db.execute("INSERT INTO files VALUES ('late', ?, 1, NULL)", (OTHER,))
            db.commit()
        found = known.find(file_of(path, did="s:late"))

    assert found is not None
    assert found.md5 == OTHER


@pytest.mark.parametrize(
    ("table", "columns", "said"),
    [
        ("sums", {}, "no table 'sums'; it has: files"),
        ("files", {"bytes": "length"}, "no column length; it has: adler32, lfn, md5, size"),
    ],
)
def test_a_database_that_does_not_fit_is_refused(path: Path, table: str, columns: dict[str, str], said: str) -> None:
    """With what there is."""
    known_path = database(path.with_name("known.db"), index=False)

    with pytest.raises(KnownSumsError, match=said):
        KnownSums.open(known_path, table, columns)


def test_a_database_that_somebody_writes_is_away(path: Path) -> None:
    """No file is refused for it, and it is not taken for a mistake; afterwards it is asked as before."""
    known_path = database(path.with_name("known.db"), index=True)
    with closing(KnownSums.open(known_path, "files", {"bytes": "size"})) as known:
        with closing(sqlite3.connect(known_path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            with pytest.raises(KnownSumsAway, match="locked"):
                Summing(Reader(), known)(file_of(path))
        assert known.find(file_of(path)) is not None
    with pytest.raises(KnownSumsAway, match="No such file"):
        KnownSums.open(path.with_name("nowhere"))


def test_a_database_without_names_or_sums_is_refused(path: Path) -> None:
    """One cannot be looked up without the other."""
    known_path = database(path.with_name("known.db"), index=False, columns="what, sum, size")

    with pytest.raises(KnownSumsError, match="needs a column of names"):
        KnownSums.open(known_path, "files")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MD5SUMS", f"{MD5}  a.root\n{OTHER} *b.root\n"),
        ("sums.csv", f"name,md5,run\na.root,{MD5},3\n"),
        ("sums.csv", f"pfn,md5,run\n/elsewhere/a.root,{MD5},3\n"),
        ("sums.jsonl", f'{{"pfn": "a.root", "md5": "{MD5}"}}\n'),
    ],
)
def test_known_sums_may_stand_in_a_list(path: Path, name: str, text: str) -> None:
    """Of md5sum, or a table with more in it, or a manifest. A wrong sum is told from the right one, with its source."""
    known_path = path.with_name(name)
    known_path.write_text(text)

    with closing(KnownSums.open(known_path, columns={"lfn": "name"})) as known:
        found = known.find(file_of(path))
        path.write_bytes(b"changed bits")
        said = refused(Summing(Reader(), known), file_of(path))

    assert found is not None
    assert (found.md5, found.adler32) == (MD5, None)
    assert f"{known_path} says md5 {MD5}" in said
    assert hashlib.md5(b"changed bits").hexdigest() in said


def test_a_path_counts_over_a_name(path: Path) -> None:
    """Files of the same name in several folders are told apart."""
    known_path = path.with_name("MD5SUMS")
    known_path.write_text(f"{OTHER}  old/a.root\n{MD5}  a.root\n")

    with closing(KnownSums.open(known_path)) as known:
        found = known.find(file_of(path))
        assert found is not None
        assert found.md5 == MD5
        with pytest.raises(KnownSumsError, match="2 different sums"):
            known.find(file_of(path.with_name("third") / "a.root"))


def test_what_the_manifest_and_the_known_sums_say_must_agree(path: Path) -> None:
    """Otherwise nobody knows which is right, and the file is not read for it."""
    known_path = path.with_name("MD5SUMS")
    known_path.write_text(f"{MD5}  a.root\n")

    with closing(KnownSums.open(known_path)) as known:
        said = refused(Summing(Reader(), known), file_of(path, md5=OTHER))

    assert OTHER in said
    assert MD5 in said
    assert str(known_path) in said


def test_known_sums_that_cannot_be_read_are_refused_as_a_whole(path: Path) -> None:
    """Each bad line with its number; a file that is not there."""
    known_path = path.with_name("sums.csv")
    known_path.write_text(f"pfn,md5\na.root,{MD5}\nb.root,xyz\nc.root\n")

    with pytest.raises(KnownSumsError) as error:
        KnownSums.open(known_path)
    assert f"{known_path}:3: md5" in str(error.value)
    assert f"{known_path}:4: expected 2 columns" in str(error.value)
    with pytest.raises(KnownSumsError, match="No such file"):
        KnownSums.open(path.with_name("missing"))


def test_a_database_with_nonsense_in_it_refuses_the_file(path: Path) -> None:
    """And no other."""
    known_path = path.with_name("known.db")
    with closing(sqlite3.connect(known_path)) as db:
        db.execute("CREATE TABLE sums (lfn PRIMARY KEY, md5)")
        db.executemany("INSERT INTO sums VALUES (?, ?)", [("a.root", "none"), ("b.root", MD5)])
        db.commit()

    with closing(KnownSums.open(known_path)) as known:
        summing = Summing(Reader(), known)

        assert "md5: expected" in refused(summing, file_of(path))
        assert summing(file_of(path, did="s:b.root")).md5 == MD5
