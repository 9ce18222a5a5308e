"""Names that are derived."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.naming import (
    NameRefused,
    given_name,
    is_given,
    key_of_name,
    launch_key,
    launch_name,
    round_of,
    run_of,
)
from schemas.did import Did
from schemas.dispatch import DispatchId

RAW = Did("group.sphenix", "SPHENIX_RAW_EVENTS-00021615")


def test_one_dispatch_is_one_launch() -> None:
    """The key of a launch is its workflow and its dispatch, however often the dispatch is tried; another round of the
    dispatch, which a person asked for, has a key of its own.
    """
    keys = [launch_key("calorimeter", DispatchId(7), round_) for round_ in (0, 1, 2)]

    assert keys[0] == launch_key("calorimeter", DispatchId(7)) == "calorimeter/dispatch-7"
    assert keys[1:] == ["calorimeter/dispatch-7/round-1", "calorimeter/dispatch-7/round-2"]


def test_a_launchs_name_is_readable_and_as_unique_as_its_key() -> None:
    """Workflow, dataset, and a digest of the key: the same key gives the same name, another key another."""
    name = launch_name("calorimeter", RAW, "calorimeter/dispatch-7")

    assert re.fullmatch(r"calorimeter\.SPHENIX_RAW_EVENTS-00021615\.[0-9a-f]{16}", name)
    assert launch_name("calorimeter", RAW, "calorimeter/dispatch-7") == name
    assert launch_name("calorimeter", RAW, "calorimeter/dispatch-8") != name
    assert launch_name("calorimeter", None, "k").startswith("calorimeter.manual.")


@settings(deadline=None, max_examples=100)
@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,59}\Z"), st.text(max_size=300), st.text(max_size=300))
def test_every_name_suits_panda_and_file_systems(workflow: str, dataset: str, key: str) -> None:
    """At most 120 characters, of letters, digits, `.`, `_` and `-`, whatever the dataset is called."""
    name = launch_name(workflow, Did("s", dataset), key)

    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", name)


# Names that workflows give.


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("rn{run:08d}-CALOR-{build}", "rn00021615-CALOR-ana.1"),
        ("{run} a/b$c", "21615_a_b_c"),
        ("../{run}/", "21615"),
        ("x" * 115, "x" * 115),
    ],
)
def test_a_given_name_is_made_to_suit_panda_and_file_systems(template: str, name: str) -> None:
    """Whatever the values hold; each round has a name of its own."""
    values = {"run": "21615", "build": "ana.1"}

    assert given_name(template, values) == name
    assert given_name(template, values, 2) == f"{name}-r2"
    assert len(f"{name}-r999") <= 120


@pytest.mark.parametrize(("template", "said"), [("{run}/..", "no letter"), ("x" * 116, "116 characters; 115 are")])
def test_a_given_name_of_which_nothing_is_left_or_that_is_too_long_is_refused(template: str, said: str) -> None:
    """With the template and what it gave; it is never cut, for two names might become one."""
    with pytest.raises(NameRefused, match=said):
        given_name(template, {"run": "$"})


def test_what_a_key_says() -> None:
    """Its round, and whether its launch has the name that its workflow gave."""
    key = f"store/{key_of_name('calo', 'rn1', 12)}"

    assert (key, round_of(key), round_of("store/calo/rn1")) == ("store/calo/rn1/round-12", 12, 0)
    assert is_given(key, "rn1-r12")
    assert is_given("store/calo/rn1", "rn1")
    for round_ in (0, 3):
        derived = f"store/{launch_key('calo', DispatchId(7), round_)}"
        assert not is_given(derived, launch_name("calo", RAW, derived))


@pytest.mark.parametrize(
    ("text", "run"), [("00021615", 21615), ("", None), ("-1", None), ("1e3", None), ("9" * 19, None)]
)
def test_the_run_is_the_parameter_of_that_name(text: str, run: int | None) -> None:
    """If it is a number that a database can hold."""
    assert run_of({"run": text}) == run
    assert run_of({}) is None
