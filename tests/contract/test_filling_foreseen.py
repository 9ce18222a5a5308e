"""What would be refused is said beforehand, in the words in which it is refused then."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.core.registering import Mistold, Policy, Told, planned
from orchestrator.register.foreseeing import Foresight
from orchestrator.register.reading import Reader
from orchestrator.register.summing import Summing
from orchestrator.register.verdicts import Foreseen, What
from orchestrator.rucio.port import NotPermitted, RseNotFound
from orchestrator.store.registration_rows import Wanted
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.registration import FileState, ManifestEntry, RegisteredFile, RegistrationState
from tests.contract.filling import SCOPE, World
from tests.services.catalog import FakeCatalog, Faulty, When


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    """With a catalog that has one scope, and keeps files of its RSE in one folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    return World(folder, store, FakeCatalog(scopes=[SCOPE], rses={"DISK": f"{folder}/"}))


def told(world: World, name: str, content: str = "content", **sums: object) -> RegisteredFile:
    """A file with what its manifest says of it."""
    path = world.folder / name
    path.write_text(content)
    return planned(Told(ManifestEntry.model_validate({"pfn": str(path), **sums}), "list:1"), SCOPE, Policy(), str)


def foreseen(
    world: World, files: Sequence[RegisteredFile | Mistold], *, reads: bool = False, rse: str | None = None
) -> dict[str, Foreseen]:
    summing = Summing(Reader(), verify=reads)
    sight = Foresight(world.store.registrations, world.catalog, summing, at_once=2, reads=reads)
    return {
        each.did.removeprefix(f"{SCOPE}:"): each for each in sight.foresee(world.wanted(containers=(), rse=rse), files)
    }


def refusals(world: World, files: Sequence[RegisteredFile]) -> tuple[dict[str, str], dict[str, str]]:
    """By name, why files are refused: as it is foreseen, and as it comes."""
    before = {name: str(each.reason) for name, each in foreseen(world, files).items() if each.what is What.REFUSE}
    filled = world.fill(files, world.wanted(containers=()))
    really = world.store.registrations.files(filled.registration.id, [FileState.REFUSED])
    return before, {file.did.removeprefix(f"{SCOPE}:"): str(file.reason) for file in really}


def test_every_file_that_is_refused_is_foreseen_with_its_reason(world: World, tmp_path: Path) -> None:
    """What is no file that can be read; what is elsewhere than at the RSE; what its list says wrongly."""
    os.mkfifo(world.folder / "fifo.root")
    (world.folder / "dangling.root").symlink_to(world.folder / "nowhere")
    (world.folder / "link.root").symlink_to(world.file("good.root").path or "")
    strange = ("fifo.root", "dangling.root", "link.root", "missing.root")
    (tmp_path / "outside.root").write_text("x")
    outside = replace(world, folder=tmp_path).file("outside.root")
    scopeless = world.file("s.root").model_copy(update={"did": "no.such:s.root"})
    files = [
        *(replace_path(world, name) for name in strange),
        world.file("good.root"),
        world.file("empty.root", ""),
        told(world, "size.root", bytes=3),
        outside,
        scopeless,
    ]

    before, really = refusals(world, files)

    assert before == really
    assert set(before) == {*strange, "empty.root", "size.root", "outside.root", "no.such:s.root"}
    assert "a FIFO" in before["fifo.root"] and "a link to" in before["link.root"]
    assert "set registration.follow_links" in before["dangling.root"]
    assert "does not lie at DISK" in before["outside.root"] and "no scope no.such" in before["no.such:s.root"]


def replace_path(world: World, name: str) -> RegisteredFile:
    """A file that is planned, whatever there is on the disk."""
    path = str(world.folder / name)
    return RegisteredFile(did=f"{SCOPE}:{name}", path=path, pfn=path, state=FileState.PLANNED)


def test_sums_that_a_list_tells_are_compared_if_files_are_to_be_read(world: World) -> None:
    """Else they are taken as they were told; what the catalog has is compared in any case."""
    wrong = told(world, "a.root", md5="0" * 32)
    there = told(world, "b.root", md5="0" * 32)
    sums = Reader().sums(str(there.path))
    world.fill([there.model_copy(update={"md5": None, "told": None})], Wanted(None, closes=False))
    assert sums.md5 != "0" * 32

    unread, read = foreseen(world, [wrong, there]), foreseen(world, [wrong, there], reads=True)

    assert (unread["a.root"].what, unread["b.root"].what) == (What.REGISTER, What.REFUSE)
    assert (read["a.root"].what, read["b.root"].what) == (What.REFUSE, What.REFUSE)
    assert "its manifest says md5 0000" in str(read["a.root"].reason)


def test_a_dataset_that_cannot_be_made_is_foreseen(world: World) -> None:
    """Its scope is unknown, its name is no name, or it is a container's or a file's."""
    container, file = Did(SCOPE, "BOX"), Did(SCOPE, "a.root")
    world.catalog.add_container(container)
    world.fill([world.file("a.root")], Wanted(None, closes=False))
    for did, why in [
        (Did("no.such", "RUN"), "no scope no.such"),
        (Did(SCOPE, "a name"), "a name is 1 to 250"),
        (container, "there is no dataset"),
        (file, "there is no dataset"),
    ]:
        (seen,) = foreseen(replace(world, dataset=did), []).values()

        assert (seen.what, why in str(seen.reason)) == (What.REFUSE, True), seen
        filled = replace(world, dataset=did).fill([], Wanted(did))
        assert filled.registration.state is RegistrationState.FAILED


def test_an_rse_or_a_permission_that_is_missing_ends_it(world: World) -> None:
    """It is about all files alike."""
    refusing = Faulty(world.catalog, {("demand_places", 1): When.BEFORE}, error=lambda: NotPermitted("not you"))

    with pytest.raises(NotPermitted, match="not you"):
        foreseen(replace(world, catalog=refusing), world.files("abc"))
    with pytest.raises(RseNotFound):
        foreseen(world, world.files("abc"), rse="NO-SUCH-RSE")


def test_a_scope_that_is_missing_is_not_searched_for_file_by_file(world: World) -> None:
    """Thousands of files may lack the same scope."""
    files = [file.model_copy(update={"did": file.did.replace(SCOPE, "no.such")}) for file in world.files("abcdefgh")]
    catalog = Faulty(world.catalog)

    found = foreseen(replace(world, catalog=catalog), files)

    assert [found[f"no.such:{letter}.root"].what for letter in "abcdefgh"] == [What.REFUSE] * 8
    assert catalog.calls["demand_places"] == 4  # two files at once


def test_what_a_registration_has_attached_is_not_looked_for_on_the_disk(world: World) -> None:
    """As when it goes on: the file may be gone since. After one that is done, it is."""
    world.fill([*world.files("ab"), world.file("e.root", "")], world.wanted(containers=()))
    (world.folder / "a.root").unlink()
    file = replace_path(world, "a.root")

    assert foreseen(world, [file])["a.root"].what is What.KEEP

    world.fill(world.files("b"), Wanted(Did(SCOPE, "OTHER"), closes=False))
    (world.folder / "b.root").unlink()
    other = replace(world, dataset=Did(SCOPE, "OTHER"))
    assert foreseen(other, [replace_path(world, "b.root")])["b.root"].what is What.REFUSE
