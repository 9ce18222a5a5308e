"""Numbers by hour, drawn."""

from __future__ import annotations

from random import Random
from xml.etree import ElementTree

import pytest

from orchestrator.core.plot import bars, spans, svg

HOURS = {"2026-11-22 01": (2, 4), "2026-11-22 03": (1, 0), "2026-11-23 00": (0, 3)}


def test_each_hour_has_a_bar_as_long_as_its_number() -> None:
    """`#` for what is after, `-` for what was more before; the hours between are there, without a bar."""
    drawn = bars(HOURS, width=8)

    assert len(drawn) == 24
    assert drawn[0] == "2026-11-22 01:00  ########        2       4"
    assert drawn[1] == "2026-11-22 02:00                  0       0"
    assert drawn[2] == "2026-11-22 03:00  --              1       0"
    assert drawn[-1] == "2026-11-23 00:00  ######          0       3"


@pytest.mark.parametrize("seed", range(20))
def test_many_hours_share_a_bar_that_is_as_long_as_the_longest_of_them(seed: int) -> None:
    """However long the time, the peak can be seen, and nothing stands before the first or after the last hour."""
    random = Random(seed)
    hours = {
        f"2026-{random.randint(1, 12):02}-{random.randint(1, 28):02} {random.randint(0, 23):02}": (
            random.randint(0, 9),
            random.randint(1, 99),
        )
        for _ in range(random.randint(1, 60))
    }

    drawn = spans(hours, 24)

    assert 1 <= len(drawn) <= 24
    assert max(span.after for span in drawn) == max(after for _, after in hours.values())
    assert f"{drawn[0].begin:%Y-%m-%d %H}" == min(hours)
    begins = [f"{span.begin:%Y-%m-%d %H}" for span in drawn]
    assert begins == sorted(begins)
    assert begins[-1] <= max(hours)


def test_without_hours_there_is_nothing_to_draw() -> None:
    """No line, and a picture with axes alone."""
    assert bars({}) == []
    assert ElementTree.fromstring(svg({}, title="none")).tag.endswith("svg")


def test_a_picture_says_what_it_shows() -> None:
    """Valid SVG, whatever the title holds; each bar tells its numbers."""
    drawn = ElementTree.fromstring(svg(HOURS, title="<launches> & more"))

    texts = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert texts[0] == "<launches> & more"
    assert "2026-11-22 01:00 UTC: 2 before, 4 after" in texts
    heights = [float(each.attrib["height"]) for each in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert heights[1:3] == [240.0, 120.0]
