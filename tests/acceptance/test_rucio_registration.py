"""Files are registered on a real Rucio server while power goes, the server goes, and half of what is told is wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rucio.embedded.describing import describe_file
from tests.acceptance.home import Home, until
from tests.acceptance.rucio_site import Site, new_site
from tests.services.rucio import Rucio


@pytest.fixture
def site(new_home: Callable[[Mapping[str, str]], Home], rucio: Rucio) -> Site:
    return new_site(new_home, rucio)


@pytest.fixture
def own_site(new_home: Callable[[Mapping[str, str]], Home], own_rucio: Rucio) -> Site:
    """With a server that may be stopped."""
    return new_site(new_home, own_rucio)


def await_dataset(site: Site, name: str) -> None:
    """Wait until the server has it."""
    client = site.rucio.client()
    until(lambda: bool(list(client.list_dids(site.scope, [{"name": name}]))), 30, "the dataset")


def content(site: Site, name: str) -> dict[str, tuple[int, str, str, str]]:
    """Size, sums and GUID of each file in a dataset, as the server has them."""
    client = site.rucio.client()
    files = [{"scope": site.scope, "name": each["name"]} for each in client.list_content(site.scope, name)]
    return {
        known["name"]: (known["bytes"], known["adler32"], known["md5"], known["guid"])
        for known in client.get_metadata_bulk(files)
    }


def recorded(site: Site, number: int) -> dict[str, tuple[int, str, str, str]]:
    """The same, as our own record has it."""
    files = site.home.read("register", "show", str(number), "--limit", "10000")["content"]
    return {
        each["did"].partition(":")[2]: (each["bytes"], each["adler32"], each["md5"], each["guid"].replace("-", ""))
        for each in files
    }


@pytest.mark.parametrize("after", [0.0, 0.4, 0.8])
def test_the_power_goes_in_the_middle_and_a_second_call_finishes(site: Site, after: float) -> None:
    """So many seconds after the dataset was made: the catalog and our record then have the same, each file once, and
    the dataset is closed."""
    paths = site.raw(int(after * 10), 200, size=100_000)
    name = f"RAW-{after:.1f}"
    first = site.home.start("register", "fill", f"{site.scope}:{name}", *paths)
    await_dataset(site, name)
    time.sleep(after)
    first.kill()

    site.home.do("register", "fill", f"{site.scope}:{name}", *paths)

    there = content(site, name)
    assert (len(there), there) == (200, recorded(site, 1))
    assert not site.rucio.client().get_metadata(site.scope, name)["is_open"]
    (registration,) = site.home.read("register", "list")
    assert (registration["state"], registration["files"]) == ("done", {"attached": 200})


def test_the_server_goes_in_the_middle_and_a_second_call_finishes(own_site: Site) -> None:
    """The first call says that the catalog is out of reach, and what is done stays done."""
    home, name = own_site.home, f"{own_site.scope}:RAW"
    paths = own_site.raw(1, 300, size=1_000)
    process = home.start("register", "fill", name, *paths)
    await_dataset(own_site, "RAW")
    own_site.rucio.kill()
    assert process.wait(60) in (0, 5), process.log.read_text()

    away = home.do("register", "fill", name, *paths, expect=5)
    own_site.rucio.start()
    home.do("register", "fill", name, *paths)

    assert away == ""
    there = content(own_site, "RAW")
    assert (len(there), there) == (300, recorded(own_site, 1))


def test_of_what_is_wrong_each_is_said_and_the_rest_is_done(site: Site, tmp_path: Path) -> None:
    """Missing, empty, partial, oddly named, of another sum, outside of the RSE, there with other content."""
    good = site.raw(1, 3)
    raw = Path(good[0]).parent
    site.home.do("register", "add-file", good[2], "--scope", site.scope)
    Path(good[2]).write_text("other content")
    (raw / "empty").touch()
    (raw / "x.partial").write_text("x")
    (raw / "a b").write_text("x")
    outside = tmp_path / "outside"
    outside.write_text("x")
    wrong = describe_file(Path(good[1]), site.scope)
    lines: list[dict[str, Any]] = [
        {"pfn": str(path)}
        for path in (good[0], raw / "missing", raw / "empty", raw / "x.partial", raw / "a b", outside)
    ]
    lines += [{"pfn": good[1], "bytes": wrong.bytes, "md5": "0" * 32}, {"pfn": good[2]}]
    manifest = site.home.place / "m.jsonl"
    manifest.write_text("\n".join(json.dumps(line) for line in lines))

    said = json.loads(
        site.home.do("register", "fill", f"{site.scope}:RAW", "--from", str(manifest), "--json", expect=1)
    )

    reasons = {each["did"].partition(":")[2]: each["reason"] for each in said["refused"]}
    assert set(content(site, "RAW")) == {Path(good[0]).name}
    for file, text in {
        "missing": "not there",
        "empty": "empty",
        "x.partial": "*.partial",
        "a b": "name",
        "outside": "file://localhost",
        Path(good[1]).name: "md5",
        Path(good[2]).name: "adler32",
    }.items():
        assert text in reasons[file], (file, reasons)
    assert site.rucio.client().get_metadata(site.scope, "RAW")["is_open"]


def test_what_the_server_does_not_know_is_said(site: Site) -> None:
    """An unknown scope, an unknown RSE, a dataset that is closed: each in words, and with what to do."""
    (path,) = site.raw(1, 1)

    no_scope = site.home.do("register", "fill", "nobody:RAW", path, "--json", expect=1)
    no_rse = site.home.do("register", "fill", f"{site.scope}:RAW", path, "--rse", "NOWHERE", "--json", expect=1)
    site.home.do("register", "fill", f"{site.scope}:CLOSED", path)
    closed = site.home.do(
        "register", "add-file", *site.raw(2, 1), "--dataset", f"{site.scope}:CLOSED", "--json", expect=1
    )

    assert "scope" in json.loads(no_scope)["registration"]["reason"]
    assert "NOWHERE" in json.loads(no_rse)["registration"]["reason"] + str(json.loads(no_rse)["refused"])
    assert "is closed" in json.loads(closed)["registration"]["reason"]
