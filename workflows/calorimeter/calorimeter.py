#!/usr/bin/env python3
"""Calibrate the towers, find the clusters, and look for neutral pions.

Reads `beam_calor-<run>-*.prdf`; writes for each a DST, and one histogram file for all. The DSTs are lines of JSON:
the first says what the file is, each further one is an event.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import calibration
import prdf

TOWER_THRESHOLD = 0.015  # GeV, about six times the noise
CLUSTER_THRESHOLD = 0.2  # GeV


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=int, required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--dbtag", required=True)
    arguments = parser.parse_args()
    constants = calibration.load(arguments.dbtag)
    files = sorted(Path.cwd().glob(f"beam_calor-{arguments.run:08d}-*.prdf"))
    if not files:
        sys.exit(f"there are no combined files beam_calor-{arguments.run:08d}-*.prdf here")
    tag = f"CALO_{arguments.build}_{arguments.dbtag}-{arguments.run:08d}"
    events: list[dict[str, Any]] = []
    for file in files:
        raw = prdf.read(file)
        found = [reconstruct(number, values, constants) for number, values in sorted(raw.events.items())]
        header = {"run": raw.run, "segment": raw.segment, "build": arguments.build, "dbtag": arguments.dbtag}
        write_lines(Path(f"DST_{tag}-{raw.segment:04d}.root"), [{**header, "events": len(found)}, *found])
        events += found
    histograms = summarise(events)
    write_lines(Path(f"HIST_{tag}.json"), [{"run": arguments.run, **histograms}])
    print(f"{len(events)} events, mean mass of the photon pairs {histograms['mean_mass']} GeV")


def reconstruct(number: int, values: Sequence[int], constants: Sequence[calibration.Constants]) -> dict[str, Any]:
    """One event of the DST. Energies in GeV."""
    if len(values) > len(constants):
        sys.exit(f"event {number} has {len(values)} towers, the calibrations only {len(constants)}")
    energies = {
        prdf.place(tower): (value - pedestal) * gain
        for tower, (value, (pedestal, gain)) in enumerate(zip(values, constants, strict=False))
    }
    hits = {place: energy for place, energy in energies.items() if energy > TOWER_THRESHOLD}
    found = [describe({place: hits[place] for place in cluster}) for cluster in neighbours(hits)]
    found = sorted((cluster for cluster in found if cluster["energy"] > CLUSTER_THRESHOLD), key=lambda c: -c["energy"])
    mass = round(pair_mass(found[0], found[1]), 5) if len(found) > 1 else None
    return {"event": number, "energy": round(sum(hits.values()), 5), "clusters": found, "mass": mass}


def neighbours(hits: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Towers that touch, also at a corner, are one cluster."""
    left = set(hits)
    clusters = []
    while left:
        cluster = [left.pop()]
        for row, column in cluster:  # it grows while we walk along it
            touching = {(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)} & left
            left -= touching
            cluster += sorted(touching)
        clusters.append(sorted(cluster))
    return sorted(clusters)


def describe(towers: Mapping[tuple[int, int], float]) -> dict[str, Any]:
    """Energy and centre of a cluster."""
    energy = sum(towers.values())
    row = sum(row * share for (row, _), share in towers.items()) / energy
    column = sum(column * share for (_, column), share in towers.items()) / energy
    return {
        "energy": round(energy, 5),
        "eta": round(prdf.eta_of(row), 5),
        "phi": round(prdf.phi_of(column), 5),
        "towers": len(towers),
    }


def pair_mass(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    across = first["energy"] / math.cosh(first["eta"]) * second["energy"] / math.cosh(second["eta"])
    spread = math.cosh(first["eta"] - second["eta"]) - math.cos(first["phi"] - second["phi"])
    return math.sqrt(max(0.0, 2 * across * spread))


def summarise(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    masses = [event["mass"] for event in events if event["mass"] is not None]
    return {
        "events": len(events),
        "pairs": len(masses),
        "mean_mass": round(sum(masses) / len(masses), 5) if masses else None,
        "mass": histogram(masses, 0.0, 0.3, 60),
        "energy": histogram([event["energy"] for event in events], 0.0, 5.0, 50),
    }


def histogram(values: Iterable[float], low: float, high: float, bins: int) -> dict[str, Any]:
    """Counts in bins of equal width; what lies outside is counted in the two extra ones."""
    counts, outside = [0] * bins, [0, 0]
    for value in values:
        position = math.floor((value - low) / (high - low) * bins)
        if 0 <= position < bins:
            counts[position] += 1
        else:
            outside[position >= bins] += 1
    return {"low": low, "high": high, "counts": counts, "below": outside[0], "above": outside[1]}


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a file under another name and rename it, so that nobody ever reads half of it."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    partial.rename(path)
    print(path)


if __name__ == "__main__":
    main()
