"""The calibrations: pedestal and gain of each tower, one table for each tag."""

import csv
import sys
from pathlib import Path
from typing import NamedTuple

_TABLES = Path(__file__).parent / "calibrations"


class Constants(NamedTuple):
    #: ADC value without any energy.
    pedestal: float
    #: GeV for each ADC count above it.
    gain: float


def load(tag: str) -> list[Constants]:
    """The constants of all towers, in order. Exits with a sentence if there is no such tag."""
    table = _TABLES / f"{tag}.csv"
    if not table.exists():
        known = ", ".join(sorted(path.stem for path in _TABLES.glob("*.csv")))
        sys.exit(f"there are no calibrations tagged {tag}; there are: {known}")
    with table.open(newline="") as file:
        return [Constants(float(row["pedestal"]), float(row["gain"])) for row in csv.DictReader(file)]
