"""How often each lane gives a decision, by what turned out to be true: the picture in which a threshold shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np
from numpy.typing import NDArray

from analysis.figures.harms import harmed
from analysis.figures.shares import Share, share_of
from analysis.types import PairTable

MOST_BINS = 48
WHOLE_NUMBERS = 200
NEARLY = 0.1
SETTLED_IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthBin:
    """Labelled pairs whose truth lies in [low, high), or whose class is `low` where the truth is a class."""

    low: float
    high: float
    incumbent: Share
    challenger: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedByTruth:
    """The share of `decisions` in both lanes by binned truth. `classes`: the truth is false (0) or true (1), and there are no lines.

    `cut`: how many labelled pairs lie outside the bins shown, which end where both lanes mostly agree.
    """

    policy: str
    decisions: tuple[str, ...]
    classes: bool
    lines: tuple[float, ...]
    bins: tuple[TruthBin, ...]
    cut: int


def allowed_by_truth(
    table: PairTable, policy: str, decisions: Sequence[str], *, truth: str, lines: Sequence[float]
) -> AllowedByTruth | None:
    """The picture's data, or None without a single labelled pair.

    Args:
        decisions: What is counted, words of the policy.
        truth: The truth's name; whole numbers get a bin each, others about 48 equal ones with an edge at the first line.
        lines: Where the policy cuts this truth, in its unit.
    """
    values = table[f"truth.{truth}"]
    paired = (table[f"{policy}.incumbent"] >= 0) & (table[f"{policy}.challenger"] >= 0)
    rows = paired & np.isfinite(values)
    if not rows.any():
        return None
    values, units = values[rows], table["unit_id"][rows]
    hits = [harmed(table, policy, decisions, lane)[rows] for lane in ("incumbent", "challenger")]
    classes = bool(np.isin(values, (0.0, 1.0)).all())
    edges = np.array([0.0, 1.0, 2.0]) if classes else _edges(values, lines)
    place = np.searchsorted(edges, values, side="right") - 1
    bins = []
    for k in np.unique(place):
        here = place == k
        old, new = (share_of(hit[here], units[here]) for hit in hits)
        bins.append(TruthBin(low=float(edges[k]), high=float(edges[k + 1]), incumbent=old, challenger=new))
    shown = bins if classes else _window(bins, lines)
    cut = len(values) - sum(bin_.incumbent.n for bin_ in shown)
    return AllowedByTruth(
        policy=policy,
        decisions=tuple(decisions),
        classes=classes,
        lines=() if classes else tuple(lines),
        bins=tuple(shown),
        cut=cut,
    )


def _edges(values: NDArray[np.float64], lines: Sequence[float]) -> NDArray[np.float64]:
    """Bin edges over all values, with one at the first line."""
    low, high = float(values.min()), float(values.max())
    whole = bool((values == np.floor(values)).all()) and high - low <= WHOLE_NUMBERS
    step = 1.0 if whole else _nice((high - low) / MOST_BINS)
    anchor = float(lines[0]) if lines else low
    first = floor((low - anchor) / step)
    last = floor((high - anchor) / step) + 1
    return anchor + step * np.arange(first, last + 1, dtype=np.float64)


def _nice(step: float) -> float:
    """The next step of 1, 2, 2.5 or 5 times a power of ten."""
    if step <= 0.0:
        return 1.0
    size = 10.0 ** floor(log10(step))
    return next(size * nice for nice in (1.0, 2.0, 2.5, 5.0, 10.0) if size * nice >= step * (1.0 - 1e-9))


def _window(bins: Sequence[TruthBin], lines: Sequence[float]) -> list[TruthBin]:
    """The bins around the lines, each way until several in a row are settled."""
    if not lines:
        return list(bins)
    first = next((k for k, bin_ in enumerate(bins) if bin_.high > min(lines)), len(bins))
    last = next((k for k in reversed(range(len(bins))) if bins[k].low <= max(lines)), -1)
    low, high = _extent(bins[:first][::-1]), _extent(bins[last + 1 :])
    return list(bins[first - low : last + 1 + high])


def _extent(outward: Sequence[TruthBin]) -> int:
    """How many bins to show, going away from a line."""
    in_a_row = 0
    for k, bin_ in enumerate(outward):
        in_a_row = in_a_row + 1 if _settled(bin_) else 0
        if in_a_row == SETTLED_IN_A_ROW:
            return k + 1
    return len(outward)


def _settled(bin_: TruthBin) -> bool:
    """Whether both lanes give (nearly) the same decision to everyone here."""
    old, new = bin_.incumbent.value, bin_.challenger.value
    if old is None or new is None:
        return False
    return max(old, new) <= NEARLY or min(old, new) >= 1.0 - NEARLY
