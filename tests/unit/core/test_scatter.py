"""Scattered steps become steps of a launch, and what reads them reads all of them."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.scatter import MOST_PARTS, ScatterError, parts, variable_of
from schemas.workflow import Step, StepInput


def step(name: str, *inputs: Any, values: Any = None, **more: Any) -> Step:
    scatter = {} if values is None else {"scatter": {"variable": "segment", "values": values}}
    return Step.model_validate({"name": name, "command": ["x"], "inputs": inputs, **scatter, **more})


def test_a_step_is_made_once_for_each_value() -> None:
    """Parts are numbered from 1 in the order of the values, and each knows its value."""
    made = parts([step("reco", "raw", values=["{tag}-a", "b"])], {"tag": "t"})

    assert [(part.name, part.variables) for part in made] == [
        ("reco_1", {"segment": "t-a"}),
        ("reco_2", {"segment": "b"}),
    ]
    assert made[0].inputs == (StepInput(source="raw"),)


def test_values_may_be_a_template_with_commas() -> None:
    """Blanks around commas mean nothing."""
    made = parts([step("reco", values="{segments}")], {"segments": "0, 1 ,2"})

    assert [part.variables["segment"] for part in made] == ["0", "1", "2"]


def test_who_reads_a_scattered_step_reads_all_its_parts() -> None:
    """In the place of the step stand its parts, with the same options; a step that is not scattered stays."""
    wanted = {"from": "reco", "match": "DST"}

    *_, merge = parts([step("calib"), step("reco", values=["a", "b"]), step("merge", "calib", wanted)], {})

    assert [(each.source, each.match) for each in merge.inputs] == [
        ("calib", None),
        ("reco_1", "DST"),
        ("reco_2", "DST"),
    ]


def test_parts_that_are_read_first_keep_pace_with_each_other() -> None:
    """A job of the reader gets as many files of each further part as of the first, by which it is split."""
    many = {"panda": {"nFilesPerJob": 5}}

    *_, merge = parts([step("reco", values=["a", "b", "c"]), step("merge", "reco", **many)], {})

    assert [each.files_per_job for each in merge.inputs] == [None, 5, 5]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("{segments}", "is scattered over no value"),
        (["a", "b", "a"], "is scattered over 'a' twice"),
        (["a", " "], "is scattered over an empty value, number 2 of 2"),
        ([str(number) for number in range(MOST_PARTS + 1)], "over 201 values; 200 are the most"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: Any, said: str) -> None:
    """Too many, none, one twice, an empty one."""
    with pytest.raises(ScatterError, match=said):
        parts([step("reco", values=values)], {"segments": ""})


def test_as_many_values_as_are_allowed_are_taken() -> None:
    """The limit itself is allowed."""
    assert len(parts([step("reco", values=[str(number) for number in range(MOST_PARTS)])], {})) == MOST_PARTS


def test_a_parameter_has_one_variable() -> None:
    """Its name in capitals, and nothing in it but letters, digits and _."""
    assert variable_of("dbTag") == "MULETEER_PARAM_DBTAG"
