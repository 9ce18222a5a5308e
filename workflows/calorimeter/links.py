#!/usr/bin/env python3
"""Make soft links with the official names, so that `ls` finds a run's files, and a manifest of them.

Reads `DST_CALO_*.root`, whatever a grid has added to the names, and writes `<lookup>/run_<from>_<to>/DST_CALO_*.root`
in the layout of the official area (a hundred runs to a directory), and `manifest.txt`.
"""

import argparse
import json
import sys
import zlib
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=int, required=True)
    parser.add_argument("--lookup", type=Path, default=Path(), help="directory with the links of all runs")
    arguments = parser.parse_args()
    files = sorted(Path.cwd().glob(f"DST_CALO_*-{arguments.run:08d}-*.root*"))
    if not files:
        sys.exit(f"there are no files DST_CALO_*-{arguments.run:08d}-*.root here")
    first = arguments.run // 100 * 100
    area = arguments.lookup / f"run_{first:08d}_{first + 100:08d}"
    area.mkdir(parents=True, exist_ok=True)
    lines = ["# name bytes adler32 events path"]
    for file in files:
        official = file.name[: file.name.index(".root")] + ".root"
        target = file.resolve()
        link(area / official, target)
        data = target.read_bytes()
        events = json.loads(data.split(b"\n", 1)[0])["events"]
        lines.append(f"{official} {len(data)} {zlib.adler32(data):08x} {events} {target}")
        print(f"{area / official} -> {target}")
    Path("manifest.txt").write_text("\n".join(lines) + "\n")


def link(name: Path, target: Path) -> None:
    """Make the link, in place of an older one of that name."""
    fresh = name.with_name(f".{name.name}.fresh")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(name)


if __name__ == "__main__":
    main()
