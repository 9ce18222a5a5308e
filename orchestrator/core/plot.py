"""Two series of numbers by hour, drawn: as bars of text, and as an SVG picture that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

#: By hour (`2026-11-22 01`, UTC): before and after. Hours that are not there have none.
Hours = Mapping[str, tuple[int, int]]

_HOUR: Final = timedelta(hours=1)


class Span(NamedTuple):
    """Some hours drawn as one, with the most that any of them has."""

    begin: datetime
    before: int
    after: int


def spans(hours: Hours, most: int) -> Sequence[Span]:
    """The time from the first to the last hour, in at most so many spans of equal length."""
    if not hours:
        return []
    first, last = _moment(min(hours)), _moment(max(hours))
    count = (last - first) // _HOUR + 1
    width = -(-count // most)
    drawn = [[0, 0] for _ in range(-(-count // width))]
    for hour, values in hours.items():
        span = drawn[(_moment(hour) - first) // _HOUR // width]
        span[:] = [max(old, new) for old, new in zip(span, values, strict=True)]
    return [Span(first + number * width * _HOUR, *span) for number, span in enumerate(drawn)]


def bars(hours: Hours, *, lines: int = 24, width: int = 50) -> Sequence[str]:
    """One line for each span: when it begins, a bar of what is after (`#`) or was before (`-`), and both numbers."""
    drawn = spans(hours, lines)
    top = max((max(span.before, span.after) for span in drawn), default=0) or 1
    return [
        f"{span.begin:%Y-%m-%d %H:%M}  {_bar(span, top, width):<{width}}  {span.before:>7,} {span.after:>7,}"
        for span in drawn
    ]


def svg(hours: Hours, *, title: str) -> str:
    """A picture: an outline of what was before, and filled bars of what is after."""
    drawn = spans(hours, 240)
    top = max((max(span.before, span.after) for span in drawn), default=0) or 1
    step = (_WIDTH - 2 * _EDGE) / max(1, len(drawn))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_EDGE}" y="20">{escape(title)}</text>',
    ]
    for number, span in enumerate(drawn):
        x = _EDGE + number * step
        said = f"{span.begin:%Y-%m-%d %H:%M} UTC: {span.before:,} before, {span.after:,} after"
        parts.append(f"<g><title>{said}</title>{_rect(x, step, span.after, top, _FILLED)}")
        parts.append(f"{_rect(x, step, span.before, top, _OUTLINE)}</g>")
    parts += _axes(drawn, top)
    return "\n".join([*parts, "</svg>", ""])


_FILLED, _OUTLINE = 'fill="#4477aa"', 'fill="none" stroke="#cc6677"'

_WIDTH, _HEIGHT, _EDGE, _FOOT, _HEAD = 960, 320, 60, 40, 40


def _axes(drawn: Sequence[Span], top: int) -> Sequence[str]:
    floor = _HEIGHT - _FOOT
    axes = [
        f'<path d="M{_EDGE} {_HEAD}V{floor}H{_WIDTH - _EDGE}" fill="none" stroke="black"/>',
        f'<text x="{_EDGE - 6}" y="{_HEAD + 4}" text-anchor="end">{top:,}</text>',
        f'<text x="{_EDGE - 6}" y="{floor}" text-anchor="end">0</text>',
        f'<text x="{_WIDTH - _EDGE}" y="20" text-anchor="end">'
        '<tspan fill="#cc6677">outline: before</tspan> <tspan fill="#4477aa">filled: after</tspan></text>',
    ]
    if drawn:
        below = floor + 18
        axes.append(f'<text x="{_EDGE}" y="{below}">{drawn[0].begin:%Y-%m-%d %H:%M} UTC</text>')
        axes.append(f'<text x="{_WIDTH - _EDGE}" y="{below}" text-anchor="end">{drawn[-1].begin:%Y-%m-%d %H:%M}</text>')
    return axes


def _rect(x: float, width: float, value: int, top: int, style: str) -> str:
    height = (_HEIGHT - _FOOT - _HEAD) * value / top
    y = _HEIGHT - _FOOT - height
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width * 0.9, 0.5):.1f}" height="{height:.1f}" {style}/>'


def _bar(span: Span, top: int, width: int) -> str:
    after, before = (-(-width * value // top) for value in (span.after, span.before))
    return "#" * after + "-" * max(0, before - after)


def _moment(hour: str) -> datetime:
    return datetime.strptime(hour, "%Y-%m-%d %H").replace(tzinfo=UTC)
