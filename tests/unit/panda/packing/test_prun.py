"""What prun is told of one step."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator.panda.packing import prun
from orchestrator.panda.packing.streams import streams_of
from orchestrator.panda.port import EngineRefused, Submission
from schemas.did import Did
from schemas.panda import PandaOptions
from tests.unit.panda.samples import RAW, after, chain, reads, site, step, submission


def words(told: Submission, number: int = 0, **fields: Any) -> tuple[str, ...]:
    return prun.arguments(told, told.steps[number], site(**fields))


def test_a_step_reads_the_dataset_that_its_parent_makes_in_a_chain_too() -> None:
    links = words(chain(), 2)

    assert after(links, "--inDS") == "user.shrek.rn00021615-CALOR_001_dst_0/"
    assert after(links, "--outDS") == "user.shrek.rn00021615-CALOR_002_links"
    assert "--notExpandInDS" in links and "--notExpandSecDSs" in links


def test_secondary_datasets_are_told_with_their_own_names() -> None:
    secondaries = after(words(chain(), 2), "--secondaryDSs").split(",")

    assert secondaries == [
        "IN2#3#user.shrek.rn00021615-CALOR_000_combine_0/#beam.*[.]prdf",
        "IN3#1#group.sphenix:CALIBRATIONS-2023p001",
    ]
    assert after(words(chain(), 1), "--reusableSecondary") == "IN2"


def test_a_dataset_of_the_catalog_is_read_as_prun_does_by_itself() -> None:
    combine = words(chain(), 0)

    assert after(combine, "--inDS") == "group.sphenix:SPHENIX_RAW_EVENTS-00021615"
    assert not any(word.startswith("--notExpand") for word in combine)


def test_a_job_finds_its_files_in_lists_and_not_on_the_command_line() -> None:
    assert after(words(chain(), 1), "--writeInputToTxt") == "IN:muleteer/IN.list,IN2:muleteer/IN2.list"
    assert after(words(chain(), 1), "--exec") == "python3 muleteer/job.py dst %RNDM:0"


def test_a_step_that_runs_on_failure_reads_nothing_of_what_failed() -> None:
    sorry = words(chain(), 3)

    assert not {"--inDS", "--writeInputToTxt", "--secondaryDSs"} & set(sorry)


def test_a_step_that_begins_while_its_parent_is_at_work_names_that_task() -> None:
    told = chain()

    assert after(prun.arguments(told, told.steps[1], site(), parent_task=17), "--parentTaskID") == "17"


def test_only_what_was_said_is_told() -> None:
    said = {
        "nJobs": 3,
        "nGBPerJob": "MAX",
        "priority": -5,
        "excludedSite": ("A", "B"),
        "skipScout": True,
        "avoidVP": True,
        "noEmail": False,
        "mergeScript": "./merge.sh %IN %OUT",
    }
    plain, full = (words(submission(step("combine", panda=told))) for told in ({"noEmail": False}, said))

    rest = list(full)
    for word in plain:
        rest.remove(word)
    assert rest == [
        *("--nJobs", "3", "--nGBPerJob", "MAX", "--priority=-5", "--mergeScript", "./merge.sh %IN %OUT"),
        *("--avoidVP", "--excludedSite", "A,B", "--expertOnly_skipScout"),
    ]


def test_every_option_of_the_model_is_told() -> None:
    """What the model has and prun is never told would be silently lost."""
    defaults = PandaOptions().model_dump()
    known = {*prun._NUMBERS, *prun._FLAGS, "excludedSite", "skipScout", "allowNoOutput"}

    assert known == set(defaults)


def test_prun_must_not_ask_a_person_about_much_memory() -> None:
    assert "-y" in words(submission(step("combine", panda={"memory": 4001})))
    assert "-y" not in words(submission(step("combine", panda={"memory": 4000})))


@pytest.mark.parametrize(("seconds", "hours"), [(1, "1"), (3600, "1"), (3601, "2"), (90_000, "25")])
def test_a_timeout_is_told_in_hours_rounded_up(seconds: int, hours: str) -> None:
    told = submission(step("combine", timeout=timedelta(seconds=seconds)))

    assert after(words(told), "--maxWalltime") == hours


def test_what_is_said_of_the_walltime_goes_before_the_timeout() -> None:
    told = submission(step("combine", timeout=timedelta(hours=1), panda={"maxWalltime": 7}))

    assert after(words(told), "--maxWalltime") == "7"


@pytest.mark.parametrize(
    ("fields", "place"),
    [({}, "BNL_OSG_SPHENIX"), ({"queue": "high"}, "BIG"), ({"queue": "high", "site": "OWN"}, "OWN")],
)
def test_a_step_runs_at_its_site_or_its_queue_or_the_profiles_site(fields: dict[str, Any], place: str) -> None:
    assert after(words(submission(step("combine", **fields)), queues={"high": "BIG"}), "--site") == place


def test_a_queue_that_the_profile_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(EngineRefused, match="has no queue low; it has: high"):
        words(submission(step("combine", queue="low")), queues={"high": "BIG"})


def test_without_a_site_panda_chooses() -> None:
    assert "--site" not in words(submission(), site=None)


def test_files_by_a_list_need_a_site_and_are_split_by_panda() -> None:
    told = submission(step("combine", reads("list", match="a*.prdf")), file_lists={"list": ("/d/a1.prdf", "/d/b.prdf")})

    assert after(words(told), "--pfnList") == "muleteer/steps/combine.pfn"
    assert streams_of(told, told.steps[0])[0].files == ("/d/a1.prdf",)
    with pytest.raises(EngineRefused, match="so it needs a site"):
        words(told, site=None)


def test_a_dataset_beside_a_primary_list_of_files_is_refused() -> None:
    told = submission(step("combine", "list", "raw"), file_lists={"list": ("/d/a.prdf",)})

    with pytest.raises(EngineRefused, match="make raw the first input"):
        words(told)


def test_a_list_of_files_that_is_not_primary_goes_to_every_job_as_it_is() -> None:
    told = submission(step("combine", "raw", "list"), file_lists={"list": ("/d/a.prdf",)})

    assert after(words(told), "--writeInputToTxt") == "IN:muleteer/IN.list"
    assert streams_of(told, told.steps[0])[1].files == ("/d/a.prdf",)


def test_who_submits_is_told_as_the_profile_says() -> None:
    official = words(submission(), official=True, prefix="group.sphenix", no_build=False)

    assert after(official, "--vo") == after(official, "--workingGroup") == "sphenix"
    assert after(official, "--prodSourceLabel") == "test" and "--official" in official
    assert "--noBuild" not in official and "--noBuild" in words(submission())


def test_outputs_that_may_be_missing_are_told_if_all_may() -> None:
    both = ("a.root", "b.root")

    assert after(words(submission(step("x", outputs=both, panda={"allowNoOutput": both}))), "--allowNoOutput") == ".*"
    some = submission(step("x", outputs=both, panda={"allowNoOutput": both[:1]}))
    assert "--allowNoOutput" not in words(some)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (submission(step("x", panda={"nFilesPerJob": 1, "nGBPerJob": "2"})), "nFilesPerJob or nGBPerJob, not both"),
        (submission(step("x", panda={"nCore": 2})), "nCore is 2, and prun takes 1 or 8"),
        (submission(step("x", panda={"mergeScript": "./m.sh; rm -rf $HOME"})), "is read by a shell"),
        (submission(step("x", panda={"allowNoOutput": ("c",)})), "none of its outputs; they are: \\*.root"),
        (submission(step("x", image="docker://a b")), "no name of a container image"),
        (submission(step("x", reads("raw", match="a,b"))), "match 'a,b'"),
        (submission(step("y"), step("x", "y", "y")), "reads the same input twice: y, y"),
        (submission(step("x", "raw", "a", "b"), inputs={"raw": RAW, "a": RAW, "b": RAW}), "are the same dataset"),
        (submission(step("y", outputs=()), step("x", "y")), "which says no outputs"),
        (submission(step("x", "nothing")), "neither an input nor a step"),
        (submission(step("x", "raw"), inputs={"raw": Did("s", "a b")}), "no dataset called 's:a b'"),
        (submission(step("x", "list"), file_lists={"list": ("/a$b",)}), "no file called"),
        (submission(step("x", reads("list", match="z")), file_lists={"list": ("/a",)}), "none of the 1 files"),
    ],
)
def test_what_prun_could_not_do_is_refused(told: Submission, said: str) -> None:
    with pytest.raises(EngineRefused, match=said):
        for each in told.steps:
            prun.arguments(told, each, site())


def test_the_clients_variables_hold_no_secret_and_end_as_the_client_wants_them() -> None:
    told = prun.environment(site(production_role=True, ca_directory="/etc/grid-security/certificates"))

    assert told["PANDA_AUTH_VO"] == "sphenix.production"
    assert told["PANDACACHE_URL"] == told["PANDA_URL_SSL"] == "http://127.0.0.1:25443/server/panda"
    assert prun.environment(site(url="http://a/b/"))["PANDA_URL"] == "http://a:80/server/panda"
    assert told["X509_CERT_DIR"] == "/etc/grid-security/certificates"
    assert not any("TOKEN" in name for name in told)
