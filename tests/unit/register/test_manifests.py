"""Manifests: written, read again, and what is wrong in them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from orchestrator.core.registering import Mistold, Told
from orchestrator.register.manifest_reading import read_binary, read_manifest
from orchestrator.register.manifests import FIELDS, Format, entry_of, write_manifest
from schemas.registration import FileState, ManifestEntry, RegisteredFile

MD5 = "0123456789abcdef" * 2
WRITTEN = [Format.CSV, Format.TSV, Format.JSON, Format.JSONL, Format.YAML]

_hex = {length: st.text("0123456789abcdef", min_size=length, max_size=length) for length in (4, 8, 12, 32)}
_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
entries = st.builds(
    ManifestEntry,
    pfn=st.builds(str.__add__, st.sampled_from(["/", "root://h//", "/a b/"]), _texts),
    lfn=st.none() | _texts,
    bytes=st.none() | st.integers(0, 10**15),
    adler32=st.none() | _hex[8],
    md5=st.none() | _hex[32],
    guid=st.none() | st.tuples(_hex[8], _hex[4], _hex[4], _hex[4], _hex[12]).map("-".join),
    events=st.none() | st.integers(0, 10**9),
    rse=st.none() | _texts,
)


def written(some: list[ManifestEntry], format_: Format) -> bytes:
    out = io.StringIO(newline="")
    write_manifest(some, out, format_)
    return out.getvalue().encode()


def read(text: str | bytes, name: str = "list", format_: Format | None = None) -> list[Told | Mistold]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_binary(io.BytesIO(content), name, Path("/folder"), format_))


def said(text: str | bytes, name: str = "list") -> list[str]:
    """What is wrong in it."""
    return [str(telling) for telling in read(text, name) if isinstance(telling, Mistold)]


def pfns(text: str | bytes, name: str = "list") -> list[tuple[str, str]]:
    return [(telling.place, telling.entry.pfn) for telling in read(text, name) if isinstance(telling, Told)]


@given(st.lists(entries, max_size=4), st.sampled_from(WRITTEN), st.booleans())
@example([ManifestEntry(pfn="/a\u2028 b\x85\x7f\ufeff\U0001f600'\"\\", lfn="null")], Format.YAML, True)
@settings(max_examples=300, deadline=None)
def test_what_was_written_is_read_again(some: list[ManifestEntry], format_: Format, is_named: bool) -> None:
    """Every field, whatever is in a name; the format is known by the end of the name, or by the first line."""
    content = written(some, format_)

    tellings = read(content, f"list.{format_}" if is_named else "list")

    assert [telling.entry if isinstance(telling, Told) else str(telling) for telling in tellings] == some


@given(st.lists(entries, max_size=3))
@settings(max_examples=50, deadline=None)
def test_others_can_read_what_was_written(some: list[ManifestEntry]) -> None:
    """JSON and YAML as they are defined; only what is known is in it."""
    plain = [entry.model_dump(exclude_none=True) for entry in some]

    assert json.loads(written(some, Format.JSON)) == plain
    assert YAML(typ="safe", pure=True).load(written(some, Format.YAML)) == plain


def test_what_a_manifest_says_of_a_registered_file() -> None:
    """Its LFN with the scope, since files of a dataset may have several."""
    file = RegisteredFile(did="s:a", path="/p", pfn="/q", state=FileState.ATTACHED, bytes=3, md5=MD5, events=2)

    assert entry_of(file, "HERE") == ManifestEntry(pfn="/q", lfn="s:a", bytes=3, md5=MD5, events=2, rse="HERE")
    assert set(FIELDS) == set(ManifestEntry.model_fields)


def test_a_list_is_no_format_to_write() -> None:
    """It cannot hold what is known."""
    with pytest.raises(ValueError, match="csv, tsv, json, jsonl, yaml"):
        write_manifest([], io.StringIO(), Format.LIST)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("# two files\n\n/a\n  b c \r\n# end\n", "list.txt"),
        (f"\n# sums\n{MD5}  /a\n{MD5} *b c\n", "SUMS"),
        ("#\n\npfn,events\n/a,3\nb c,\n", "list"),
        ("#\n\npfn\tevents\n/a\t3\n\nb c\t\n".replace("\n\nb", "\nb"), "list"),
        ('\n\n[{"pfn": "/a"},\n "b c"]', "list"),
        ('\n\n{"pfn": "/a"}\n{"pfn": "b c"}', "list"),
        ("\n# files\n- pfn: /a\n- b c\n", "list"),
        ('[\n\n{"pfn": "/a"},\n"b c"]', "list.yaml"),
    ],
)
def test_every_format_is_known_by_its_first_line(text: str, name: str) -> None:
    """Blank lines and comments may come before it; a relative PFN begins where the manifest lies."""
    first = next(number for number, line in enumerate(text.splitlines(), start=1) if "/a" in line)

    assert said(text, name) == []
    assert pfns(text, name) == [(f"{name}:{first}", "/a"), (f"{name}:{first + 1}", "/folder/b c")]


def test_names_with_strange_signs_are_unpacked_from_a_list_of_md5sum() -> None:
    """As its own escapes have it, where it says that there are some."""
    assert pfns(f"\\{MD5}  /a\\nb\\\\n\n{MD5}  /a\\n\n") == [("list:1", "/a\nb\\n"), ("list:2", "/a\\n")]


def test_a_value_that_looks_like_a_number_stays_a_text() -> None:
    """A sum may be all digits, with zeros before them; `null` and nothing mean that it is not known."""
    told = read("- pfn: /a\n  adler32: 00120034\n  md5: ~\n  events:\n  bytes: null\n  lfn: '~'\n")

    assert [telling.entry for telling in told if isinstance(telling, Told)] == [
        ManifestEntry(pfn="/a", adler32="00120034", lfn="~")
    ]


def test_a_row_may_go_over_several_lines() -> None:
    """What is said of the next one names its line."""
    text = 'pfn,events\n"/a\nb",1\n/c,x\n'

    assert pfns(text) == [("list:2", "/a\nb")]
    assert said(text) == ['list:4: events: expected a whole number; found "x"']


@pytest.mark.parametrize(
    ("name", "text", "mistakes"),
    [
        ("l.csv", "pfn,md5\n/a,zz\n/b\n/c,\n", ["l.csv:2: md5", "l.csv:3: expected 2 columns"]),
        ("l.csv", "pfn,size\n/a,3\n", ["l.csv:1: there is no such field: 'size'"]),
        ("l.csv", "pfn,pfn\n/a,/b\n", ["l.csv:1: the header has a column twice"]),
        ("l.csv", "bytes\n3\n", ["l.csv:2: pfn: it is missing"]),
        ("l.csv", 'pfn\n/c\n"/a\n/b\n', ["l.csv:3: it cannot be read, up to line 4"]),
        ("l.csv", 'pfn\n"/a"x\n/c\n', ["l.csv:2: it cannot be read"]),
        ("l.jsonl", '{"pfn": "/c"}\n{"pfn": \n[1]\n7\n{}\n', ["2: it is not JSON", "3: expected the", "4:", "5: pfn"]),
        ("l.jsonl", '{"pfn": "/c"}\n{"pfn": "/a", "by": 1}\n{"pfn": ""}', ["2: by: there is no such", "3: pfn"]),
        ("l.json", '["/c",\n{"pfn": 3},\n{"pfn": "/a" "b"}]', ["2: pfn: expected a text", "3: it is not JSON"]),
        ("l.json", '["/c"\n"/d"]', ["1: expected a comma or ] after it; nothing after"]),
        ("l.json", '["/c"', ["1: expected a comma or ]"]),
        ("l.json", '["/c"]\n, "/d"', ["2: expected nothing after the list"]),
        ("l.json", '[] "/d"', ["1: expected nothing after the list"]),
        ("l.json", '["/c",]', ["1: it is not JSON"]),
        ("l.json", '{"pfn": "/d"}', ["1: expected a list"]),
        ("l.json", '["/c",\n' + "[" * 100_000, ["2: it is not JSON"]),
        ("l.yaml", "- /c\n- a: 1\n  a: 2\n- [1, [2]]\n- {a: {b: [c]}}\n-\n- *x", ["2: a:", "4:", "5: a:", "6:", "7:"]),
        ("l.yaml", "- /c\n- pfn: [\n", ["it is not YAML"]),
        ("l.yaml", "- /c\n- /d\n- a\x00b\n", ["3: it is not YAML"]),
        ("l.yaml", "pfn: /a\n", ["1: expected a list"]),
        ("l.md5", f"{MD5}  /c\n{MD5} /d\n", ["2: expected a line of md5sum"]),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_the_others_are_read(name: str, text: str, mistakes: list[str]) -> None:
    """What is wrong, where, and what is allowed. What can be read, is."""
    found = said(text, name)

    assert len(found) == len(mistakes), found
    assert all(mistake in line for mistake, line in zip(mistakes, found, strict=True)), found
    if "/c" in text and "there is no such field: 'size'" not in found[0]:
        assert "/c" in [pfn for _, pfn in pfns(text, name)]


@pytest.mark.parametrize(
    "text",
    [b"/a\xff\n/c\n", b"pfn,lfn\n/a,\xff\n/c,\n", b'{"pfn": "/a\xff"}\n{"pfn": "/c"}\n', b'["/a\xff",\n"/c"]'],
)
def test_what_is_not_utf_8_is_refused_with_its_line(text: bytes) -> None:
    """It would be registered under a name that nobody has. It can be shown all the same."""
    found = said(text)

    assert len(found) == 1
    assert found[0].encode()
    assert found[0].startswith("list:2" if text.startswith(b"pfn") else "list:1")
    assert [pfn for _, pfn in pfns(text)] == ["/c"]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "[]", "pfn\n", "---\n", "# x\n[\n]\n"])
def test_a_manifest_may_be_empty(text: str) -> None:
    """Nothing is told, and nothing is wrong."""
    assert read(text) == []


def test_a_byte_order_mark_is_no_part_of_a_name() -> None:
    """Some editors write one."""
    assert pfns(b"\xef\xbb\xbf/a\n") == [("list:1", "/a")]


@given(st.text(max_size=200), st.sampled_from([None, *Format]))
@settings(max_examples=400, deadline=None)
def test_no_text_breaks_it(text: str, format_: Format | None) -> None:
    """Whatever it is, it is entries and mistakes."""
    for telling in read_manifest(io.StringIO(text, newline=""), "list", Path("/"), format_):
        assert isinstance(telling, Told | Mistold)


@given(st.text("-[]{}:,\"'&*!|>#%@ \nap1", max_size=40), st.sampled_from([Format.YAML, Format.JSON, Format.CSV]))
@settings(max_examples=400, deadline=None)
def test_no_punctuation_breaks_it(text: str, format_: Format) -> None:
    """The same, of the signs that mean something."""
    for telling in read_manifest(io.StringIO(text, newline=""), "list", Path("/"), format_):
        assert isinstance(telling, Told | Mistold)
