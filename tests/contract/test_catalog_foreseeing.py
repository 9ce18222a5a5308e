"""What a catalog says beforehand of names and places, and that nothing is changed by asking."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.rucio.client.catalog import RucioCatalog
from orchestrator.rucio.port import (
    Catalog,
    CatalogError,
    DidExists,
    FileEntry,
    InvalidDid,
    InvalidPfn,
    NotAdmitted,
    NotPermitted,
    RseNotFound,
    ScopeNotFound,
)
from schemas.did import Did
from tests.contract.catalogs import CATALOGS, STRICT, Desk, access_to, furnished
from tests.services.rucio import Rucio

strict = pytest.mark.parametrize("desk", STRICT, indirect=True)


@pytest.fixture(params=list(CATALOGS))
def desk(request: pytest.FixtureRequest) -> Desk:
    """Each catalog in turn."""
    return CATALOGS[request.param](request)


@pytest.fixture
def catalog(desk: Desk) -> Catalog:
    return desk.catalog


def refusal(catalog: Catalog, entry: FileEntry, rse: str | None = None) -> CatalogError:
    """What is said beforehand of a file, which registering it says as well."""
    with pytest.raises(CatalogError) as before:
        catalog.demand_places({entry.did: entry.pfn}, rse)
    with pytest.raises(CatalogError) as really:
        catalog.register([entry], rse)
    assert type(before.value) is type(really.value)
    for error in (before, really):
        assert (rse or entry.did.scope) in str(error.value)
    return before.value


def test_asking_for_places_changes_nothing(desk: Desk, catalog: Catalog) -> None:
    """Files that could be registered, new ones and one that is there, are not registered by it."""
    there = desk.file("a.root")
    catalog.register([there])
    new = desk.file("b.root")

    catalog.demand_places({there.did: there.pfn, new.did: new.pfn})
    catalog.demand_places({}, desk.rses[1])

    assert list(catalog.registered([there.did, new.did])) == [there.did]
    desk.expect()


def test_a_name_that_is_a_datasets_is_said_beforehand(desk: Desk, catalog: Catalog) -> None:
    """In the words of registering it."""
    entry = desk.file("RUN-1")
    catalog.add_dataset(entry.did)

    assert isinstance(refusal(catalog, entry), InvalidDid)


@strict
def test_a_place_that_is_not_the_rses_is_said_beforehand(desk: Desk, catalog: Catalog) -> None:
    """Also a second place of a file that is there, and an RSE that there is not."""
    there = desk.file("a.root")
    catalog.register([there])

    outside = refusal(catalog, replace(desk.file("b.root"), pfn="file://localhost/elsewhere/b.root"))
    moved = refusal(catalog, replace(there, pfn=desk.pfn(desk.rses[0], "other.root")))

    assert isinstance(outside, InvalidPfn) and isinstance(moved, InvalidPfn)
    assert isinstance(refusal(catalog, desk.file("b.root"), "NO-SUCH-RSE"), RseNotFound)


@strict
def test_a_scope_that_there_is_not_is_said_beforehand(desk: Desk, catalog: Catalog) -> None:
    """Of files, datasets and containers."""
    did = Did("t.no-such-scope", "a.root")

    assert isinstance(refusal(catalog, replace(desk.file("a.root"), did=did)), ScopeNotFound)
    with pytest.raises(ScopeNotFound, match=r"no scope t\.no-such-scope"):
        catalog.demand_name(did)


def test_a_name_that_is_taken_is_said_beforehand(desk: Desk, catalog: Catalog) -> None:
    """By a dataset or by a file. One that is free is not taken by asking."""
    run, file = desk.did("RUN-1"), desk.file("a.root")
    catalog.demand_name(run)
    catalog.demand_name(run)
    catalog.add_dataset(run)
    catalog.register([file])

    for did in (run, file.did):
        with pytest.raises(DidExists, match=str(did)):
            catalog.demand_name(did)


@pytest.mark.parametrize("desk", ["embedded", "fake", "rucio"], indirect=True)
def test_a_name_that_cannot_be_is_said_beforehand(desk: Desk, catalog: Catalog) -> None:
    with pytest.raises(InvalidDid):
        catalog.demand_name(desk.did("a name"))


@pytest.fixture
def stranger(rucio: Rucio, tmp_path_factory: pytest.TempPathFactory) -> RucioCatalog:
    """The door to the server for an account that may register nothing."""
    disk = next(iter(furnished(rucio)[1]))
    login = rucio.catalog.add_account("stranger-to-files")
    return RucioCatalog(access_to(rucio, login, tmp_path_factory.mktemp("tokens")), rse=disk)


@pytest.mark.parametrize("desk", ["rucio"], indirect=True)
def test_a_permission_that_is_missing_is_said_beforehand(desk: Desk, stranger: RucioCatalog) -> None:
    """A Rucio server says it of files at an RSE that does not know by itself where they lie."""
    entry = desk.file("a.root")

    with pytest.raises(NotPermitted, match="can not add file replicas"):
        stranger.demand_places({entry.did: entry.pfn})
    with pytest.raises(NotPermitted, match="can not add file replicas"):
        stranger.register([entry])

    assert desk.catalog.registered([entry.did]) == {}


def test_an_account_that_is_refused_is_not_called_away(rucio: Rucio, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The text says who was refused, and where to look; the password is not shown."""
    login = replace(furnished(rucio)[0], password="hush-hush")
    catalog = RucioCatalog(access_to(rucio, login, tmp_path_factory.mktemp("tokens")))

    with pytest.raises(NotAdmitted, match="answers, but it does not let us in as producer") as error:
        catalog.metadata([Did("s", "x")])

    assert "away" not in str(error.value) and "hush" not in str(error.value)


def test_a_refused_password_is_a_matter_of_the_settings(rucio: Rucio, tmp_path: Path) -> None:
    """The command says so with its exit code, and no registration stays open."""
    login = furnished(rucio)[0]
    (tmp_path / "muleteer.toml").write_text(
        f'[catalog]\nkind = "rucio"\nhost = "{rucio.url}"\naccount = "{login.account}"\n'
        f'username = "{login.account}"\npassword = "hush-hush"\nrse = "{next(iter(furnished(rucio)[1]))}"\n'
    )
    (tmp_path / "a.root").write_text("x")

    def said(*words: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).with_name("muleteer"))
        return subprocess.run(
            [program, "register", *words, "--home", str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
        )

    filled, simulated = said("fill", "s:RUN-1", "a.root"), said("fill", "s:RUN-1", "a.root", "--simulate")

    assert (filled.returncode, simulated.returncode) == (3, 3), filled.stderr
    assert "does not let us in" in filled.stderr and "away" not in filled.stderr
    assert [each["state"] for each in json.loads(said("list", "--json").stdout)] == ["failed"]
