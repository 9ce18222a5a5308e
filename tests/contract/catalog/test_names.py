"""What every catalog promises of scopes and names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.rucio.port import Catalog, DatasetState, DidExists, FileEntry, InvalidDid, ScopeNotFound
from schemas.did import Did
from tests.contract.catalog.samples import strict
from tests.contract.catalogs import Desk

#: Whatever no catalog takes as a name.
BAD_NAMES = ["a name", "-begins-badly", ".hidden", "a" * 251, "newline\n", "naïve", "a:b", ""]


@pytest.mark.parametrize("add", [Catalog.add_dataset, Catalog.add_container], ids=["dataset", "container"])
def test_a_name_is_given_once(desk: Desk, catalog: Catalog, run: Did, box: Did, add: Callable[..., None]) -> None:
    """A name that exists as a dataset, a container or a file is refused, and nothing is announced."""
    catalog.attach(run, [desk.file("a.root")])
    before = catalog.dataset(run)

    for taken in (run, box, desk.did("a.root")):
        with pytest.raises(DidExists, match=taken.name):
            getattr(catalog, add.__name__)(taken)

    assert catalog.dataset(run) == before
    desk.expect("create_dts", "create_cnt")


def test_scopes_are_listed(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Those that match the pattern, sorted; whoever asks for one that there is not gets none."""
    other = desk.new_scope()
    catalog.add_container(Did(other, "BOX"))

    listed = catalog.scopes()

    assert {run.scope, other} <= set(listed) and list(listed) == sorted(listed)
    assert catalog.scopes(run.scope) == [run.scope]
    assert catalog.scopes(f"{run.scope[:-1]}[{run.scope[-1]}]") == [run.scope]
    assert catalog.scopes(f"{run.scope[:-1]}.none") == catalog.scopes("NONE*") == []


def test_scopes_are_separate(desk: Desk, catalog: Catalog, run: Did) -> None:
    """The same name in another scope is another dataset."""
    other = Did(desk.new_scope(), run.name)

    catalog.add_dataset(other)
    catalog.close(other)

    assert catalog.dataset(run).state is DatasetState.OPEN


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_follow_the_rules(desk: Desk, catalog: Catalog, run: Did, name: str) -> None:
    """A name that breaks the catalog's rules is refused, for a dataset, a container and a file."""
    bad = desk.did(name)
    file = replace(desk.file("a.root"), did=bad)

    for call in _refused_for_the_name(catalog, run, bad, file):
        with pytest.raises(InvalidDid):
            call()

    assert catalog.files(run) == []
    desk.expect("create_dts")


@pytest.mark.parametrize("scope", ["s" * 26, "a scope", ""])
def test_scopes_follow_the_rules(desk: Desk, catalog: Catalog, run: Did, scope: str) -> None:
    """So is a scope that breaks them."""
    bad = Did(scope, "a.root")
    file = replace(desk.file("a.root"), did=bad)

    for call in _refused_for_the_name(catalog, run, bad, file):
        with pytest.raises(InvalidDid):
            call()

    assert catalog.files(run) == []


def _refused_for_the_name(catalog: Catalog, run: Did, bad: Did, file: FileEntry) -> list[Callable[[], object]]:
    return [
        lambda: catalog.add_dataset(bad),
        lambda: catalog.add_container(bad),
        lambda: catalog.attach(run, [file]),
        lambda: catalog.register([file]),
    ]


@pytest.mark.parametrize("name", ["a" * 250, "/TEST-CONTAINER-2023/a.b_c-d", "0"])
def test_long_and_strange_names_are_accepted(desk: Desk, catalog: Catalog, name: str) -> None:
    """Names of up to 250 letters, digits, slashes, dots, underscores and dashes are accepted."""
    catalog.add_dataset(desk.did(name))

    assert catalog.dataset(desk.did(name)).did.name == name


@strict
def test_a_scope_is_made_by_others(desk: Desk) -> None:
    """In a scope that there is not, neither a dataset nor a container can be made."""
    did = Did("t.nobody-made-this", "RUN")

    for add in (desk.catalog.add_dataset, desk.catalog.add_container):
        with pytest.raises(ScopeNotFound, match=r"t\.nobody-made-this"):
            add(did)
