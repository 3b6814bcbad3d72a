"""Pictures as inline SVG: no script, no library, colours from the page's style, every text escaped.

Shapes carry what colours do: incumbent hollow on a dashed line, challenger filled on a solid one; pass round, fail a diamond,
undecided hollow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, log10

from markupsafe import Markup, escape

from analysis.figures.allowed import AllowedByTruth, TruthBin
from analysis.figures.gates import GateIntervals, GateRow
from analysis.figures.harms import SegmentEffect
from analysis.figures.shares import Share
from harness.pages.numbers import per_thousand

ROW_WIDTH, ROW_HEIGHT = 240.0, 24.0
NARROW = 500.0
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
EDGE = 8.0
Place = Callable[[float], float]


def tag(name: str, *children: str | Markup, **attributes: str | float) -> Markup:
    """One element. Attribute names use _ for -, and class_ for class; numbers are cut to a tenth of a pixel."""
    shown = (
        (key.rstrip("_").replace("_", "-") if key != "viewBox" else key, f"{v:.1f}" if isinstance(v, float) else v)
        for key, v in attributes.items()
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{}{}>{}</{}>").format(
        Markup(name), Markup("").join(Markup(' {}="{}"').format(k, v) for k, v in shown), inside, Markup(name)
    )


def picture(width: float, height: float, title: str, *children: Markup, class_: str) -> Markup:
    """An SVG of this size that scales down, with what it says for those who do not see it."""
    box = f"0 0 {width:g} {height:g}"
    return tag(
        "svg",
        tag("title", title),
        *children,
        viewBox=box,
        width=f"{width:g}",
        height=f"{height:g}",
        class_=class_,
        role="img",
        aria_label=title,
    )


def line(x1: float, y1: float, x2: float, y2: float, *, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, words: str, class_: str = "", *, anchor: str = "start") -> Markup:
    """Words at a place."""
    return tag("text", words, x=x, y=y, class_=f"t {class_}".strip(), text_anchor=anchor)


def mark(x: float, y: float, class_: str, size: float = 4.0) -> Markup:
    """A round mark; hollow or filled by its class."""
    return tag("circle", cx=x, cy=y, r=size, class_=class_)


def diamond(x: float, y: float, class_: str, size: float = 5.0) -> Markup:
    """A mark with corners."""
    return tag("path", d=f"M{x:.1f} {y - size:.1f}l{size:.1f} {size:.1f}l-{size:.1f} {size:.1f}l-{size:.1f}-{size:.1f}z", class_=class_)


def scale(low: float, high: float, start: float, end: float) -> Place:
    """Where a value stands between two places."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


# ------------------------------------------------------------------------------------------------------------ rows of tables
def gate_interval(figure: GateIntervals, row: GateRow, words: str) -> Markup:
    """A row's interval beside the limit; the side that passes is shaded, an end beyond the axis is an arrow."""
    at, y = scale(figure.low, figure.high, EDGE, ROW_WIDTH - EDGE), ROW_HEIGHT / 2
    ends = [EDGE / 2, *(at(limit) for limit in figure.lines), ROW_WIDTH - EDGE / 2]
    left, right = {"below": (ends[0], ends[1]), "above": (ends[-2], ends[-1]), "between": (ends[1], ends[-2])}[figure.good]
    shapes = [tag("rect", x=left, y=2.0, width=right - left, height=ROW_HEIGHT - 4, class_="ok-side")]
    shapes += [line(at(limit), 1, at(limit), ROW_HEIGHT - 1, class_="limit") for limit in figure.lines]
    if row.lower is not None or row.upper is not None:
        low = figure.low if row.lower is None else row.lower
        high = figure.high if row.upper is None else row.upper
        x1, x2 = (min(max(at(v), EDGE), ROW_WIDTH - EDGE) for v in (low, high))
        shapes.append(line(x1, y, x2, y, class_=f"bar {row.status}"))
        shapes += [_end(x1, y, low < figure.low, -1.0, row.status), _end(x2, y, high > figure.high, 1.0, row.status)]
    if row.estimate is not None:
        shapes.append((diamond if row.status == "fail" else mark)(at(row.estimate), y, f"dot {row.status}"))
    return picture(ROW_WIDTH, ROW_HEIGHT, words, *shapes, class_="row")


def _end(x: float, y: float, beyond: bool, side: float, status: str) -> Markup:
    if beyond:
        return tag(
            "path", d=f"M{x - 4 * side:.1f} {y - 4:.1f}L{x + 2 * side:.1f} {y:.1f}L{x - 4 * side:.1f} {y + 4:.1f}", class_=f"arrow {status}"
        )
    return line(x, y - 4, x, y + 4, class_=f"bar {status}")


def effect_row(row: SegmentEffect, most: float, words: str) -> Markup:
    """Both lanes' rates on one axis from zero to the largest rate, joined."""
    at, y = scale(0.0, most, EDGE, ROW_WIDTH - EDGE), ROW_HEIGHT / 2
    old, new = row.counts.rates or (0.0, 0.0)
    kind = row.effect.replace(" ", "-")
    shapes = [line(EDGE, y, ROW_WIDTH - EDGE, y, class_="grid"), line(at(old), y, at(new), y, class_=f"join {kind}")]
    return picture(ROW_WIDTH, ROW_HEIGHT, words, *shapes, mark(at(old), y, "old"), mark(at(new), y, "new"), class_="row")


# ------------------------------------------------------------------------------------------------------------ the picture that explains
def allowed(figure: AllowedByTruth, width: float, *, words: str, unit: str, names: tuple[str, str]) -> Markup:
    """The share of a decision by truth: curves over a number, or two rows for a class. `names`: of the class false and true."""
    return _classes(figure, width, words, names) if figure.classes else _curves(figure, width, words, unit)


def _curves(figure: AllowedByTruth, width: float, words: str, unit: str) -> Markup:
    narrow = width < NARROW
    height, left, top, bottom = (300.0 if narrow else 360.0), 44.0, 26.0, 42.0
    low, high = figure.bins[0].low, figure.bins[-1].high
    x, y = scale(low, high, left, width - 12), scale(0.0, 1.0, height - bottom, top)
    shapes: list[Markup] = []
    for level in LEVELS:
        shapes += [
            line(left, y(level), width - 12, y(level), class_="grid"),
            text(left - 8, y(level) + 4, f"{level * 1000:,.0f}", "num", anchor="end"),
        ]
    shapes += [text(x(tick), height - bottom + 18, f"{tick:g}", "num", anchor="middle") for tick in _ticks(low, high, 6 if narrow else 9)]
    shapes.append(text((left + width) / 2, height - 6, unit, "axis", anchor="middle"))
    shapes.append(_gap(figure.bins, x, y))
    for limit in figure.lines:
        shapes += [
            line(x(limit), top - 8, x(limit), height - bottom, class_="limit"),
            text(x(limit), top - 12, f"line {limit:g}", "strong", anchor="middle"),
        ]
    if len(figure.lines) == 1 and not narrow:
        limit, foot = figure.lines[0], height - bottom - 8
        shapes += [text(x(limit) - 8, foot, f"truly under {limit:g}", anchor="end"), text(x(limit) + 8, foot, f"truly {limit:g} or more")]
    for lane, class_, shift in (("incumbent", "old", -2.0), ("challenger", "new", 2.0)):
        points = [(x((b.low + b.high) / 2), getattr(b, lane)) for b in figure.bins]
        seen = [(px, share) for px, share in points if share.value is not None]
        shapes += [
            line(px + shift, y(share.low or 0.0), px + shift, y(share.high or 0.0), class_=f"whisker {class_}") for px, share in seen
        ]
        path = "M" + "L".join(f"{px:.1f} {y(share.value or 0.0):.1f}" for px, share in seen)
        shapes.append(tag("path", d=path, class_=f"curve {class_}"))
        shapes += [mark(px, y(share.value or 0.0), class_, 3.5) for px, share in seen]
    return picture(width, height, words, *shapes, class_="chart")


def _gap(bins: Sequence[TruthBin], x: Place, y: Place) -> Markup:
    """The area between the two curves."""
    centres = [(x((b.low + b.high) / 2), b) for b in bins]
    there = [f"{px:.1f} {y(b.incumbent.value or 0.0):.1f}" for px, b in centres]
    back = [f"{px:.1f} {y(b.challenger.value or 0.0):.1f}" for px, b in reversed(centres)]
    return tag("path", d="M" + "L".join([*there, *back]) + "Z", class_="gap")


def _classes(figure: AllowedByTruth, width: float, words: str, names: tuple[str, str]) -> Markup:
    left, right, block = 12.0, width - 64, 104.0
    x, height = scale(0.0, 1.0, left, right), block * len(figure.bins) + 34
    shapes = [line(x(level), 8, x(level), height - 26, class_="grid") for level in LEVELS]
    shapes += [text(x(level), height - 8, f"{level * 1000:,.0f}", "num", anchor="middle") for level in (0.0, 0.5, 1.0)]
    for k, bin_ in enumerate(figure.bins):
        top = 24 + k * block
        shapes.append(text(left, top, names[int(bin_.low)], "strong halo"))
        for y, share, class_ in ((top + 26, bin_.incumbent, "old"), (top + 54, bin_.challenger, "new")):
            shapes += _bar(x, y, share, class_)
            shapes.append(text(right + 56, y + 5, per_thousand(share.value or 0.0), "num strong", anchor="end"))
    return picture(width, height, words, *shapes, class_="chart")


def _bar(x: Place, y: float, share: Share, class_: str) -> list[Markup]:
    end = x(share.value or 0.0)
    return [
        tag("rect", x=x(0.0), y=y - 8, width=end - x(0.0), height=16.0, class_=f"column {class_}"),
        line(x(share.low or 0.0), y, x(share.high or 0.0), y, class_="whisker strong"),
        mark(end, y, class_, 4.5),
    ]


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two ends, `most` at the most."""
    rough = (high - low) / most
    size = 10.0 ** floor(log10(rough)) if rough > 0 else 1.0
    step = next(size * nice for nice in (1.0, 2.0, 5.0, 10.0) if size * nice >= rough)
    first = floor(low / step) + (0 if low % step == 0 else 1)
    return [k * step for k in range(first, floor(high / step + 1e-9) + 1)]


def flow(parts: Sequence[tuple[str, int]], words: str) -> Markup:
    """Counts as one bar whose pieces add up; nothing of a piece that is zero."""
    width, total, at = 720.0, sum(n for _, n in parts) or 1, 0.0
    shapes = []
    for name, n in parts:
        if n:
            size = width * n / total
            words_of = tag("title", f"{name}: {n:,}")
            shapes.append(tag("rect", words_of, x=at, y=0.0, width=size, height=10.0, class_=f"piece {name.replace(' ', '-')}"))
            shapes.append(line(at, 0, at, 10, class_="cut"))
            at += size
    return picture(width, 10.0, words, *shapes, class_="flow")
