"""What is odd about one dataset, one policy or one answer of the catalog does not end the surveys, nor what they do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from orchestrator.core.actor import Done
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.store.port import NotAllowed, NotFound, Overtaken
from orchestrator.store.store import Store
from orchestrator.store.tables import transient_policies
from orchestrator.transient.desk import Looked
from orchestrator.transient.remarks import Remarks
from schemas.did import Did
from schemas.transient import PolicyVersion, PolicyVersionId
from tests.contract.transients import DISK, SCOPE, World, dst, fake, hits, policy, releaser, worlds
from tests.unit.making import NOW

LAST = 2**63 - 1


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, "fake")


def survey(world: World, vanished: int = 0) -> Looked:
    return world.desk().survey(who="surveyor", vanished=vanished)


def states(world: World, runs: range) -> list[str]:
    return [world.known(hits(run)).state.value for run in runs]


# One odd dataset.


def test_no_number_is_too_long_to_be_looked_at() -> None:
    """Also where Python itself would refuse it."""
    version = PolicyVersion(id=PolicyVersionId(1), version=1, policy=policy(), author="me", reason=None, at=NOW)
    compiled = CompiledPolicy(version)

    assert [compiled.run({"run": word}) for word in ("9" * 5000, "0" * 5000, "", "٣")] == [None, 0, None, None]


@pytest.mark.parametrize("digits", ["9" * 20, str(LAST + 1), "0" * 50 + "9" * 150])
def test_a_number_that_is_no_run_stops_no_survey(world: World, digits: str) -> None:
    """What has it in its name is looked at without a run, and everything else as ever."""
    did = world.ripe(policy(pattern=r"HITS-(?P<run>\d+)", automatic=True))
    odd = Did(SCOPE, f"HITS-{digits}")
    world.catalog.add_dataset(odd)

    assert [each.did for each in survey(world).released] == [did]

    assert (world.known(odd).state, world.known(odd).run) == ("held", None)


def test_the_last_run_is_one(world: World) -> None:
    """However many noughts are before it."""
    did = Did(SCOPE, f"HITS-{LAST:030d}")
    world.catalog.add_dataset(did)
    world.apply(policy(pattern=r"HITS-(?P<run>\d+)"))

    survey(world)

    assert world.known(did).run == LAST


@pytest.mark.parametrize(
    "answer", [{"length": "many"}, {"closed_at": NOW.replace(tzinfo=None)}], ids=["asked", "judged"]
)
def test_what_cannot_be_judged_keeps_no_other(world: World, answer: dict[str, object]) -> None:
    """The catalog answers something about its successor that nobody has thought of."""
    world.pair(2)
    did = world.ripe(policy(automatic=True))
    real = world.catalog.metadata

    def metadata(dids: Sequence[Did]) -> dict[Did, dict[str, object]]:
        return {each: {**known, **(answer if each == dst(2) else {})} for each, known in real(dids).items()}

    world.catalog.metadata = metadata
    with capture_logs() as logs:
        looked = survey(world)

    assert [each.did for each in looked.released] == [did]
    assert world.known(hits(2)).state == "held"
    assert "cannot be judged" in str(world.known(hits(2)).reason)
    assert {each["did"] for each in logs if each["event"] == "transient.defect"} == {str(hits(2))}


# One odd policy.


@pytest.fixture
def unreadable(world: World) -> Did:
    """A dataset that a policy releases by itself, beside another one whose document a newer program has written."""
    other = policy(name="other", pattern="X-(?P<run>.*)", successor={"dataset": "{scope}:Y-{run}"})
    did = world.ripe(policy(automatic=True), other)
    of_tomorrow(world, "other")
    return did


def of_tomorrow(world: World, name: str) -> None:
    """A newer program has written the policy."""
    this = transient_policies.c.name == name
    with world.store.database.write() as connection:
        document = json.loads(connection.scalar(select(transient_policies.c.document).where(this)) or "")
        values = {"document": json.dumps({**document, "of_tomorrow": 1})}
        connection.execute(update(transient_policies).where(this).values(values))


def test_what_was_released_by_a_policy_that_cannot_be_read_does_not_leave(world: World) -> None:
    """It is held when its time comes; nor may it begin to leave if that is noticed last."""
    did = world.ripe()
    (released,) = world.release()
    world.move(hours=25)
    of_tomorrow(world, "hits")

    (claimed,) = world.store.transients.claim_due(owner="x", now=world.now, lease=timedelta(seconds=1), limit=1)
    assert not world.store.transients.begin_leaving(claimed.id, [], owner="x", who="leaver", now=world.now)
    assert "cannot be read" in str(world.known(did).reason)
    world.move(minutes=11)
    world.desk().leave()

    assert (world.known(did).id, world.known(did).state) == (released.id, "held")


def test_a_policy_that_cannot_be_read_stops_no_other(world: World, unreadable: Did) -> None:
    """That is said of it, and what others release is released, and leaves."""
    looked = survey(world)

    assert [each.did for each in looked.released] == [unreadable]
    said = looked.survey.summaries["other"]
    assert said.releases == 0 and "of_tomorrow" in str(said.refused)
    world.move(hours=25)
    assert world.until_gone(unreadable).freed_files == 3


def test_what_can_be_done_with_a_policy_that_cannot_be_read(world: World, unreadable: Did) -> None:
    """It is taken out, or another one takes its place; of others everything can be done. The rest is said."""
    policies = world.store.transient_policies
    policies.set_enabled(["hits"], False, who="me", now=world.now)
    assert [each.policy.name for each in policies.in_force()] == ["hits"]
    assert [each.policy.name for each in policies.history()] == ["hits", "hits"]
    for doing in (
        lambda: policies.set_enabled(["other"], False, who="me", now=world.now),
        lambda: policies.version("other"),
        lambda: policies.confirm("other", 1, 5, who="me", now=world.now),
        lambda: world.desk().confirm("other", 0, who="me", why="test"),
    ):
        with pytest.raises(NotAllowed, match="cannot be read"):
            doing()

    change = policies.apply([policy(name="other")], prune=False, who="me", now=world.now)

    assert (change.changed, change.switched_on) == (("other",), ())
    assert policies.version("other").version == 2


@pytest.mark.parametrize("prune", [True, False])
def test_a_policy_that_cannot_be_read_can_be_taken_out(world: World, unreadable: Did, prune: bool) -> None:
    """Its version stays, and stays ended."""
    policies = world.store.transient_policies
    if prune:
        given = [each.policy for each in policies.in_force()]
        assert policies.apply(given, prune=True, who="me", now=world.now).removed == ("other",)
    else:
        assert policies.remove(["other"], who="me", now=world.now).removed == ("other",)

    assert not policies.all_in_force().unreadable
    assert survey(world).survey.summaries.keys() == {"hits"}


# Confirmed.


def test_what_was_counted_is_what_is_confirmed(world: World) -> None:
    """Another version comes while the catalog is gone through: nobody has counted what that one matches."""
    world.apply(policy(fraction=0.1))
    world.pair(1)
    real = world.catalog.scopes

    def scopes() -> object:
        world.catalog.scopes = real
        world.apply(policy(fraction=0.1, pattern=r"(?P<all>DST|HITS)-(?P<run>\d{8})"))
        return real()

    world.catalog.scopes = scopes
    with pytest.raises(Overtaken, match="version 2 of hits came into force meanwhile"):
        world.desk().confirm("hits", 1, who="anna", why="one is meant")

    assert world.store.transient_policies.version("hits").confirmed is None


def test_a_policy_that_comes_while_it_is_confirmed_is_not(world: World) -> None:
    """None of that name was in force when it began."""
    policies = world.store.transient_policies
    with pytest.raises(NotFound):
        world.desk().confirm("hits", 0, who="anna", why="none is meant")
    world.apply()
    with pytest.raises(Overtaken):
        policies.confirm("hits", None, 0, who="anna", now=world.now)


# The wrong catalog, once.


def elsewhere(world: World) -> None:
    """The same address leads to a catalog that has nothing, and cannot be told from the right one."""
    identity = world.catalog.identity
    world.catalog = fake(world.folder, world.clock)
    world.catalog.identity = identity


@pytest.mark.parametrize("began", ["held", "releasable", "released"])
def test_what_had_vanished_and_is_seen_again_goes_on(world: World, began: str) -> None:
    """It is held with a reason; all is proved anew, and it may leave. A release of it does not come back by itself."""
    did = world.ripe()
    if began == "held":
        world.store.transient_keeps.keep(str(did), who="me", why="x", now=world.now, until=world.now + timedelta(1))
    survey(world)
    if began == "released":
        world.release()
    assert world.known(did).state == began
    right = world.catalog
    elsewhere(world)
    world.move(minutes=1)
    assert survey(world).vanished == 1
    assert world.known(did).state == "gone"

    world.catalog = right
    world.move(days=2)
    survey(world)

    found = world.known(did)
    assert (found.state, found.gone_at, found.released_at, found.release) == ("releasable", None, None, None)
    journal = world.store.journal.of("transient", found.id)
    assert [(each.from_state, each.to_state) for each in journal][-2:] == [("gone", "held"), ("held", "releasable")]
    assert "the catalog has it again" in str(journal[-2].why)
    assert world.desk().leave() == 0
    world.release()
    world.move(hours=25)
    assert world.until_gone(did).freed_files == 3


def test_what_had_vanished_can_be_released_at_once(world: World) -> None:
    """By a plan, by a rule, and by a policy; also if its successor had vanished with it."""
    ana = policy(name="dst", pattern=r"DST-(?P<run>\d{8})", successor={"dataset": "{scope}:ANA-{run}"})
    for run in (1, 2, 3):
        world.pair(run)
    world.apply(policy(), ana)
    world.move(days=8)
    survey(world)
    right = world.catalog
    elsewhere(world)
    world.move(minutes=1)
    assert survey(world).vanished == 6
    world.catalog = right

    outcome = releaser(world).release_one(hits(1), who="rule", why="x")
    released = world.release()
    world.move(hours=25)

    assert isinstance(outcome, Done) and "is released" in outcome.summary
    assert {each.did for each in released} == {hits(2), hits(3)}
    assert {world.until_gone(hits(run)).freed_files for run in (1, 2, 3)} == {3}


def test_what_has_left_is_not_released_again(world: World) -> None:
    """Its copies have left, the dataset stays: what comes back is for a person."""
    did = world.ripe(policy(keep={"copies": "TAPE"}), rses=("DISK", "TAPE"))
    world.release()
    world.move(hours=25)
    world.until_gone(did)
    world.move(minutes=1)
    survey(world)

    assert world.known(did).state == "gone"
    assert "has left already" in world.refusals(did)["released"]
    outcome = releaser(world).release_one(did, who="rule", why="x")
    assert isinstance(outcome, Done) and "gone already" in outcome.summary


def many(world: World, count: int) -> range:
    runs = range(1, count + 1)
    for run in runs:
        world.catalog.add_dataset(hits(run))
    world.apply()
    survey(world)
    world.move(minutes=1)
    return runs


def test_that_most_have_vanished_is_not_believed(world: World) -> None:
    """It is said, and nothing else is done, also not by policies, before a person confirms the number."""
    runs = many(world, 20)
    right = world.catalog
    elsewhere(world)
    world.ripe(policy(automatic=True), run=30)

    looked = survey(world)

    assert (looked.vanished, looked.released) == (0, ())
    assert "20 of 21 datasets no more" in str(looked.doubt) and "--vanished 20" in str(looked.doubt)
    assert set(states(world, runs)) == {"held"}
    assert survey(world, vanished=19).doubt == looked.doubt
    assert [each.did for each in survey(world, vanished=20).released] == [hits(30)]
    assert set(states(world, runs)) == {"gone"}
    world.catalog = right
    world.move(minutes=1)
    survey(world)
    assert set(states(world, runs)) == {"held"}


@pytest.mark.parametrize(("known", "missing", "believed"), [(19, 19, True), (20, 10, True), (20, 11, False)])
def test_how_many_vanish_at_once(world: World, known: int, missing: int, believed: bool) -> None:
    """Half of them do, or most of a few."""
    for run in list(many(world, known))[:missing]:
        world.catalog.erase(hits(run))

    looked = survey(world)

    assert looked.vanished == (missing if believed else 0)
    assert (looked.doubt is None) is believed


def test_the_doubt_is_logged_once(world: World) -> None:
    """And once more if there is another."""
    many(world, 20)
    elsewhere(world)
    remarks, said = Remarks(), list[str]()
    for _ in range(2):
        with capture_logs() as logs:
            remarks.take(survey(world))
        said += [each["reason"] for each in logs if each["event"] == "transient.most_vanished"]

    assert len(said) == 1 and "20 of 20" in said[0]


# What cannot be proved.


def lossy(world: World, run: int) -> Did:
    """Only a close look tells that its successor cannot be read."""
    did = world.pair(run)
    world.catalog.declare(Did(SCOPE, f"DST-{run:08d}-0.root"), DISK, readable=False)
    return did


@pytest.fixture
def short(world: World) -> World:
    """Two are looked at closely at each survey; the two that were due first cannot be proved."""
    world.told.proofs = 2
    for run in (1, 2):
        lossy(world, run)
        world.move(hours=1)
    for run in (3, 4, 5):
        world.pair(run)
        world.move(hours=1)
    world.apply()
    world.move(days=8)
    return world


def looked_at(world: World) -> list[int]:
    """Which runs a survey looked at closely, in order."""
    found = list[int]()
    take = lambda verdict: found.append(verdict.run) if getattr(verdict, "closely", True) else None  # noqa: E731
    world.desk().survey(who="surveyor", take=take)
    world.move(hours=1)
    return found


def test_what_cannot_be_proved_keeps_no_other_from_its_turn(short: World) -> None:
    """What failed waits behind what was due later; by the next survey the others have their turn."""
    assert looked_at(short) == [1, 2]
    assert looked_at(short) == [3, 4]
    assert states(short, range(1, 6)) == ["held", "held", "releasable", "releasable", "held"]
    assert "beyond" in dict(short.known(hits(5)).refusals)

    short.release()

    assert looked_at(short) == [5, 1]
    short.release()
    assert looked_at(short) == [2, 1]
    assert looked_at(short) == [1, 2]


def test_what_failed_has_its_turn_again(short: World) -> None:
    """The one that was looked at longest ago first; once it is proved it stands where it did."""
    looked_at(short)
    for run in (3, 4, 5):
        short.catalog.declare(Did(SCOPE, f"DST-{run:08d}-1.root"), DISK, readable=False)

    assert [looked_at(short) for _ in range(4)] == [[3, 4], [5, 1], [2, 3], [4, 1]]

    short.catalog.declare(Did(SCOPE, "DST-00000002-0.root"), DISK, readable=True)
    assert [looked_at(short) for _ in range(3)] == [[5, 2], [2, 3], [2, 1]]
    assert short.known(hits(2)).state == "releasable"
    assert short.known(hits(2)).failed_at is None


def test_what_a_plan_looks_at_is_in_the_same_order(short: World) -> None:
    """But a plan writes nothing down."""
    for _ in range(2):
        assert short.desk().plan(who="me").releases == ()
    survey(short)

    for _ in range(2):
        assert [each.did for each in short.desk().plan(who="me").releases] == [str(hits(3)), str(hits(4))]


def test_that_not_everything_is_looked_at_is_logged_once_it_goes_on(short: World) -> None:
    """Said again after it was over."""
    remarks, said = Remarks(), list[int]()

    def surveys(count: int) -> None:
        for _ in range(count):
            with capture_logs() as logs:
                remarks.take(survey(short))
            said.extend(each["not_looked_at"] for each in logs if each["event"] == "transient.beyond")

    surveys(1)
    assert said == []
    surveys(3)
    assert said == [3]
    short.told.proofs = 5
    surveys(1)
    short.told.proofs = 4
    surveys(2)
    assert said == [3, 1]


# A slow catalog.


@pytest.mark.parametrize("minutes", [4, 6])
def test_what_was_counted_is_good_from_when_it_was(world: World, minutes: int) -> None:
    """However long counting took, it is not counted anew for each dataset that leaves."""
    for run in range(1, 6):
        world.pair(run)
    world.apply(policy(undo="1h"))
    world.move(days=8)
    world.release()
    world.move(hours=2)
    real, counted = world.catalog.scopes, list[int]()

    def scopes() -> object:
        counted.append(1)
        world.move(minutes=minutes)
        return real()

    world.catalog.scopes = scopes
    world.desk().leave()

    assert len(counted) == 1
    assert set(states(world, range(1, 6))) == {"leaving"}


EVERY = timedelta(hours=1)


def test_whoever_counts_keeps_its_turn(world: World) -> None:
    """The catalog is gone through twice, and each time takes twenty minutes: nobody else begins meanwhile."""
    world.ripe()
    other = world.desk()
    real, begun = world.catalog.walk, list[Looked | None]()

    def walk(*names: str) -> object:
        for entry in real(*names):
            world.move(minutes=20)
            begun.append(other.survey_in_turn(EVERY, who="other"))
            yield entry

    world.catalog.walk = walk
    assert world.desk().survey_in_turn(EVERY, who="one") is not None

    assert len(begun) >= 4
    assert set(begun) == {None}


@pytest.mark.parametrize("at", ["count", "sweep", "sweep twice"])
def test_whoever_is_to_stop_stops_while_it_counts_and_sweeps(world: World, at: str) -> None:
    """Nothing is released then, and what was to be found is found by the next."""
    world.ripe(policy(automatic=True))
    for run in (2, 3, 4):
        world.pair(run)
        world.store.transient_keeps.keep(str(hits(run)), who="me", why="x", now=world.now)
    first = survey(world)
    assert len(first.released) == 1
    for run in (2, 3, 4):
        world.catalog.erase(hits(run))
    world.pair(5)
    world.move(days=8)
    asked, stop = list[str](), {"count": 3, "sweep": 1, "sweep twice": 4}[at]
    real_walk, real_dataset = world.catalog.walk, world.catalog.dataset

    def walk(*names: str) -> object:
        for entry in real_walk(*names):
            asked.extend(["count"] * (at == "count"))
            yield entry

    def dataset(did: Did) -> object:
        if did in (hits(2), hits(3), hits(4)):
            asked.extend(["sweep"] * (at != "count"))
        return real_dataset(did)

    world.catalog.walk, world.catalog.dataset = walk, dataset
    looked = world.desk().survey(who="one", stopping=lambda: len(asked) >= stop)

    assert len(asked) == stop
    assert (looked.vanished, looked.released) == (0, ())
    world.catalog.walk, world.catalog.dataset = real_walk, real_dataset
    assert (survey(world).vanished, world.known(hits(5)).state) == (3, "released")
