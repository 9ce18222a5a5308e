"""Files are registered, looked up and written down on the command line; on the embedded catalog."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.clock import utc_now
from orchestrator.core.registering import Policy, Told, planned
from orchestrator.store.registration_rows import Wanted
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.registration import ManifestEntry
from tests.unit.cli.conftest import Muleteer

DATASET = "group.x:RUN-00021615"


@pytest.fixture
def data(home: Path) -> Path:
    """Three files of 10, 20 and 30 bytes."""
    folder = home / "data"
    folder.mkdir()
    for number in range(3):
        (folder / f"seg-{number}.root").write_bytes(b"x" * 10 * (number + 1))
    return folder


def content(muleteer: Muleteer, dataset: str = DATASET) -> dict[str, Any]:
    """State of a dataset, and its files by name."""
    shown = muleteer("catalog", "show", dataset, "--json").json
    return {"state": shown["state"], "files": sorted(each["name"] for each in shown["content"])}


ALL = {"state": "closed", "files": ["seg-0.root", "seg-1.root", "seg-2.root"]}


def test_a_dataset_is_made_filled_and_closed_at_once(muleteer: Muleteer, data: Path) -> None:
    """With sums and GUIDs; the containers above it are there, and each holds the next."""
    said = muleteer("register", "fill", DATASET, data, "--containers", "/ALL/2026", "--metadata", "run_number=21615")

    assert said.code == 0
    assert said.out.splitlines()[0] == f"registration 1 is done: {DATASET} closed with 3 files"
    assert content(muleteer) == ALL
    assert muleteer("catalog", "show", DATASET, "--json").json["metadata"] == {"run_number": 21615}
    assert [each["name"] for each in muleteer("catalog", "show", "group.x:2026", "--json").json["content"]] == [
        "RUN-00021615"
    ]
    passed = muleteer("check", "dataset", DATASET, "--closed", "--has", "md5", "--has", "guid", "--has", "adler32")
    assert passed.code == 0


def test_a_simulation_says_it_and_changes_nothing(muleteer: Muleteer, data: Path) -> None:
    (data / "late.partial").write_bytes(b"x")

    said = muleteer("register", "fill", DATASET, data, "--simulate")

    assert said.code == 1
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[:2] == [
        f"create {DATASET}",
        "refuse group.x:late.partial (its name fits *.partial, and such files are not registered (told by "
        + f"{data}))",
    ]
    assert lines[-1] == "1 create, 1 refuse, 3 register; nothing was changed"
    assert muleteer("catalog", "list", "--json").json == []
    assert muleteer("register", "list", "--json").json == []


def test_what_is_refused_keeps_the_dataset_open_until_it_is_mended(muleteer: Muleteer, data: Path) -> None:
    """All others are in it; resuming tries what was refused, and closes it then."""
    empty = data / "seg-3.root"
    empty.touch()

    first = muleteer("register", "fill", DATASET, data)
    assert first.code == 1
    assert "it is empty" in first.out
    assert "`muleteer register resume 1` goes on" in " ".join(first.err.split())
    assert content(muleteer)["state"] == "open"
    refused = muleteer("register", "show", "1", "--state", "refused", "--json").json
    assert [each["did"] for each in refused["content"]] == ["group.x:seg-3.root"]
    assert muleteer("register", "close-dataset", DATASET).code == 3

    empty.write_bytes(b"now")
    again = muleteer("register", "resume", "1")
    assert again.code == 0
    assert content(muleteer) == {"state": "closed", "files": [*ALL["files"], "seg-3.root"]}


def test_a_file_that_has_changed_is_an_error_that_names_both(muleteer: Muleteer, data: Path) -> None:
    """The first registration stands for ever; a changed file needs a name of its own."""
    muleteer("register", "fill", DATASET, data)
    (data / "seg-0.root").write_bytes(b"y" * 10)

    said = muleteer("register", "fill", "group.x:OTHER", data / "seg-0.root", "--json")

    assert said.code == 1
    (refused,) = said.json["refused"]
    assert refused["did"] == "group.x:seg-0.root"
    assert "adler32" in refused["reason"]


def test_files_are_added_without_closing(muleteer: Muleteer, data: Path) -> None:
    """Also one of another name, and files that go into no dataset."""
    one = muleteer("register", "add-file", data / "seg-0.root", "--dataset", DATASET, "--did", "first.root")
    alone = muleteer("register", "add-file", data / "seg-1.root", "--scope", "group.x")

    assert (one.code, alone.code) == (0, 0)
    assert content(muleteer) == {"state": "open", "files": ["first.root"]}
    assert muleteer("locate", "group.x:seg-1.root").out == f"group.x:seg-1.root\tLOCAL\t{data}/seg-1.root\n"


def test_a_manifest_is_written_and_registered_again_elsewhere(muleteer: Muleteer, data: Path, home: Path) -> None:
    """LFN, PFN, size, sums and GUID: sums of a manifest are not computed again, but compared on request."""
    muleteer("register", "fill", DATASET, data)

    for name in ("m.csv", "m.json", "m.yaml"):
        assert muleteer("manifest", DATASET, "--out", home / name).code == 0
    printed = muleteer("manifest", DATASET).out
    again = muleteer(
        "register", "fill", "group.x:COPY", "--from", home / "m.json", "--verify", "--report", home / "r.json"
    )
    piped = muleteer("register", "fill", "group.x:PIPED", "-", given=printed)

    assert (home / "m.csv").read_text() == printed
    assert (again.code, piped.code) == (0, 0), again.out + piped.out + piped.err
    assert content(muleteer, "group.x:COPY")["files"] == ALL["files"]
    report = json.loads((home / "r.json").read_text())
    assert (report["registration"]["state"], report["refused"], report["bytes_read"]) == ("done", [], 60)


def test_a_wrong_sum_in_a_manifest_is_found(muleteer: Muleteer, data: Path, home: Path) -> None:
    (home / "m.csv").write_text(f"pfn,md5\n{data}/seg-0.root,{'0' * 32}\n")

    said = muleteer("register", "fill", DATASET, "--from", home / "m.csv", "--json")

    assert said.code == 1
    assert "md5" in said.json["refused"][0]["reason"]


def test_datasets_are_made_and_closed_by_hand(muleteer: Muleteer, data: Path) -> None:
    """An empty one is closed only if that is meant."""
    made = muleteer("register", "add-dataset", DATASET, "--containers", "A/B", "--lifetime", "30d")
    again = muleteer("register", "add-dataset", DATASET)
    empty = muleteer("register", "close-dataset", DATASET)
    forced = muleteer("register", "close-dataset", DATASET, "--force")

    assert (made.out, again.out) == (f"{DATASET} is created\n", f"{DATASET} is there already, and open\n")
    assert (empty.code, "it is empty" in empty.err) == (3, True)
    assert forced.out == f"{DATASET} is closed\n"


def test_a_closed_dataset_takes_nothing_more(muleteer: Muleteer, data: Path) -> None:
    """What is in it already is no error; what is not is said."""
    muleteer("register", "fill", DATASET, data)
    (data / "seg-9.root").write_bytes(b"late")

    same = muleteer("register", "fill", DATASET, data / "seg-0.root", data / "seg-1.root", data / "seg-2.root")
    more = muleteer("register", "fill", DATASET, data)

    assert same.code == 0
    assert more.code == 1
    assert "seg-9.root" in " ".join(more.out.split())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["fill", "NONSENSE", "x"], "is not a DID"),
        (["fill", DATASET], "say which files"),
        (["fill", DATASET, "x", "--metadata", "run"], "is not KEY=VALUE"),
        (["fill", DATASET, "x", "--lifetime", "soon"], "soon"),
        (["add-file", "x"], "say the scope"),
        (["add-file", "x", "--scope", "s", "--lifetime", "1d"], "are about a dataset"),
        (["add-dataset", DATASET, "--containers", "A//B"], "is no way of containers"),
    ],
)
def test_what_cannot_be_understood_is_said(muleteer: Muleteer, words: list[str], text: str) -> None:
    said = muleteer("register", *words)

    assert said.code == 2
    assert text in " ".join(said.err.split())


def test_nothing_is_there_to_be_registered(muleteer: Muleteer, home: Path) -> None:
    """Each source that has nothing is named, and the dataset is not closed."""
    (home / "empty").mkdir()

    said = muleteer("register", "fill", DATASET, home / "empty", home / "none", "--json")

    assert said.code == 1
    assert "there are no files in this folder" in said.json["registration"]["reason"]
    assert content(muleteer) == {"state": "open", "files": []}


@pytest.mark.parametrize("source", [["--from", "list.csv"], ["-"]])
def test_a_list_without_a_file_closes_nothing(muleteer: Muleteer, home: Path, source: list[str]) -> None:
    """As of somebody who died before he wrote it."""
    (home / "list.csv").write_text("pfn,md5\n")

    said = muleteer("register", "fill", DATASET, *[word.replace("list", f"{home}/list") for word in source], given="")

    assert said.code == 1
    assert "it names no file" in " ".join(said.out.split())
    assert content(muleteer) == {"state": "open", "files": []}


def test_files_that_are_added_do_not_close_over_what_was_refused(muleteer: Muleteer, data: Path) -> None:
    """The files that were refused, the containers and the closing are still to come; they are done by resuming."""
    (data / "seg-3.root").touch()
    (data / "seg-4.root").touch()
    muleteer("register", "fill", DATASET, data, "--containers", "A/B")
    (data / "seg-3.root").write_bytes(b"mended")

    added = muleteer("register", "add-file", data / "seg-3.root", "--dataset", DATASET)

    assert added.code == 1 and "seg-4.root: " in added.out.replace("\n", "")
    assert muleteer("register", "close-dataset", DATASET).code == 3
    kept = muleteer("register", "show", "1", "--json").json
    assert (kept["closes"], kept["containers"]) == (True, ["A/B"])
    (data / "seg-4.root").write_bytes(b"mended too")
    assert muleteer("register", "resume", "1").code == 0
    assert content(muleteer)["state"] == "closed"


def test_a_file_that_has_another_name_now_is_let_go_when_that_is_said(muleteer: Muleteer, data: Path) -> None:
    """Until then it is wanted still; the message says what to do."""
    (data / "late.root.partial").write_bytes(b"late")
    muleteer("register", "fill", DATASET, data)
    (data / "late.root.partial").rename(data / "late.root")

    still = muleteer("register", "fill", DATASET, data)
    told = " ".join(still.out.split())
    assert still.code == 1 and "group.x:late.root.partial; name those too, or say --only-these" in told
    assert muleteer("register", "fill", DATASET, data, "--only-these").code == 0
    assert content(muleteer) == {"state": "closed", "files": ["late.root", *ALL["files"]]}


def test_after_a_list_that_could_not_be_read_the_hint_fits(muleteer: Muleteer, data: Path) -> None:
    """What resuming would refuse is not offered."""
    said = muleteer("register", "fill", DATASET, data, data / "nosuch.root")
    closing = muleteer("register", "close-dataset", DATASET)

    for text in (" ".join(said.err.split()), " ".join(closing.err.split())):
        assert "registering the same files once more goes on" in text
        assert "resume" not in text
    (data / "nosuch.root").write_bytes(b"there")
    assert muleteer("register", "fill", DATASET, data).code == 0


def test_what_is_there_of_a_dataset_is_simulated(muleteer: Muleteer, data: Path) -> None:
    """A closed one takes nothing; another value of its metadata is an error in both."""
    muleteer("register", "fill", DATASET, data / "seg-0.root")
    muleteer("register", "add-dataset", "group.x:OPEN", "--metadata", "run_number=1")

    closed = muleteer("register", "add-dataset", DATASET, "--simulate")
    more = muleteer("register", "fill", DATASET, data / "seg-0.root", data / "seg-1.root", "--simulate", "--json")
    differs = muleteer("register", "add-dataset", "group.x:OPEN", "--metadata", "run_number=2", "--simulate")
    really = muleteer("register", "add-dataset", "group.x:OPEN", "--metadata", "run_number=2", "--lifetime", "2d")
    kept = muleteer("register", "add-dataset", "group.x:OPEN", "--lifetime", "2d")

    assert (closed.code, "it is closed, with 1 files" in closed.out) == (0, True)
    assert (more.code, more.json["counts"]) == (1, {"keep": 2, "refuse": 1})
    assert (differs.code, really.code) == (1, 3)
    assert "run_number 1, and not 2" in " ".join(really.err.split())
    assert (kept.code, "keeps its lifetime, which is for ever" in " ".join(kept.out.split())) == (0, True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["add-file", "data/seg-0.root", "--scope", "group.x", "--md5", "xyz"], "md5"),
        (["add-file", "data", "--dataset", DATASET, "--did", "one"], "are about one file"),
        (["fill", DATASET, "data", "--report", "/nowhere/at/all"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_begun(
    muleteer: Muleteer, data: Path, words: list[str], text: str
) -> None:
    said = muleteer(
        "register", *[str(data) + word.removeprefix("data") if word.startswith("data") else word for word in words]
    )

    assert said.code == 2
    assert text in " ".join(said.err.split())
    begun = muleteer("register", "list", "--json")
    assert "nothing was ever stored" in begun.err or begun.json == []


def test_one_file_has_one_name(muleteer: Muleteer, data: Path) -> None:
    said = muleteer("register", "add-file", data, "--scope", "group.x", "--did", "one")

    assert said.code == 2
    assert "are about one file" in " ".join(said.err.split())


def test_what_is_nowhere_is_said(muleteer: Muleteer, data: Path) -> None:
    muleteer("register", "fill", DATASET, data)

    said = muleteer("locate", DATASET, "group.x:NONE", "--json")

    assert said.code == 1
    assert [each["rse"] for each in said.json["copies"]] == ["LOCAL"] * 3
    assert said.json["without"] == ["group.x:NONE"]
    assert os.fspath(data) in said.json["copies"][0]["pfn"]


def test_what_is_told_twice_or_in_strange_letters_is_among_the_refused(
    muleteer: Muleteer, data: Path, home: Path
) -> None:
    """Each with its place on the list: on the terminal, in JSON and in the report."""
    other = home / "other"
    other.mkdir()
    (other / "seg-0.root").write_bytes(b"another")
    Path(os.fsdecode(os.fsencode(other) + b"/bad\xff.root")).write_bytes(b"x")

    said = muleteer("register", "fill", DATASET, data, other, "--report", home / "r.json")
    as_json = muleteer("register", "fill", DATASET, data, other, "--json")

    refused = as_json.json["refused"]
    assert refused == json.loads((home / "r.json").read_text())["refused"]
    reasons = [each["reason"] for each in refused if each["place"] is not None]
    assert len(reasons) == 2 and "not UTF-8" in "".join(reasons) and "was told before" in "".join(reasons)
    table = said.out.partition("refused ")[2]
    assert "not UTF-8: rename it" in table and "seg-0.root was told before" in table


def test_a_long_reason_is_cut_in_the_list_and_whole_elsewhere(muleteer: Muleteer, data: Path) -> None:
    """A table with a line for each registration stays one."""
    for number in range(9):
        (data / f"empty-{number}.root").touch()
    muleteer("register", "fill", DATASET, data)

    listed, as_json = muleteer("register", "list"), muleteer("register", "list", "--json").json
    whole = as_json[0]["reason"]

    assert len(whole) > 200 and whole in muleteer("register", "show", "1").out.replace("\n", "")
    assert whole[:77] + "..." in listed.out and whole[:90] not in listed.out


def test_a_simulation_reads_what_a_list_tells_only_if_it_is_to_verify(
    muleteer: Muleteer, data: Path, home: Path
) -> None:
    """It says so, and the words are those of the real call."""
    (home / "m.csv").write_text(f"pfn,md5\n{data}/seg-0.root,{'0' * 32}\n")
    words = ("register", "fill", DATASET, "--from", home / "m.csv")

    unread = muleteer(*words, "--simulate", "--json")
    read = muleteer(*words, "--simulate", "--verify", "--json")
    really = muleteer(*words, "--json")

    assert (unread.code, unread.json["counts"]) == (0, {"create": 1, "register": 1})
    assert "with --verify they are" in " ".join(unread.err.split())
    assert (read.code, read.json["simulated"][1]["reason"]) == (1, really.json["refused"][0]["reason"])


def test_links_are_refused_before_as_they_are_then(muleteer: Muleteer, data: Path, home: Path) -> None:
    """By the setting registration.follow_links."""
    (data / "link.root").symlink_to(data / "seg-0.root")

    refused = muleteer("register", "fill", DATASET, data / "link.root", "--simulate", "--json")
    (home / "muleteer.toml").write_text("[registration]\nfollow_links = true\n")
    followed = muleteer("register", "fill", DATASET, data / "link.root", "--simulate", "--json")

    assert (refused.code, followed.code) == (1, 0)
    assert "set registration.follow_links" in refused.json["simulated"][1]["reason"]


def test_somebody_who_fills_the_same_dataset_is_named(muleteer: Muleteer, data: Path, home: Path) -> None:
    """With the moment since when he may be at work."""
    muleteer("register", "fill", DATASET, data / "seg-0.root", "--open")
    store = Store.open(f"sqlite:///{home / 'muleteer.db'}")
    try:
        begun = store.registrations.begin(Wanted(Did.parse(DATASET)), who="cli:jane", why=None, now=utc_now())
        plan = planned(Told(ManifestEntry(pfn=str(data / "seg-1.root")), "list:1"), "group.x", Policy(), lambda: "")
        store.registrations.plan(begun.registration, [plan], lambda: str(uuid4()))
        store.registrations.listed(begun, whole=True, who="cli:jane", now=utc_now())
    finally:
        store.close()

    said = muleteer("register", "fill", DATASET, data / "seg-2.root")

    assert said.code == 1
    assert "cli:jane at " in said.out and "wait for that if it is still at work" in " ".join(said.out.split())
