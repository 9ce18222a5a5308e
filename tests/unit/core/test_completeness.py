"""Whether datasets are complete: what was asked, against what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.core.completeness import (
    CheckedDataset,
    CheckedFile,
    filled,
    mistakes_in,
    of_dataset,
    of_files,
    of_members,
    of_runs,
)
from schemas.checks import Checks, DatasetChecks, Requirement
from schemas.did import Did

DATASET = Did("group.sphenix", "RUN-00021615")


def checks(**said: Any) -> DatasetChecks:
    return DatasetChecks.model_validate(said)


def file(name: str, size: int = 10, *, lacks: Sequence[str] = (), copies: int | None = None) -> CheckedFile:
    return CheckedFile(Did("group.sphenix", name), size, lacks, copies)


def about(found: Any) -> list[tuple[str, str | None, str]]:
    """Check, file and words of each finding."""
    return [(each.check, each.file and each.file.partition(":")[2], each.text) for each in found]


@pytest.mark.parametrize(
    ("said", "closed", "length", "found"),
    [
        ({}, False, 0, []),
        ({"closed": True}, True, 0, []),
        ({"closed": True}, False, 9, [("closed", None, "it is open")]),
        ({"filled": True}, False, 1, []),
        ({"filled": True}, True, 0, [("filled", None, "there is no file in it")]),
        ({"files": 3}, True, 3, []),
        ({"files": 1200}, True, 3, [("files", None, "it has 3 files, not 1,200")]),
        ({"files": 0}, True, 3, [("files", None, "it has 3 files, not 0")]),
    ],
)
def test_a_dataset_as_a_whole(said: dict[str, Any], closed: bool, length: int, found: list[Any]) -> None:
    assert about(of_dataset(checks(**said), CheckedDataset(DATASET, closed, length))) == found


def test_each_file_is_named_with_what_is_wrong_with_it() -> None:
    wanted = checks(names=r"raw-\d+\.evt", min_bytes=5, replicas="TAPE|DISK", checksums=["md5", "guid"])
    files = [
        file("raw-1.evt", copies=2),
        file("raw-2.evt.partial", copies=1),
        file("raw-3.evt", 4, copies=1),
        file("raw-4.evt", copies=0),
        file("raw-5.evt", copies=1, lacks=["adler32", "guid"]),
    ]

    assert about(of_files(wanted, DATASET, files)) == [
        ("names", "raw-2.evt.partial", r"its name does not match raw-\d+\.evt"),
        ("min_bytes", "raw-3.evt", "it has 4 bytes, fewer than 5"),
        ("replicas", "raw-4.evt", "there is no copy at TAPE|DISK that can be read"),
        ("checksums", "raw-5.evt", "the catalog has no guid of it"),
    ]


NUMBERED = {"numbered": r"seg-(?P<n>\d+)\.root"}


@pytest.mark.parametrize(
    ("numbering", "names", "found"),
    [
        (NUMBERED, ["seg-0.root", "seg-1.root", "seg-2.root"], []),
        (NUMBERED, ["seg-0002.root", "seg-0000.root", "seg-0001.root"], []),
        (NUMBERED, [], []),
        (NUMBERED, ["seg-1.root"], [("numbered", None, "number 0 is missing")]),
        (
            NUMBERED,
            ["seg-0.root", "seg-3.root"],
            [
                ("numbered", None, "number 1 is missing"),
                ("numbered", None, "number 2 is missing"),
            ],
        ),
        (
            NUMBERED,
            ["seg-0.root", "log.txt"],
            [("numbered", "log.txt", r"its name does not match seg-(?P<n>\d+)\.root")],
        ),
        (
            NUMBERED,
            ["seg-0.root", "seg-00.root"],
            [("numbered", "seg-00.root", "it has number 0, and so has group.sphenix:seg-0.root")],
        ),
        ({"numbered": {"pattern": NUMBERED["numbered"], "first": 1, "last": 2}}, ["seg-1.root", "seg-2.root"], []),
        (
            {"numbered": {"pattern": NUMBERED["numbered"], "last": 1}},
            ["seg-0.root", "seg-1.root", "seg-2.root"],
            [("numbered", "seg-2.root", "its number 2 is not from 0 to 1")],
        ),
        (
            {"numbered": {"pattern": NUMBERED["numbered"], "last": 1}},
            [],
            [("numbered", None, "number 0 is missing"), ("numbered", None, "number 1 is missing")],
        ),
        (
            {"numbered": r"(?P<stream>\w+)-(?P<n>\d+)"},
            ["a-0", "a-1", "b-1"],
            [("numbered", None, "number 0 is missing, stream b")],
        ),
        (
            {"numbered": r"x-(?P<n>.+)"},
            ["x-0", "x-one"],
            [("numbered", "x-one", "'one' in its name is no number")],
        ),
    ],
)
def test_numbers_without_a_gap(numbering: dict[str, Any], names: Sequence[str], found: list[Any]) -> None:
    """0 to N-1 unless it is said otherwise, each once; each stream that the name tells apart for itself."""
    assert about(of_files(checks(**numbering), DATASET, [file(name) for name in names])) == found


def test_a_gap_of_a_million_is_not_listed_number_by_number() -> None:
    """One file whose number is a date must not fill the screen, nor the memory."""
    found = about(of_files(checks(**NUMBERED), DATASET, [file("seg-20261122.root")]))

    assert len(found) == 1001
    assert found[-1][2] == "20,260,122 more numbers from 1000 to 20261122 are missing"


@given(st.sets(st.integers(0, 60)), st.integers(0, 30), st.integers(30, 60))
def test_what_is_missing_is_what_is_not_there(there: set[int], first: int, last: int) -> None:
    """By any set of files: the numbers that are found missing and those that are there make up the whole."""
    wanted = checks(numbered={"pattern": NUMBERED["numbered"], "first": first, "last": last})

    found = about(of_files(wanted, DATASET, [file(f"seg-{number}.root") for number in there]))

    missing = {int(text.split()[1]) for _, _, text in found if text.endswith("is missing")}
    strange = {name for _, name, text in found if "is not from" in text}
    assert missing == set(range(first, last + 1)) - there
    assert len(strange) == len(there - set(range(first, last + 1)))


def test_expected_members_are_globs_of_names_or_dids() -> None:
    members = [Did("s", "SEED-1"), Did("s", "CALO-1")]
    wanted = Checks(members=("SEED-*", "s:CALO-1", "TRKR-*"))

    found = about(of_members(wanted, Did("s", "ALL"), members))

    assert found == [("members", None, "no dataset of it fits TRKR-*")]


def test_two_collections_hold_the_same_runs() -> None:
    ours = [Did("s", "CALO-00021615"), Did("s", "CALO-00021616"), Did("s", "NOTES")]
    theirs = [Did("s", "RAW-00021615"), Did("s", "RAW-00021617")]
    wanted = Checks(same_runs_as="s:RAW")

    assert about(of_runs(wanted, Did("s", "CALO"), ours, theirs)) == [
        ("same_runs_as", None, "run 21617 is in s:RAW and not here"),
        ("same_runs_as", None, "run 21616 is here and not in s:RAW"),
    ]


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"names": "("}, ("names",)),
        ({"numbered": r"\d+"}, ("numbered", "pattern")),
        ({"run": r"\d+"}, ("run",)),
    ],
)
def test_a_pattern_that_cannot_work_is_said_before_anything_is_looked_at(
    said: dict[str, Any], place: tuple[str, ...]
) -> None:
    assert [each for each, _ in mistakes_in(Checks(**said))] == [place]
    assert not list(mistakes_in(Checks(**NUMBERED, names=".*")))


def test_templates_of_a_requirement_are_filled_in_and_its_patterns_are_not() -> None:
    """The braces of a pattern count something."""
    required = Requirement(dataset="s:CALO-{run:08d}", members=("SEED-{run}",), names=r"x-\d{8}", closed=True)

    assert filled(required, {"run": "21615"}) == Requirement(
        dataset="s:CALO-00021615", members=("SEED-21615",), names=r"x-\d{8}", closed=True
    )


@pytest.mark.parametrize("said", [{}, {"closed": False}, {"every": "1m"}, {"dataset": "s:x", "within": "1d"}])
def test_a_requirement_that_asks_for_nothing_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="nothing is required"):
        Requirement.model_validate(said)
