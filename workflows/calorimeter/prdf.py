"""The raw format, and where the towers are.

A file holds the events that one event buffer box (seb) of the calorimeter saw, or, once they are combined, those of
the whole calorimeter:

    header   magic `PRDF`, box, boxes of the run, run, segment, events
    events   number, count of channels, one ADC value of 16 bits for each channel
    trailer  CRC-32 of all before

Everything is little-endian. Box b reads 128 towers, 16 in eta by 8 in phi; boxes lie side by side in phi.
"""

import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: The box number of a file that holds all boxes.
COMBINED = 0xFFFF
ROWS, COLUMNS = 16, 8
CHANNELS = ROWS * COLUMNS
#: Size of a tower in eta, and in phi in radians.
CELL = 0.025

_HEADER = struct.Struct("<4sHHIII")
_EVENT = struct.Struct("<IH")
_TRAILER = struct.Struct("<I")
_MAGIC = b"PRDF"


@dataclass(frozen=True)
class RawFile:
    box: int
    #: How many boxes took part in the run.
    boxes: int
    run: int
    segment: int
    #: ADC values by event number.
    events: Mapping[int, Sequence[int]]


def write(path: Path, raw: RawFile) -> None:
    """Write a file under another name and rename it, so that nobody ever reads half of it."""
    parts = [_HEADER.pack(_MAGIC, raw.box, raw.boxes, raw.run, raw.segment, len(raw.events))]
    for number, values in sorted(raw.events.items()):
        parts.append(_EVENT.pack(number, len(values)))
        parts.append(struct.pack(f"<{len(values)}H", *values))
    body = b"".join(parts)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(body + _TRAILER.pack(zlib.crc32(body)))
    partial.rename(path)


def read(path: Path) -> RawFile:
    """Read a file. Exits with a sentence if it is damaged."""
    data = path.read_bytes()
    if len(data) < _HEADER.size + _TRAILER.size or data[:4] != _MAGIC:
        sys.exit(f"{path.name} is no raw file: {len(data)} bytes, beginning with {data[:4]!r}")
    body, (checksum,) = data[: -_TRAILER.size], _TRAILER.unpack(data[-_TRAILER.size :])
    if zlib.crc32(body) != checksum:
        sys.exit(f"{path.name} is damaged or cut short: its CRC-32 does not fit its {len(data)} bytes")
    _, box, boxes, run, segment, count = _HEADER.unpack_from(body)
    events: dict[int, Sequence[int]] = {}
    position = _HEADER.size
    for _ in range(count):
        number, channels = _EVENT.unpack_from(body, position)
        if number in events:
            sys.exit(f"{path.name} holds event {number} twice")
        events[number] = struct.unpack_from(f"<{channels}H", body, position + _EVENT.size)
        position += _EVENT.size + 2 * channels
    return RawFile(box, boxes, run, segment, events)


def place(tower: int) -> tuple[int, int]:
    """Row in eta and column in phi of a tower, counted through all boxes."""
    box, channel = divmod(tower, CHANNELS)
    return channel // COLUMNS, box * COLUMNS + channel % COLUMNS


def tower_at(row: int, column: int) -> int:
    """The inverse of `place`."""
    return column // COLUMNS * CHANNELS + row * COLUMNS + column % COLUMNS


def eta_of(row: float) -> float:
    return (row - (ROWS - 1) / 2) * CELL


def phi_of(column: float) -> float:
    return (column + 0.5) * CELL
