"""Which files are registered, under which names."""

from __future__ import annotations

from itertools import count

import pytest
from pydantic import ValidationError

from orchestrator.core.registering import Mistold, Policy, Told, lfn_of, name_mistake, places, plan, planned
from schemas.did import Did
from schemas.registration import FileState, ManifestEntry, RegisteredFile, Rewrite

DIRECT = Rewrite(prefix="/direct/x+y", pfn="/x/y")


def told(pfn: str, place: str = "list:1", **fields: object) -> Told:
    return Told(ManifestEntry.model_validate({"pfn": pfn, **fields}), place)


def planned_of(telling: Told, policy: Policy | None = None, rse: str | None = None) -> RegisteredFile:
    return planned(telling, "group.x", policy or Policy(), lambda: "new-guid", rse)


def test_a_file_is_planned_by_the_last_part_of_its_name_and_with_all_that_was_told() -> None:
    """Only the GUID is new, and only if nobody told one."""
    known = planned_of(told("/data/a.root", bytes=7, md5="A" * 32, events=3))

    assert known == RegisteredFile(
        did="group.x:a.root",
        path="/data/a.root",
        pfn="/data/a.root",
        state=FileState.PLANNED,
        bytes=7,
        md5="a" * 32,
        guid="new-guid",
        events=3,
        told="bytes md5",
    )
    assert planned_of(told("/data/a.root")).told is None
    assert planned_of(told("/a", guid="0" * 8 + "-0000-0000-0000-" + "0" * 12)).guid != "new-guid"


@pytest.mark.parametrize(
    ("lfn", "did"), [("b.root", "group.x:b.root"), ("user.y:b.root", "user.y:b.root"), ("d/b", "group.x:d/b")]
)
def test_a_manifest_may_name_a_file_otherwise_and_in_another_scope(lfn: str, did: str) -> None:
    """The LFN counts over the last part of the PFN."""
    assert planned_of(told("/data/a.root", lfn=lfn)).did == did


@pytest.mark.parametrize(
    ("pfn", "lfn"),
    [("root://h//d/a.root?svcClass=x", "a.root"), ("/d/a?b", "a?b"), ("/d/", ""), ("file:///d/a", "a")],
)
def test_the_lfn_of_a_url_has_no_question(pfn: str, lfn: str) -> None:
    """Of a path a question mark is part of the name."""
    assert lfn_of(pfn) == lfn


@pytest.mark.parametrize(
    ("pfn", "rewrite", "registered", "path"),
    [
        ("/direct/x+y/d/a", [DIRECT], "/x/y/d/a", "/direct/x+y/d/a"),
        ("/direct/x+yz/a", [DIRECT], "/direct/x+yz/a", "/direct/x+yz/a"),
        ("/direct/x+y", [DIRECT], "/x/y", "/direct/x+y"),
        ("//direct//x+y/./a", [DIRECT], "/x/y/a", "/direct/x+y/a"),
        ("/d/a", [Rewrite(prefix="/d/", pfn="root://h//d")], "root://h//d/a", "/d/a"),
        ("/d/a", [Rewrite(prefix="/", pfn="root://h//")], "root://h//d/a", "/d/a"),
        ("/d/a", [Rewrite(prefix="/d", pfn="root://h//")], "root://h//a", "/d/a"),
        ("root://h//d/a", [Rewrite(prefix="root://h//", path="/mnt/")], "root://h//d/a", "/mnt/d/a"),
        ("root://h//d/a", [], "root://h//d/a", None),
        ("file:///d/a%20b", [], "file:///d/a%20b", "/d/a b"),
        ("/a/b/c", [Rewrite(prefix="/a", pfn="/1"), Rewrite(prefix="/a/b", pfn="/2")], "/1/b/c", "/a/b/c"),
        ("/a/c", [Rewrite(prefix="/a", pfn="/1", path="/2")], "/1/c", "/2/c"),
    ],
)
def test_the_first_prefix_that_fits_rewrites(pfn: str, rewrite: list[Rewrite], registered: str, path: str) -> None:
    """A prefix is whole folders. What is registered and where it is read are two things."""
    assert places(pfn, rewrite) == (registered, path)


def test_a_rewriting_that_changes_nothing_is_refused() -> None:
    """Somebody forgot half of it."""
    with pytest.raises(ValidationError, match="changes nothing"):
        Rewrite(prefix="/a")


@pytest.mark.parametrize("name", ["a", "/a", "7", "A.b-c_d/e", "a" * 250])
def test_a_name_that_rucio_takes_is_no_mistake(name: str) -> None:
    """Letters, digits, dots, dashes, underscores and slashes."""
    assert name_mistake(Did("group.x-y_Z", name)) is None


@pytest.mark.parametrize(
    ("did", "said"),
    [
        (Did("s", "a b"), "has ' ' in it"),
        (Did("s", "a\n"), r"has '\n' in it"),
        (Did("s", "é"), "has 'é' in it"),
        (Did("s", "_a"), "begins with '_'"),
        (Did("s", "a:b"), "has ':' in it"),
        (Did("s", "a+b"), "has '+' in it"),
        (Did("s", ""), "no name"),
        (Did("s", "a" * 251), "251 characters"),
        (Did("s" * 26, "a"), "scope"),
        (Did("s t", "a"), "scope"),
        (Did("", "a"), "scope"),
    ],
)
def test_a_name_that_rucio_would_refuse_is_found_before_it_is_asked(did: Did, said: str) -> None:
    """The text says which sign, and what to do."""
    assert said in (name_mistake(did) or "")


@pytest.mark.parametrize(
    ("telling", "policy", "said"),
    [
        (told("/d/a.partial"), Policy(), "*.partial"),
        (told("/d/a.partial", lfn="a.root"), Policy(), "*.partial"),
        (told("/d/a.root", lfn="a.partial"), Policy(), "*.partial"),
        (told("/tmp/a"), Policy(refuse=("/tmp/*",)), "/tmp/*"),
        (told("/d/a", bytes=0), Policy(), "empty"),
        (told("/d/a", bytes=9), Policy(min_bytes=10), "9 bytes"),
        (told("d/a"), Policy(), "neither an absolute path nor a URL"),
        (told("/d\n/a"), Policy(), "control character"),
        (told("/d/../a"), Policy(), ".. in it"),
        (told("/d/a b"), Policy(), "' '"),
        (told("/d/a", rse="THERE"), Policy(), "THERE"),
    ],
)
def test_what_is_not_to_be_registered_is_refused_with_its_place(telling: Told, policy: Policy, said: str) -> None:
    """It is a file of the registration all the same: with a GUID, and tried again when it is resumed."""
    file = planned_of(telling, policy, rse="HERE")

    assert file.state is FileState.REFUSED
    assert file.reason is not None
    assert said in file.reason
    assert "list:1" in file.reason
    assert file.guid == "new-guid"


@pytest.mark.parametrize("telling", [told("/d/a b", lfn="a"), told("/d/é/a"), told("/d/a", bytes=1, rse="HERE")])
def test_what_only_looks_strange_is_planned(telling: Told) -> None:
    """A path may have what a name may not."""
    assert planned_of(telling, rse="HERE").state is FileState.PLANNED


def test_a_file_is_planned_once_however_often_it_is_told() -> None:
    """The same again is harmless; the same name for another file, or another name for the same, is not."""
    tellings: list[Told | Mistold] = [
        told("/d/a", "list:1"),
        told("/d/a", "list:2"),
        told("/direct/x+y/a", "list:3"),
        Mistold("list:4", "no file"),
        told("/d/a", "list:5", lfn="b"),
        told("/d/a", "list:6", bytes=3),
        told("/d/c", "list:7"),
    ]
    numbers = count()

    files = list(plan(tellings, "group.x", Policy(rewrite=(DIRECT,)), lambda: str(next(numbers))))

    assert [file.did for file in files if isinstance(file, RegisteredFile)] == ["group.x:a", "group.x:c"]
    mistold = [(each.place, each.harmless) for each in files if isinstance(each, Mistold)]
    assert mistold == [("list:2", True), ("list:3", False), ("list:4", False), ("list:5", False), ("list:6", False)]
    assert "list:1" in str(files[1])
    assert "group.x:a" in str(files[4])
