"""Numbers as people read them: rates per 1,000, everything else in its own unit. A number that is not known is a dash, never a zero."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isfinite, log10

from analysis.types import Gate
from harness.core.rollout import Rollout

UNKNOWN = "\N{EN DASH}"
WHOLE_FROM = 9.95
MINUS = "\N{MINUS SIGN}"
RATES = frozenset({"flip", "harm", "precision", "recall", "missing", "errors", "action", "disagreement", "excess_disagreement",
                   "sample_ratio"})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How a metric's numbers are shown: times `factor`, in `unit`, with a sign where they are differences."""

    factor: float
    unit: str
    signed: bool

    def show(self, value: float | None) -> str:
        """The number alone, as in "+12.3" or "277"."""
        if value is None or not isfinite(value):
            return UNKNOWN
        return figures(value * self.factor, signed=self.signed)


def scale_of(rollout: Rollout, gate: Gate) -> Scale:
    """The scale of a gate's estimate, interval and limit."""
    metric, signed = gate.metric, gate.compared or gate.word == "within" or gate.metric.kind == "difference"
    if metric.kind == "latency":
        return Scale(factor=1.0, unit="ms", signed=False)
    if metric.kind in RATES or metric.loss == "zero_one" or metric.type == "binary":
        return Scale(factor=1_000.0, unit="per 1,000", signed=signed)
    output = rollout.outputs.get(metric.output or "")
    unit = (output.unit if output else None) or ""
    return Scale(factor=1.0, unit={"absolute_error": unit, None: unit}.get(metric.loss, ""), signed=signed)


def figures(value: float, *, signed: bool = False) -> str:
    """Three figures that count, whole from 100 upward: "0.497", "12.3", "1,204".

    >>> figures(-0.49752, signed=True), figures(277.02), figures(12_345.6), figures(0.0)
    ('−0.498', '277', '12,346', '0')
    """
    if value == 0:
        return "0"
    size = floor(log10(abs(value)))
    digits = min(max(2 - size, 0), 6)
    text = f"{abs(value):,.{digits}f}"
    if not any(c in "123456789" for c in text):
        return "0"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return (MINUS if value < 0 else "+" if signed else "") + text


def count(value: int) -> str:
    """A count with its thousands: 9,101."""
    return f"{value:,}"


def per_thousand(share: float) -> str:
    """A share in [0, 1] as so many of 1,000: whole people; below 10 with one decimal, and never a zero that is none.

    >>> per_thousand(0.27702), per_thousand(0.00213), per_thousand(0.00001), per_thousand(0.0)
    ('277', '2.1', 'fewer than 0.1', '0')
    """
    value = share * 1_000.0
    if value == 0 or value >= WHOLE_FROM:
        return f"{value:,.0f}"
    text = f"{value:.1f}".removesuffix(".0")
    return "fewer than 0.1" if text == "0" else text


def pair(old: float, new: float) -> tuple[str, str]:
    """Two values of one kind with as many decimals as it takes to tell them apart, two at least, six at most."""
    digits = next((d for d in range(2, 7) if f"{old:.{d}f}" != f"{new:.{d}f}"), 2)
    return f"{old:,.{digits}f}", f"{new:,.{digits}f}"
