"""A policy: what it matches, what it names, and what is wrong with one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.core.runs import RunsError
from orchestrator.core.transient.policies import (
    CompiledPolicy,
    mistakes_in,
    refused_as_a_whole,
    remarks_on,
    with_kept_runs,
)
from schemas.did import Did
from schemas.transient import Refusal, TransientPolicy
from tests.unit.core.transient.making import DOCUMENT, FACTS, HITS, NOW, policy, version_of, with_successor


def read(**changes: Any) -> TransientPolicy:
    return TransientPolicy.model_validate(DOCUMENT | changes)


def test_what_a_policy_captures() -> None:
    """The pattern's groups, the scope and the name; nothing of a dataset that it does not match."""
    compiled = policy()

    assert compiled.values(HITS) == FACTS.values
    assert compiled.values(Did("other", HITS.name)) is None
    assert compiled.values(Did("sphenix", HITS.name + "-extra")) is None
    assert compiled.values(Did("sphenix", "X" + HITS.name)) is None


@pytest.mark.parametrize(
    ("scopes", "wanted"),
    [(["sph*"], True), (["s*", "!sphenix"], False), (["other"], False), (["a", "sphenix"], True)],
)
def test_which_scopes_a_policy_looks_into(scopes: list[str], wanted: bool) -> None:
    """Globs; `!` before one excludes it."""
    compiled = policy(scope=scopes)

    assert compiled.wants("sphenix") is wanted
    assert (compiled.values(HITS) is not None) is wanted


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{scope}:DST_SEED-{run}", Did("sphenix", "DST_SEED-00012345")),
        ("group.sphenix:{run:d}-SEED", Did("group.sphenix", "12345-SEED")),
        ("{scope}:{name}.next", Did("sphenix", "DST_HITS-00012345.next")),
    ],
)
def test_the_name_of_a_successor(template: str, wanted: Did) -> None:
    """A template over what was captured."""
    assert with_successor(dataset=template).successor(FACTS.values) == wanted


@pytest.mark.parametrize(
    ("changes", "run", "said"),
    [
        ({"pattern": r"DST_HITS-(?P<run>\d{8})(?:-(?P<tag>\w+))?", "successor": {"dataset": "s:X-{tag}"}}, "5", "tag"),
        ({"successor": {"dataset": "s:X-{run:08d}"}}, "5x", "not the number"),
    ],
)
def test_a_name_that_cannot_be_made_is_a_refusal(changes: dict[str, Any], run: str, said: str) -> None:
    """Nor is one made of what was not captured: another dataset might be called so."""
    refusal = policy(**changes).successor({**FACTS.values, "tag": "", "run": run})

    assert isinstance(refusal, Refusal)
    assert refusal.check == "successor"
    assert said in refusal.text


def test_the_run_of_a_dataset() -> None:
    """The group `run`, if it is a number."""
    compiled = policy()

    assert compiled.run(FACTS.values) == 12345
    assert [compiled.run({"run": word}) for word in ("", "5x", "-5", "²")] == [None] * 4
    assert compiled.run({}) is None


# Of a policy as a whole.


@pytest.mark.parametrize(
    ("changes", "looked_at", "matches", "confirmed", "said"),
    [
        ({}, 100, 20, None, None),
        ({}, 100, 21, None, "it matches 21 of 100 datasets in its scopes, more than 20 %: if that is meant"),
        ({}, 100, 21, 20, "more than 20 %; 20 were confirmed"),
        ({}, 100, 21, 21, None),
        ({"fraction": 1}, 100, 100, None, None),
        ({}, 0, 0, None, None),
        ({"enabled": False}, 100, 1, None, "it is disabled"),
    ],
)
def test_a_policy_that_matches_too_much_releases_nothing(
    changes: dict[str, Any], looked_at: int, matches: int, confirmed: int | None, said: str | None
) -> None:
    """A slip in a pattern is seen by a person before anything leaves; the command to confirm is told."""
    version = version_of(**changes).model_copy(update={"confirmed": confirmed})

    found = refused_as_a_whole(version, looked_at, matches)

    assert (found is None) is (said is None)
    assert said is None or (found is not None and said in found)


def test_a_version_that_is_not_in_force_releases_nothing() -> None:
    """Another one took its place."""
    version = version_of().model_copy(update={"ended_at": NOW})

    assert refused_as_a_whole(version, 100, 1) == "version 3 of it is not in force any more"


# What is wrong with one.


def test_nothing_is_wrong_with_a_good_policy() -> None:
    """Whatever it uses."""
    full = read(
        scope=["s*", "!*raw*"],
        where={"tag": ["a*", "!ab"], "events": "> 5"},
        successor={
            "dataset": "{scope}:DST_SEED-{run:08d}",
            "require": {"numbered": r"DST_SEED-(?P<run>\d+)-(?P<n>\d+).root", "names": "DST.*"},
            "maps": {"files": r"H-(?P<seg>\d+).root", "onto": r"S-(?P<seg>\d+).root"},
        },
        keep={"last_runs": 5, "runs": {"include": [5, "7..9"]}, "copies": "TAPE"},
    )

    assert list(mistakes_in(full)) == []
    assert list(mistakes_in(read())) == []
    # of the same name in another scope
    assert list(mistakes_in(read(successor={"dataset": "other:{name}"}))) == []
    CompiledPolicy(version_of().model_copy(update={"policy": full}))


@pytest.mark.parametrize(
    ("changes", "place", "said"),
    [
        ({"pattern": "("}, ("pattern",), "missing"),
        ({"pattern": r"(?P<run>\d)(?P<run>\d)"}, ("pattern",), "run"),
        ({"pattern": r"(?P<run>\d+)(?P<name>.*)"}, ("pattern",), "would hide the dataset's own name"),
        ({"scope": "!raw"}, ("scope",), "name the scopes"),
        ({"lifetime": "0s"}, ("lifetime",), "expected a length of time"),
        ({"where": {"events": [5, "> x"]}}, ("where", "events", 1), "'x' can be compared with nothing"),
        ({"successor": {"dataset": "{scope}:{tag}"}}, ("successor", "dataset"), "there is no value tag"),
        ({"successor": {"dataset": "{scope}:{run"}}, ("successor", "dataset"), "write {{ and }}"),
        ({"successor": {"dataset": "DST-{run}"}}, ("successor", "dataset"), "is not a DID"),
        ({"successor": {"dataset": "{scope}:{name}"}}, ("successor", "dataset"), "is the dataset itself"),
        ({"successor": {"dataset": "sphenix:{name}"}}, ("successor", "dataset"), "is the dataset itself"),
        ({"successor": {"dataset": "sphenix:all"}}, ("successor", "dataset"), "the same for every dataset"),
        ({"keep": {"runs": {"include": [5, "x"]}}}, ("keep", "runs", "include", 1), "'x' is neither"),
        ({"keep": {"runs": {"include_file": "x"}}}, ("keep", "runs", "include_file"), "has not been read"),
        (
            {"keep": {"last_runs": 2}, "pattern": "DST", "successor": {"dataset": "s:{name}.x"}},
            ("keep", "last_runs"),
            "captures no run",
        ),
        (
            {"keep": {"runs": {"include": 5}}, "pattern": "DST", "successor": {"dataset": "s:{name}.x"}},
            ("keep", "runs"),
            "captures no run",
        ),
        (
            {"successor": {"dataset": "s:{run}", "require": {"numbered": r"\d+"}}},
            ("successor", "require", "numbered", "pattern"),
            "has no group n",
        ),
        (
            {"successor": {"dataset": "s:{run}", "require": {"names": "("}}},
            ("successor", "require", "names"),
            "missing",
        ),
        (
            {"successor": {"dataset": "s:{run}", "maps": {"files": "(?P<a>.)", "onto": "(?P<b>.)"}}},
            ("successor", "maps", "files"),
            "it has no group b",
        ),
    ],
)
def test_each_mistake_is_named_with_its_place(changes: dict[str, Any], place: tuple[int | str, ...], said: str) -> None:
    """Before such a policy can be in force."""
    found = dict(mistakes_in(read(**changes)))

    assert place in found
    assert said in found[place]


def test_every_mistake_is_named() -> None:
    """A person mends all of them at once."""
    found = [place for place, _ in mistakes_in(read(pattern="(", lifetime="0s", where={"a": ">"}, scope="!a"))]

    assert {("scope",), ("pattern",), ("lifetime",)} <= set(found)


def test_a_file_of_runs_becomes_part_of_the_policy() -> None:
    """Its runs stay beside those that are written down; a policy whose file was not read cannot be asked."""
    unread = read(keep={"runs": {"include": [5], "include_file": "golden.txt"}})

    with pytest.raises(RunsError, match="has not been read"):
        CompiledPolicy(version_of().model_copy(update={"policy": unread}))
    whole = with_kept_runs(unread, "12345 # the golden one\n7..9")

    assert list(mistakes_in(whole)) == []
    kept = CompiledPolicy(version_of().model_copy(update={"policy": whole})).kept_runs
    assert str(kept) == "5, 7..9, 12345"
    with pytest.raises(RunsError, match="line 1"):
        with_kept_runs(unread, "x")


def test_what_cannot_be_kept_is_no_policy() -> None:
    """Databases keep no NUL and no half of a character."""
    for text in ("a\0b", "a\ud800b"):
        with pytest.raises(ValidationError):
            read(description=text)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({}, {}, "match the same datasets"),
        ({}, {"where": {"a": 1}}, "have the same pattern"),
        ({}, {"scope": ["sphenix", "b"]}, "have the same pattern"),
    ],
)
def test_two_policies_for_the_same_datasets_are_remarked_on(
    one: dict[str, Any], other: dict[str, Any], said: str
) -> None:
    """Both refuse what both match."""
    (remark,) = remarks_on([read(name="a", **one), read(name="b", **other)])

    assert remark.startswith("a and b ")
    assert said in remark


@pytest.mark.parametrize("changes", [{"lifetime": 14}, {"lifetime": "14"}, {"undo": 0}, {"lifetime": 1.5}])
def test_a_length_of_time_has_its_unit(changes: dict[str, Any]) -> None:
    """Elsewhere a number is one of seconds; here a person may have meant days."""
    with pytest.raises(ValueError, match=r"of what\? Write .*d or .*s"):
        read(**changes)
    with pytest.raises(ValueError, match="of what"):
        read(successor={**DOCUMENT["successor"], "age": 3})


def test_nothing_is_remarked_on_policies_that_differ() -> None:
    """But an automatic one without a bound is, one for what may still grow, and one with no time to take it back."""
    assert list(remarks_on([read(name="a"), read(name="b", pattern=r"DST_SEED-(?P<run>\d+)")])) == []
    assert list(remarks_on([read(automatic=True)])) == []
    assert len(list(remarks_on([read(automatic=True, fraction=1)]))) == 1
    assert list(remarks_on([read(fraction=1)])) == []
    assert list(remarks_on([read(automatic=True, fraction=1, enabled=False)])) == []
    assert len(list(remarks_on([read(open=True)]))) == 1
    assert len(list(remarks_on([read(undo="59s")]))) == 1
    assert list(remarks_on([read(undo="1m")])) == []
    counted = {"dataset": "s:{run}", "same_count": True}
    assert list(remarks_on([read(open=True, successor=counted)])) == []


def test_a_policy_as_a_person_would_write_it_reads_back() -> None:
    """One item stands for itself, and what is as by default is left out."""
    one = read(where={"tag": "a", "b": [1, 2]}, keep={"copies": "TAPE"})

    written = one.as_written()

    assert (written["scope"], written["where"]) == ("sphenix", {"tag": "a", "b": [1, 2]})
    assert "automatic" not in written
    assert TransientPolicy.model_validate(written) == one
    assert TransientPolicy.model_validate(one.document()) == one
