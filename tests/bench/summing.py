"""Size, Adler-32 and MD5 of files, beside bare reading of the same files and the bare MD5 of as many bytes.

All of them on every core, from the cache of the disk: on slower disks reading is what is waited for. Then what it costs
to plan the registration of files from a manifest: time, and the memory that is taken for it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from statistics import median
from uuid import uuid4

from orchestrator.core.registering import Policy, plan
from orchestrator.register.reading import BLOCK, Reader
from orchestrator.register.sources import Sources
from orchestrator.register.summing import Summing, cores
from schemas.registration import FileState, RegisteredFile, Sums
from tests.bench.bench import Bench, apart
from tests.bench.figures import Figure
from tests.bench.memory import peak_of

ROUNDS = 7


def measure(bench: Bench) -> Iterator[Figure]:
    yield from _large(bench)
    yield from _small(bench)
    yield from _planning(bench)


def _large(bench: Bench) -> Iterator[Figure]:
    each, count = (8 << 20, 8) if bench.quick else (64 << 20, 4 * cores())
    files = _files(bench.new_directory(), each, count)
    works: list[Callable[[Sequence[str]], object]] = [_on_every_core(_read), _on_every_core(_hash), _sum]
    taken = [[_megabytes_a_second(work, files, each) for work in works] for _ in range(ROUNDS)]
    read, hashed, ours = (median(rates) for rates in zip(*taken, strict=True))
    ratio = median(both / min(bare) for *bare, both in taken)
    what = f"{count} files of {each >> 20} MB, {cores()} cores"
    yield Figure("summing", f"{what}: bare reading", f"{read:,.0f} MB/s")
    yield Figure("summing", f"{what}: bare MD5 of as many bytes", f"{hashed:,.0f} MB/s")
    yield Figure(
        "summing", f"{what}: size, Adler-32 and MD5", f"{ours:,.0f} MB/s", "> 0.8 of the slower", f"{ratio:.2f}"
    )


def _small(bench: Bench) -> Iterator[Figure]:
    count = 200 if bench.quick else 5_000
    files = _files(bench.new_directory(), 1000, count)
    begun = time.perf_counter()
    _sum(files)
    taken = time.perf_counter() - begun
    yield Figure("summing", f"{count:,} files of 1 kB", f"{count / taken:,.0f} files/s")


def _planning(bench: Bench) -> Iterator[Figure]:
    directory = bench.new_directory()
    counts = (100, 1_000) if bench.quick else (1_000, 50_000)
    for suffix in ("csv", "json"):
        few, many = (_manifest(directory / f"{count}.{suffix}", count) for count in counts)
        (_, before), (taken, peak) = apart(plan_all, few), apart(plan_all, many)
        what = f"{counts[1]:,} files planned from {suffix}, {taken:.1f} s: memory beyond that for {counts[0]:,}"
        yield Figure("summing", what, f"{(peak - before) / 1024:.0f} MB", "< 50 MB")


def plan_all(manifest: Path) -> tuple[float, int]:
    """Seconds, and the peak of the process in kB."""
    begun = time.perf_counter()
    tellings = Sources(manifest.parent).from_manifest(manifest.name)
    for file in plan(tellings, "group.sphenix", Policy(), lambda: str(uuid4())):
        assert isinstance(file, RegisteredFile)
    return time.perf_counter() - begun, peak_of(os.getpid())


def _files(directory: Path, size: int, count: int) -> Sequence[str]:
    content = os.urandom(size)
    for number in range(count):
        (directory / f"{number}.root").write_bytes(content)
    return [str(directory / f"{number}.root") for number in range(count)]


def _manifest(path: Path, count: int) -> Path:
    names = (f"DST_CALOFITTING_run2pp_ana446_2024p007-{number:08d}-00000.root" for number in range(count))
    if path.suffix == ".csv":
        rows = (f"/sphenix/lustre01/sphnxpro/dst/{name},{number:032x}\n" for number, name in enumerate(names))
        path.write_text("pfn,md5\n" + "".join(rows))
    else:
        items = (f'{{"pfn": "/sphenix/lustre01/sphnxpro/dst/{name}", "md5": "{0:032x}"}}' for name in names)
        path.write_text("[" + ",\n".join(items) + "]\n")
    return path


def _planned(path: str) -> RegisteredFile:
    return RegisteredFile(did=f"s:{Path(path).name}", path=path, pfn=path, state=FileState.PLANNED)


def _megabytes_a_second(work: Callable[[Sequence[str]], object], files: Sequence[str], each: int) -> float:
    begun = time.perf_counter()
    work(files)
    return len(files) * each / (time.perf_counter() - begun) / 1e6


def _on_every_core(work: Callable[[str], object]) -> Callable[[Sequence[str]], object]:
    def all_of_them(files: Sequence[str]) -> None:
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(work, files))

    return all_of_them


def _read(path: str) -> None:
    block = bytearray(BLOCK)
    with FileIO(path) as file:
        while file.readinto(block):
            pass


def _hash(path: str) -> None:
    md5, block = hashlib.md5(usedforsecurity=False), bytearray(BLOCK)
    for _ in range(Path(path).stat().st_size // BLOCK):
        md5.update(block)


def _sum(files: Sequence[str]) -> None:
    for file, sums in Summing(Reader()).all(_planned(path) for path in files):
        assert isinstance(sums, Sums), f"{file}: {sums}"
