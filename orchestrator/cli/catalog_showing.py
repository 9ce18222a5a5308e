"""How datasets, containers and files of the catalog are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.cli.terminal import out, plain, print_fields, print_json, print_table
from orchestrator.rucio.port import KEPT_METADATA, Catalog, DatasetEntry, FileEntry, Replica
from schemas.did import Did

_ENTRY = ("state", "account", "created_at", "closed_at", "bytes", "length", "events")
_FILE = ("bytes", "adler32", "md5", "guid", "events")


def print_listed(found: Sequence[tuple[Did, DatasetEntry | None]], json_: bool) -> None:
    """Datasets with what is known of them, containers by name alone."""
    if json_:
        print_json([_plain(did, entry) for did, entry in found])
        return
    entries = [entry for _, entry in found if entry is not None]
    if len(entries) < len(found):
        print_table(("container",), [(str(did),) for did, _ in found], empty="")
        return
    rows = [(str(each.did), each.state, each.length, each.bytes, each.created_at, each.closed_at) for each in entries]
    print_table(("dataset", "state", "files", "bytes", "created", "closed"), rows, empty="None fits.")


def show_dataset(catalog: Catalog, did: Did, json_: bool) -> None:
    """Raises DidNotFound."""
    entry, files = catalog.dataset(did), catalog.files(did)
    known, copies = catalog.metadata([did]).get(did, {}), catalog.replicas([did])
    set_ = {key: value for key, value in known.items() if key not in KEPT_METADATA}
    if json_:
        content = [_plain_file(each, copies.get(each.did, [])) for each in files]
        expires = {"expired_at": plain(known.get("expired_at"))}
        print_json({**_plain(did, entry), **expires, "metadata": plain(set_), "content": content})
        return
    ends = known.get("expired_at")
    out.print(
        f"{did} is {entry.state}, {entry.length} files, {entry.bytes:,} bytes"
        + (f", erased at {ends:%Y-%m-%d %H:%M:%S} UTC" if ends else "")
    )
    for key, value in sorted(set_.items()):
        out.print(f"{key} = {json.dumps(plain(value))}")
    rows = [row for each in files for row in _rows(each, copies.get(each.did, []))]
    print_table(("file", "bytes", "adler32", "rse", "pfn"), rows, empty="It has no files.")


def _rows(file: FileEntry, copies: Sequence[Replica]) -> Sequence[tuple[object, ...]]:
    """One for each copy, and one if there is none."""
    sums = (file.did.name, file.bytes, file.adler32)
    return [(*sums, each.rse, each.pfn) for each in copies] or [(*sums, None, None)]


def show_container(catalog: Catalog, did: Did, json_: bool) -> None:
    """Raises DidNotFound."""
    children = catalog.children(did)
    kinds = {child: known.get("did_type") for child, known in catalog.metadata(children).items()}
    if json_:
        content = [{**child._asdict(), "did_type": kinds.get(child)} for child in children]
        print_json({**did._asdict(), "did_type": "CONTAINER", "content": content})
        return
    out.print(f"{did} is a container of {len(children)}")
    print_table(("name", "is a"), [(str(child), kinds.get(child)) for child in children], empty="It is empty.")


def show_file(catalog: Catalog, did: Did, json_: bool) -> None:
    """A file that is there."""
    file, copies = catalog.registered([did])[did], catalog.replicas([did]).get(did, [])
    if json_:
        print_json({**did._asdict(), "did_type": "FILE", **_plain_file(file, copies)})
        return
    print_fields({"file": str(did), **{key: getattr(file, key) for key in _FILE}})
    print_table(("rse", "pfn"), [(each.rse, each.pfn) for each in copies], empty="It has no copy.")


def _plain(did: Did, entry: DatasetEntry | None) -> dict[str, Any]:
    return {**did._asdict(), **({} if entry is None else {key: plain(getattr(entry, key)) for key in _ENTRY})}


def _plain_file(file: FileEntry, copies: Sequence[Replica]) -> Mapping[str, Any]:
    sums = {key: getattr(file, key) for key in _FILE}
    pfns = [{"rse": each.rse, "pfn": each.pfn} for each in copies]
    return {"name": file.did.name, **sums, "pfn": file.pfn or (copies[0].pfn if copies else None), "copies": pfns}
