"""A chain in the server's subset of CWL."""

from __future__ import annotations

import io
import shlex
from typing import Any

from ruamel.yaml import YAML

from orchestrator.panda.packing import cwl
from orchestrator.panda.port import Submission
from tests.unit.panda.samples import after, chain, reads, site, step, submission

#: What prun steps may have; anything else the server refuses.
OPTIONS = {"opt_inDS", "opt_secondaryDSs", "opt_exec", "opt_args", "opt_containerImage"}


def read(content: bytes) -> Any:
    return YAML(typ="safe", pure=True).load(io.BytesIO(content))


def steps(told: Submission) -> dict[str, Any]:
    return {each["id"]: each for each in read(cwl.workflow(told, site()))["steps"]}


def args(told: dict[str, Any]) -> list[str]:
    return shlex.split(told["in"]["opt_args"]["default"])


def test_steps_stand_in_the_order_in_which_their_tasks_are_numbered() -> None:
    document = read(cwl.workflow(chain(), site()))

    assert [each["id"] for each in document["steps"]] == ["combine", "dst", "links", "sorry"]
    assert {each["run"] for each in document["steps"]} == {"prun"}
    assert all(set(each["in"]) <= OPTIONS for each in document["steps"])


def test_a_dataset_of_the_catalog_comes_from_the_values() -> None:
    told = chain()

    assert steps(told)["combine"]["in"]["opt_inDS"] == {"source": "in.raw"}
    assert read(cwl.values(told)) == {"in.raw": "group.sphenix:SPHENIX_RAW_EVENTS-00021615"}
    assert [each["id"] for each in read(cwl.workflow(told, site()))["inputs"]] == ["in.raw"]


def test_a_secondary_dataset_is_never_the_primary_one() -> None:
    links = steps(chain())["links"]

    assert links["in"]["opt_inDS"] == {"source": "dst/outDS"}
    assert links["in"]["opt_secondaryDSs"] == {"source": ["combine/outDS"]}
    assert after(args(links), "--secondaryDSs") == (
        "IN2#3#%{SECDS1}#beam.*[.]prdf,IN3#1#group.sphenix:CALIBRATIONS-2023p001"
    )


def test_secondaries_are_counted_among_those_that_steps_make() -> None:
    told = submission(step("a"), step("b"), step("c"), step("d", "a", "calibration", "b", "c"))

    assert steps(told)["d"]["in"]["opt_secondaryDSs"] == {"source": ["b/outDS", "c/outDS"]}
    assert after(args(steps(told)["d"]), "--secondaryDSs").split(",")[1:] == ["IN3#1#%{SECDS1}", "IN4#1#%{SECDS2}"]


def test_features_are_required_only_when_they_are_used() -> None:
    one = submission(step("a"), step("b", "a"))
    several = submission(step("a"), step("b"), step("c"), step("d", "a", "b", "c"))

    assert "requirements" not in read(cwl.workflow(one, site()))
    assert "InlineJavascriptRequirement" in read(cwl.workflow(chain(), site()))["requirements"]
    assert set(read(cwl.workflow(several, site()))["requirements"]) == {"MultipleInputFeatureRequirement"}


def test_a_step_that_runs_on_failure_has_its_condition_and_no_input() -> None:
    sorry = steps(chain())["sorry"]

    assert sorry["when"] == "$(!self.opt_inDS)" and sorry["in"]["opt_inDS"] == {"source": "dst/outDS"}
    assert "--writeInputToTxt" not in args(sorry)


def test_each_step_that_nothing_reads_is_an_output_of_its_own_name() -> None:
    outputs = read(cwl.workflow(chain(), site()))["outputs"]

    assert {each["id"]: each["outputSource"] for each in outputs} == {
        "links.outDS": "links/outDS",
        "sorry.outDS": "sorry/outDS",
    }


def test_arguments_survive_the_servers_reading_of_them() -> None:
    told = submission(
        step("a", outputs=("a-*.root", "b[0-9]"), panda={"mergeScript": "./m.sh %IN %OUT"}),
        step("b", "a", image="docker://images.example.org/a/b:1"),
    )

    assert after(args(steps(told)["a"]), "--outputs") == "regex|^(a-.*[.]root|b[0-9])(?!.)"
    assert after(args(steps(told)["a"]), "--mergeScript") == "./m.sh %IN %OUT"
    assert steps(told)["b"]["in"]["opt_containerImage"] == {"default": "docker://images.example.org/a/b:1"}
    assert all("--noBuild" in args(each) for each in steps(told).values())


def test_words_that_yaml_takes_for_something_else_stay_words() -> None:
    """`yes`, `null` and `on` are good names of steps."""
    text = cwl.workflow(submission(step("yes"), step("null", "yes"), step("on", reads("null"))), site()).decode()

    assert [each["id"] for each in read(text.encode())["steps"]] == ["yes", "null", "on"]
    assert 'id: "yes"' in text


def test_options_that_the_server_does_not_know_are_never_said() -> None:
    text = cwl.workflow(chain(), site()).decode()

    assert not any(word in text for word in ("--stage", "forceStagedSecondary", "processingType"))


def test_pchain_is_told_who_submits_and_what_the_workflow_is_called() -> None:
    words = cwl.arguments(chain(), site(), extra_files=("a.root", "b.so"), megabytes=3)

    assert after(words, "--outDS") == "user.shrek.rn00021615-CALOR" and after(words, "--vo") == "sphenix"
    assert after(words, "--workflowName") == "rn00021615-CALOR"
    assert after(words, "--extFile") == "a.root,b.so" and after(words, "--maxSizeInSandbox") == "3"
