"""Bytes into frames, in whatever pieces they come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.broker.frames import FrameReader, RawFrame

STREAM = (
    b"\nMESSAGE\nmessage-id:1\nname:a\\cb\\nc\\\\d\ncontent-length:5\n\n1\x0023\n\x00\n\n"
    b"RECEIPT\r\nreceipt-id:7\r\n\r\n\x00"
    b"MESSAGE\nmessage-id:2\nmessage-id:3\n\nno length\x00"
    b"MESSAGE\nbroken:\xff\n\n\x00"
)
FRAMES = [
    RawFrame("MESSAGE", {"message-id": "1", "name": "a:b\nc\\d", "content-length": "5"}, b"1\x0023\n"),
    RawFrame("RECEIPT", {"receipt-id": "7"}, b""),
    RawFrame("MESSAGE", {"message-id": "2"}, b"no length"),
    RawFrame("MESSAGE", {"broken": "\udcff"}, b""),
]


def test_frames_that_come_together_are_told_apart() -> None:
    """Lengths, escapes, both line ends, heart-beats between frames, repeated and undecodable headers."""
    assert list(FrameReader().feed(STREAM)) == FRAMES


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_where_the_network_cuts(cuts: list[int]) -> None:
    """The same bytes give the same frames, however they are cut into pieces."""
    reader = FrameReader()
    edges = [0, *sorted(cuts), len(STREAM)]

    frames = [frame for at, end in pairwise(edges) for frame in reader.feed(STREAM[at:end])]

    assert frames == FRAMES


@pytest.mark.parametrize("rest", [b"", b"MESS", b"MESSAGE\nname:a\n", b"MESSAGE\ncontent-length:9\n\n1234"])
def test_what_is_not_complete_waits(rest: bytes) -> None:
    """Half a frame is no frame."""
    assert list(FrameReader().feed(STREAM + rest)) == FRAMES
