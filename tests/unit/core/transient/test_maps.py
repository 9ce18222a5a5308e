"""Which files have gone into none of the successor's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.transient.maps import mistakes_in, unmapped
from schemas.transient import Mapping

SEGMENTS = Mapping(
    files=r"DST_HITS-(?P<run>\d{8})-(?P<seg>\d{4})-(?P<part>\d).root", onto=r"SEED_(?P<seg>\d{4})_(?P<run>\d{8})"
)
MAPS = Mapping(files=r"H-(?P<run>\d+)-(?P<seg>\d+)-\d", onto=r"S-(?P<seg>\d+)-(?P<run>\d+)")


def test_files_go_together_by_what_their_names_share() -> None:
    """Several files may have gone into one; the groups may stand in another order."""
    assert unmapped(MAPS, ["H-1-5-0", "H-1-5-1", "H-1-6-0"], ["S-5-1", "S-6-1", "S-7-1"]) == (0, [])


@pytest.mark.parametrize(
    ("file", "onto"),
    [
        ("H-1-5-0", "S-6-1"),
        ("H-1-5-0", "S-5-2"),
        ("H-1-05-0", "S-5-1"),
        ("H-1-5-0", "S-5-1-x"),
        ("other", "S-5-1"),
        ("H-1-5-0.bak", "S-5-1"),
    ],
)
def test_a_file_without_a_counterpart_is_told(file: str, onto: str) -> None:
    """Equal in all groups, letter by letter; a name that does not match has none."""
    assert unmapped(MAPS, [file], [onto]) == (1, [file])


def test_what_captured_nothing_goes_together_with_nothing() -> None:
    """A pattern whose groups may be empty would else take any file for the counterpart of any other."""
    loose = Mapping(files=r"H(?P<seg>\d*)", onto=r"S(?P<seg>\d*)")

    assert unmapped(loose, ["H", "H5"], ["S", "S5"]) == (1, ["H"])


@given(st.lists(st.integers(0, 30), unique=True), st.lists(st.integers(0, 30)))
def test_all_are_counted_and_the_first_three_named(segments: list[int], there: list[int]) -> None:
    """Whatever is missing, in whatever order."""
    lacking = [f"H-1-{segment}-0" for segment in segments if segment not in there]

    found = unmapped(MAPS, (f"H-1-{segment}-0" for segment in segments), (f"S-{segment}-1" for segment in there))

    assert found == (len(lacking), lacking[:3])


@pytest.mark.parametrize(
    ("files", "onto", "places"),
    [
        (r"(?P<a>\d)", r"x(?P<a>\d)", []),
        (r"\d", r"\d", ["files"]),
        (r"(?P<a>\d)", r"\d", ["onto"]),
        (r"(?P<a>\d)", r"(?P<b>\d)", ["files", "onto"]),
        ("(", r"(?P<b>\d)", ["files"]),
        ("(", "[", ["files", "onto"]),
    ],
)
def test_two_patterns_must_have_the_same_groups(files: str, onto: str, places: list[str]) -> None:
    """And one at least; else every file would have a counterpart."""
    assert [place for (place,), _ in mistakes_in(Mapping(files=files, onto=onto))] == places


def test_patterns_as_they_are_written_in_production() -> None:
    """Parts of a segment go into one file."""
    files = [f"DST_HITS-00012345-{segment:04d}-{part}.root" for segment in range(5) for part in range(3)]

    assert unmapped(Mapping(files=SEGMENTS.files, onto=SEGMENTS.onto), files, []) == (15, files[:3])
    assert [place for place, _ in mistakes_in(SEGMENTS)] == [("onto",)]
