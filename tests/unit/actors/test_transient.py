"""The actors `keep`, `release` and `extend`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from actors.extend import Extend
from actors.keep import Keep
from actors.release import Release
from orchestrator.core.actor import Actor, Done, GiveUp, Order, Retry, Tools, Wait
from orchestrator.core.transient.protection import Guard
from orchestrator.store.store import Store
from orchestrator.transient.acting import InTransit
from orchestrator.transient.asking import Asker
from orchestrator.transient.looking import Looker
from orchestrator.transient.proving import Prover
from orchestrator.transient.regime import Regimes
from orchestrator.transient.releaser import Releaser
from orchestrator.transient.sighting import Sighting
from orchestrator.transient.witness import Witness
from schemas.did import Did
from tests.contract.transients import World, dst, hits, worlds
from tests.services.catalog import Faulty, When
from tests.unit.making import message, order, tools


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, "fake")


def working(world: World, catalog: Any = None) -> Tools:
    """Tools that reach the world's catalog."""
    catalog = catalog or world.catalog
    asker = Asker(catalog, world.store.transient_readers, world.store.transients)
    looker = Looker(catalog, lambda did, checks: (), Sighting(catalog, Witness({})))
    prover = Prover(asker, looker, clock=world.clock)
    regimes = Regimes(catalog, world.store, world.told, clock=world.clock)
    releaser = Releaser(
        *(asker, prover, world.store.transients, regimes),
        catalog=catalog.address,
        store=world.store.id,
        clock=world.clock,
    )
    return replace(tools(world.folder), transient=InTransit(world.store, lambda: releaser, world.clock))


def asked(**options: Any) -> Order:
    """About the message's own dataset unless the options say which: HITS of run 1."""
    about = message().model_copy(update={"scope": hits().scope, "name": hits().name})
    return replace(order(["true"]), message=about, options=options)


# Release.


def test_a_dataset_is_released_once_all_is_proved(world: World) -> None:
    """By the rule, with the dispatch as the reason; again it is done already; in the catalog nothing happens."""
    did = world.ripe()
    given = working(world)

    done, again = Release().act(asked(dataset=str(hits())), given), Release().act(asked(dataset=str(did)), given)

    assert isinstance(done, Done)
    assert again == Done(f"{did} is released already")
    known = world.known(did)
    assert (known.state, known.released_by, known.reason) == ("released", "rule raw", "dispatch 3")
    assert world.there(did)


def test_what_stands_in_the_way_is_tried_again(world: World) -> None:
    """Too young now, and without a successor: the rule's retry policy decides how long that is tried."""
    world.pair()
    world.apply()
    given = working(world)

    young = Release().act(asked(dataset=str(hits())), given)
    world.move(days=8)
    world.catalog.reopen(dst())
    open_ = Release().act(asked(dataset=str(hits())), given)

    assert isinstance(young, Retry)
    assert "age" in young.reason
    assert isinstance(open_, Retry)
    assert "successor" in open_.reason
    assert world.store.transients.list(states=["released"]) == []  # type: ignore[list-item]


def test_what_no_policy_matches_is_never_released(world: World) -> None:
    """Trying again cannot help."""
    world.ripe()
    given = working(world)

    assert isinstance(Release().act(asked(dataset=str(dst())), given), GiveUp)
    assert isinstance(Release().act(asked(dataset="group.sphenix:NONE"), given), GiveUp)
    assert isinstance(Release().act(asked(dataset="nonsense"), given), GiveUp)


def test_a_catalog_that_is_away_and_a_cap_are_waited_for(world: World) -> None:
    """They cost no attempt."""
    world.ripe()
    away = Faulty(world.catalog, {1: When.BEFORE})
    assert isinstance(Release().act(asked(dataset=str(hits())), working(world, away)), Wait)

    world.told.datasets_per_day = 0

    assert isinstance(Release().act(asked(dataset=str(hits())), working(world)), Wait)


def test_which_dataset_is_released_must_be_said() -> None:
    """That of the message is in use, by this very dispatch."""
    with pytest.raises(ValidationError):
        Release.options.model_validate({})


# Keep and extend.


def test_what_is_kept_is_not_released(world: World) -> None:
    """For a while, or for ever; twice is as once."""
    did = world.ripe()
    given = working(world)

    first, second = (Keep().act(asked(**{"for": "2d"}), given) for _ in range(2))
    kept = Release().act(asked(dataset=str(hits())), given)
    world.move(days=3)

    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert isinstance(kept, Retry)
    assert "rule raw keeps" in kept.reason
    assert isinstance(Release().act(asked(dataset=str(hits())), given), Done)
    Keep().act(asked(which="group.sphenix:*"), given)
    assert [each.which for each in world.store.transient_keeps.in_force(world.now)] == ["group.sphenix:*"]
    assert str(did) == "group.sphenix:HITS-00000001"


def test_the_dataset_of_the_message_is_kept_whatever_it_is_called(world: World) -> None:
    """Signs of globs in its name stand for themselves."""
    odd = replace(asked(), message=message().model_copy(update={"scope": "a", "name": "b[1]*"}))

    assert isinstance(Keep().act(odd, working(world)), Done)

    guard = Guard(keeps=world.store.transient_keeps.in_force(world.now))
    kept = [name for name in ("b[1]*", "b1", "b[1]c") if any(guard.kept(Did("a", name), world.now))]
    assert kept == ["b[1]*"]


def test_a_keep_of_nothing_is_given_up(world: World) -> None:
    """As it comes out of a template."""
    told = Keep().act(asked(which="group.sphenix:[B*"), working(world))

    assert isinstance(told, GiveUp)
    assert "without a `]`" in told.reason


def test_what_is_extended_is_not_released_before_that(world: World) -> None:
    """It must have been seen by a survey: before that there is nothing to extend."""
    did = world.ripe()
    given = working(world)

    early = Extend().act(asked(**{"for": "2d"}), given)
    world.desk().survey(who="me")
    done = Extend().act(asked(**{"for": "2d"}), given)

    assert isinstance(early, GiveUp)
    assert isinstance(done, Done)
    assert world.known(did).extended_until == world.now + timedelta(days=2)
    assert isinstance(Release().act(asked(dataset=str(hits())), given), Retry)


# What is checked before a rule is in force.


@pytest.mark.parametrize(
    ("actor", "options", "wrong"),
    [
        (Release(), {"dataset": "{scope}:DST-{run}"}, None),
        (Release(), {"dataset": "nonsense"}, "release.dataset: "),
        (Keep(), {"which": "group.sphenix:*-{run}", "for": "7d"}, None),
        (Keep(), {"which": "nonsense"}, "keep.which: "),
        (Keep(), {"which": "group.sphenix:[B*"}, "keep.which: "),
        (Keep(), {"which": "group.sphenix:B "}, "keep.which: "),
        (Keep(), {"for": "0s"}, "keep.for: "),
        (Keep(), {}, None),
        (Extend(), {"for": "7d"}, None),
        (Extend(), {"for": "0s"}, "extend.for: "),
        (Extend(), {"for": "7d", "dataset": "nonsense"}, "extend.dataset: "),
    ],
)
def test_options_are_checked(tmp_path: Path, actor: Actor, options: Mapping[str, Any], wrong: str | None) -> None:
    found = actor.check(options, tools(tmp_path))

    assert found is None if wrong is None else found is not None and found.startswith(wrong)
