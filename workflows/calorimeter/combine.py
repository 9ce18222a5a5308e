#!/usr/bin/env python3
"""Event building: put together what the boxes of a run saw of the same event.

Reads `calor_seb*.prdf` and writes `beam_calor-<run>-<segment>.prdf`. Refuses a run with a gap: a box or an event
that is missing, a file of another run, a damaged file.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import prdf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=int, required=True)
    parser.add_argument("--per-file", type=int, default=25, help="events in each file (default: %(default)s)")
    arguments = parser.parse_args()
    files = [prdf.read(path) for path in sorted(Path.cwd().glob("calor_seb*.prdf"))]
    boxes = in_order(files, arguments.run)
    numbers = common_events(boxes)
    for segment, start in enumerate(range(0, len(numbers), arguments.per_file)):
        events = {number: build(boxes, number) for number in numbers[start : start + arguments.per_file]}
        path = Path(f"beam_calor-{arguments.run:08d}-{segment:04d}.prdf")
        prdf.write(path, prdf.RawFile(prdf.COMBINED, len(boxes), arguments.run, segment, events))
        print(f"{path}: {len(events)} events of {len(boxes)} boxes")


def in_order(files: Sequence[prdf.RawFile], run: int) -> list[prdf.RawFile]:
    """One file for each box, by box number."""
    if not files:
        sys.exit("there are no raw files calor_seb*.prdf here")
    if strangers := {file.run for file in files} - {run}:
        sys.exit(f"these files are of run {', '.join(map(str, strangers))}, not of run {run}")
    found = sorted(file.box for file in files)
    expected = list(range(max(file.boxes for file in files)))
    if found != expected:
        missing = ", ".join(f"seb{box:02d}" for box in expected if box not in found)
        sys.exit(f"run {run} has {len(expected)} boxes but {len(found)} files; missing: {missing or 'none'}")
    return sorted(files, key=lambda file: file.box)


def common_events(boxes: Sequence[prdf.RawFile]) -> list[int]:
    """The numbers of the events, without a gap, the same in every box."""
    numbers = sorted(set().union(*(box.events for box in boxes)))
    if not numbers:
        sys.exit("the run has no events")
    for box in boxes:
        if missing := [number for number in range(1, numbers[-1] + 1) if number not in box.events]:
            sys.exit(f"event {missing[0]} is missing in seb{box.box:02d} ({len(missing)} missing in all): not combined")
    return numbers


def build(boxes: Sequence[prdf.RawFile], number: int) -> list[int]:
    return [value for box in boxes for value in box.events[number]]


if __name__ == "__main__":
    main()
