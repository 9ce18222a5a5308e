"""The demonstration: one command shows the main job from end to end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.acceptance.home import Home

Maker = Callable[[Mapping[str, str]], Home]


def test_the_demo_ends_well_within_half_a_minute_and_the_home_it_leaves_says_the_same(
    new_home: Maker, tmp_path: Path
) -> None:
    """`muleteer demo` exits 0 only if all it promises came true; the usual commands find it all in its home."""
    home, began = new_home({}), time.monotonic()

    told = home.do("demo", "--home", str(tmp_path / "demo"))

    seconds = time.monotonic() - began
    messages = home.read("messages", "list", "--home", str(tmp_path / "demo"))
    launches = home.read("launches", "list", "--home", str(tmp_path / "demo"))
    states = Counter(message["state"] for message in messages)
    assert seconds < 30
    assert f"--home {tmp_path / 'demo'}" in told
    assert [launch["state"] for launch in launches] == ["finished"] * 3
    assert (states["pending"], states["quarantined"], states["dispatched"]) == (1, 1, 6)
    assert states["dropped"] >= 1
    assert len((tmp_path / "demo" / "announced.txt").read_text().splitlines()) == 3
