"""Names that are derived."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.naming import launch_key, launch_name
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
