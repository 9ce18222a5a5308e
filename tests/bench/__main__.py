"""Run benchmarks by name, or all of them, and print one table."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from orchestrator import logs
from tests.bench import (
    by_hand,
    following,
    growth,
    ingest,
    latency,
    launching,
    listing,
    matching,
    memory,
    preview,
    proving,
    reconciling,
    registering,
    summing,
    surveying,
)
from tests.bench.bench import Bench
from tests.bench.figures import Figure, Skipped, print_figures

BENCHMARKS: Mapping[str, Callable[[Bench], Iterator[Figure]]] = {
    "matching": matching.measure,
    "latency": latency.measure,
    "ingest": ingest.measure,
    "growth": growth.measure,
    "memory": memory.measure,
    "preview": preview.measure,
    "by_hand": by_hand.measure,
    "listing": listing.measure,
    "launching": launching.measure,
    "following": following.measure,
    "reconciling": reconciling.measure,
    "registering": registering.measure,
    "summing": summing.measure,
    "surveying": surveying.measure,
    "proving": proving.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", nargs="*", choices=[*BENCHMARKS, []], help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works")
    options = parser.parse_args()
    logs.configure(level="error")
    figures: list[Figure] = []
    with ExitStack() as closing:
        directory = closing.enter_context(tempfile.TemporaryDirectory(prefix="muleteer-bench-"))
        bench = Bench(Path(directory), quick=options.quick, closing=closing)
        for name in options.name or BENCHMARKS:
            figures += run(name, bench)
    print()
    print_figures(figures)


def run(name: str, bench: Bench) -> list[Figure]:
    print(f"{name} ...", end=" ", flush=True)
    begun = time.monotonic()
    try:
        found = list(BENCHMARKS[name](bench))
    except Skipped as reason:
        print(f"skipped: {reason}")
        return [Figure(name, "", f"skipped: {reason}")]
    print(f"{time.monotonic() - begun:.0f} s")
    return found


if __name__ == "__main__":
    main()
