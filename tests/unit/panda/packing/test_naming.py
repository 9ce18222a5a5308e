"""Names of tasks and datasets, and what PanDA says to them."""

from __future__ import annotations

import pytest

from orchestrator.panda.packing import naming
from orchestrator.panda.port import EngineRefused
from tests.unit.panda.samples import chain, site, step, submission


def test_tasks_are_numbered_as_panda_numbers_the_steps_of_a_chain() -> None:
    names = naming.task_names(site(), chain())

    assert list(names.values()) == [
        "user.shrek.rn00021615-CALOR_000_combine",
        "user.shrek.rn00021615-CALOR_001_dst",
        "user.shrek.rn00021615-CALOR_002_links",
        "user.shrek.rn00021615-CALOR_003_sorry",
    ]


def test_a_step_with_outputs_fills_one_dataset_in_the_scope_of_the_prefix() -> None:
    group = site(prefix="group.sphenix.calor", official=True)

    made = naming.datasets(group, submission(step("combine", "raw"), step("mail", "combine", outputs=())))

    assert made == {"group.sphenix:group.sphenix.calor.rn00021615-CALOR_000_combine_0": "combine"}


def test_a_name_may_be_as_long_as_the_container_of_its_logs_allows() -> None:
    spare = 132 - len("user.shrek._000_combine.log/")

    naming.check(site(), submission(name="r" * spare))
    with pytest.raises(EngineRefused) as refused:
        naming.check(site(), submission(name="r" * (spare + 2)))

    text = str(refused.value)
    assert "step combine" in text and "has 134 characters" in text and "allows 132" in text and "by 2" in text


def test_merging_leaves_less_room() -> None:
    spare = 120 - len("user.shrek._000_combine.log/")
    merged = step("combine", "raw", panda={"mergeOutput": True})

    naming.check(site(), submission(merged, name="r" * spare))
    with pytest.raises(EngineRefused, match="allows 120 where outputs are merged"):
        naming.check(site(), submission(merged, name="r" * (spare + 1)))


@pytest.mark.parametrize("name", ["", ".rn1", "rn 1", "rn1'", "rn$1", "rn/1", "rn:1", "rn1\n", "rün"])
def test_a_name_that_panda_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(EngineRefused, match="is no name on PanDA"):
        naming.check(site(), submission(name=name))


@pytest.mark.parametrize(
    ("fields", "nickname", "said"),
    [
        ({"prefix": "group.sphenix"}, None, "official: true"),
        ({"official": True}, None, "are called group.sphenix"),
        ({"official": True, "prefix": "group.star"}, None, "are called group.sphenix"),
        ({}, "donkey", "the token is of donkey"),
    ],
)
def test_a_prefix_that_the_client_would_refuse_is_refused(
    fields: dict[str, object], nickname: str | None, said: str
) -> None:
    with pytest.raises(EngineRefused, match=said):
        naming.check(site(**fields), submission(), nickname=nickname)


def test_own_and_official_prefixes_are_taken() -> None:
    naming.check(site(), submission(), nickname="shrek")
    naming.check(site(prefix="group.sphenix", official=True), submission(), nickname="shrek")
