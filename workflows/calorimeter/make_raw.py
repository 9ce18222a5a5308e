#!/usr/bin/env python3
"""Make the raw files of a run: in every event one neutral pion decays into two photons.

The same arguments give the same bytes, on any machine.
"""

import argparse
import math
import random
from pathlib import Path

import calibration
import prdf

PION_MASS = 0.1349768  # GeV
PION_ENERGY = (1.5, 3.2)  # GeV; above it the two photons come too close for the towers
PHOTON_ENERGY = 0.4  # GeV; softer ones are not generated
NOISE = 2.0  # ADC counts
LARGEST = (1 << 14) - 1  # ADC counts


def main() -> None:
    arguments = parse()
    constants = calibration.load(arguments.dbtag)
    if not 1 <= arguments.files * prdf.CHANNELS <= len(constants):
        raise SystemExit(f"--files must be 1 to {len(constants) // prdf.CHANNELS}: there is one for each box")
    chance = random.Random(f"{arguments.seed} {arguments.run}")
    columns = arguments.files * prdf.COLUMNS
    events = {
        number: digitise(deposits(decay(chance, columns)), constants[: columns * prdf.ROWS], chance)
        for number in range(1, arguments.events + 1)
    }
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for box in range(arguments.files):
        towers = slice(box * prdf.CHANNELS, (box + 1) * prdf.CHANNELS)
        fragments = {number: values[towers] for number, values in events.items()}
        if box == arguments.files - 1:
            fragments.pop(arguments.lose, None)
        path = arguments.directory / f"calor_seb{box:02d}-{arguments.run:08d}-0000.prdf"
        prdf.write(path, prdf.RawFile(box, arguments.files, arguments.run, 0, fragments))
        print(path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=int, required=True, help="run number")
    parser.add_argument("--directory", type=Path, required=True, help="where the files are written")
    parser.add_argument("--files", type=int, default=6, help="one for each event buffer box (default: %(default)s)")
    parser.add_argument("--events", type=int, default=50, help="events in the run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="chance (default: %(default)s)")
    parser.add_argument("--dbtag", default="2023p001", help="calibrations of the detector (default: %(default)s)")
    parser.add_argument("--lose", type=int, help="leave this event out of the last box, to see event building refuse")
    return parser.parse_args()


def decay(chance: random.Random, columns: int) -> list[tuple[float, float, float]]:
    """Energy, row and column of two photons that both hit the towers and can be told apart."""
    middle = prdf.phi_of((columns - 1) / 2)
    while True:
        photons = [
            (energy, eta / prdf.CELL + (prdf.ROWS - 1) / 2, (phi + middle) / prdf.CELL - 0.5)
            for energy, eta, phi in two_photons(chance, middle)
        ]
        (first, row1, column1), (second, row2, column2) = photons
        inside = all(1 <= row < prdf.ROWS - 2 and 1 <= column < columns - 2 for _, row, column in photons)
        apart = max(abs(int(row1) - int(row2)), abs(int(column1) - int(column2))) >= 3
        if inside and apart and min(first, second) > PHOTON_ENERGY:
            return photons


def two_photons(chance: random.Random, spread: float) -> list[tuple[float, float, float]]:
    """Energy, eta and phi of the photons of one pion that flies near the x axis."""
    eta, phi, energy = chance.uniform(-0.1, 0.1), chance.uniform(-spread, spread), chance.uniform(*PION_ENERGY)
    momentum = math.sqrt(energy**2 - PION_MASS**2)
    along = [math.cos(phi) / math.cosh(eta), math.sin(phi) / math.cosh(eta), math.tanh(eta)]
    cosine, angle = chance.uniform(-1, 1), chance.uniform(0, 2 * math.pi)
    sine = math.sqrt(1 - cosine**2)
    at_rest = [PION_MASS / 2 * part for part in (sine * math.cos(angle), sine * math.sin(angle), cosine)]
    parallel = sum(part * axis for part, axis in zip(at_rest, along, strict=True))
    gamma = energy / PION_MASS
    gain = (gamma - 1) * parallel + momentum / 2
    first = [part + gain * axis for part, axis in zip(at_rest, along, strict=True)]
    second = [momentum * axis - part for part, axis in zip(first, along, strict=True)]
    return [(math.hypot(x, y, z), math.asinh(z / math.hypot(x, y)), math.atan2(y, x)) for x, y, z in (first, second)]


def deposits(photons: list[tuple[float, float, float]]) -> dict[int, float]:
    """Energy by tower: a photon shares its own among the four towers nearest to it."""
    energies: dict[int, float] = {}
    for energy, row, column in photons:
        down, left = math.floor(row), math.floor(column)
        for r, part_r in ((down, 1 - row + down), (down + 1, row - down)):
            for c, part_c in ((left, 1 - column + left), (left + 1, column - left)):
                tower = prdf.tower_at(r, c)
                energies[tower] = energies.get(tower, 0.0) + energy * part_r * part_c
    return energies


def digitise(energies: dict[int, float], constants: list[calibration.Constants], chance: random.Random) -> list[int]:
    return [
        min(max(round(pedestal + energies.get(tower, 0.0) / gain + chance.gauss(0, NOISE)), 0), LARGEST)
        for tower, (pedestal, gain) in enumerate(constants)
    ]


if __name__ == "__main__":
    main()
