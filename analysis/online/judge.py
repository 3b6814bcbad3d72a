"""From the sums of two arms to a gate result: the tests of an online gate, fixed before its first unit.

While events are rare pairs decide, exactly; from a thousand units of each arm, a hundred of them with an event, the mixture over lifts
does. With the method `asymptotic` nothing is evident before that, and then the asymptotic confidence sequence decides. A gate on the split
of traffic bets on each unit's arm.

Source: STATISTICS 3, 6.5, 6.6 and 6.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log
from typing import Protocol

import numpy as np

from analysis.metrics.support import Floats, Ints, Support
from analysis.online.detect import BatchWatch, PairWatch
from analysis.online.lifts import Lift, design_lifts
from analysis.online.pairs import Blocks, pair_counts, pair_support
from analysis.online.sums import N_FIRST, Difference, Sums, difference
from analysis.sequential.designs import Design, Question, design
from analysis.sequential.mixture import Process
from analysis.sequential.normal import NormalDesign, design_wide
from analysis.types import Gate, GateResult, InputError, Interval, Metric, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What makes the value of a unit: equal specs share their sums. bound: the largest value, 1 for a binary one, None where not known."""

    measure: str
    type: str
    window_us: int
    bound: float | None
    absent: float | None
    covariate: str | None


def spec_of(metric: Metric) -> Spec:
    """What a metric of the kind `online` needs.

    Raises:
        InputError: something is missing or out of range.
    """
    if metric.measure is None or metric.type not in ("binary", "mean", "count", "ratio") or metric.better not in ("lower", "higher"):
        raise InputError(f"an online metric needs measure, type and better, got {metric.measure!r}, {metric.type!r} and {metric.better!r}")
    if metric.window_us is None or metric.window_us < 1:
        raise InputError(f"{metric.measure}: an outcome window must be at least 1 microsecond, got {metric.window_us}")
    bound = 1.0 if metric.type == "binary" else metric.bound
    if bound is not None and (not 0.0 < bound < np.inf or metric.type == "ratio"):
        raise InputError(f"{metric.measure}: a bound must be positive and finite, and a ratio has none, got {metric.bound}")
    if metric.absent is not None and (metric.type != "mean" or not np.isfinite(metric.absent)):
        raise InputError(f"{metric.measure}: absent is for a mean, and a finite number, got {metric.absent}")
    return Spec(measure=metric.measure, type=metric.type, window_us=metric.window_us, bound=bound, absent=metric.absent,
                covariate=metric.covariate)


@dataclass(slots=True)
class Series:
    """The units of one spec whose windows are over.

    sums: by period and arm. counts: the differences of pairs, challenger minus incumbent, on the grid of `support`; None without a bound.
    blocks: what is not yet paired, by period. n_events: measurements in those windows. n_left_out: units seen in both arms within them.
    """

    spec: Spec
    sums: Sums = field(default_factory=Sums)
    counts: Ints | None = field(init=False, default=None)
    blocks: dict[int, Blocks] = field(default_factory=dict)
    n_events: int = 0
    n_left_out: int = 0

    def __post_init__(self) -> None:
        if self.spec.bound is not None:
            self.counts = np.zeros(self.support.n_values, np.int64)

    @property
    def support(self) -> Support:
        """The grid of pairs; the spec must have a bound."""
        return pair_support(self.spec.bound or 1.0)

    def add(self, values: Floats, of: Floats, before: Floats, arm: Ints, period: Ints, shares: Mapping[int, float]) -> Floats:
        """Take units in prefix order: value, denominator, covariate, arm and period of each, shape (n,); all or none.

        Returns the pairs that they complete, challenger minus incumbent, shape (pairs,); none without a bound.

        Raises:
            InputError: a value lies outside the bound, or a denominator was below 0.
        """
        pairs = [np.zeros(0)]
        if self.spec.type == "ratio" and not (of >= 0.0).all():
            raise InputError(f"{self.spec.measure}: a denominator below 0 was measured")
        new = Sums.of(values, arm, period=period, of=of if self.spec.type == "ratio" else None,
                      before=None if self.spec.covariate is None else before)
        if self.spec.bound is not None and self.counts is not None:
            bad = np.flatnonzero((values < 0.0) | (values > self.spec.bound * (1.0 + 1e-12)))
            if len(bad):
                raise InputError(f"{self.spec.measure}: the value of a unit lies outside [0, {self.spec.bound}], got {values[bad[0]]}")
            for p in new.periods:
                blocks, mine = self.blocks.setdefault(p, Blocks(shares[p])), period == p
                pairs.append(blocks.add(values[mine], arm[mine]))
                self.counts += pair_counts(pairs[-1], self.support)
        self.sums = self.sums + new
        return np.concatenate(pairs)

    @property
    def n_units(self) -> int:
        """Units of both arms."""
        return sum(part.n for part in self.sums.parts.values())


class Evident(Protocol):
    """What the test of a gate makes of the evidence at a look: method, estimate (positive = challenger better), None for none."""

    @property
    def method(self) -> str: ...
    @property
    def estimate(self) -> float | None: ...
    @property
    def n_units(self) -> int: ...
    @property
    def n_events(self) -> int: ...
    @property
    def log_e_pass(self) -> float: ...
    @property
    def log_e_fail(self) -> float: ...

    def interval(self, alpha: float, fail_level: float) -> Interval | None:
        """The ends that agree with the status; None where there is nothing to tell."""


@dataclass(frozen=True, slots=True)
class ByLifts:
    """Read by the mixture over lifts, or by the asymptotic sequence; before there are units enough, nothing is evident."""

    method: str
    design: NormalDesign
    found: Difference
    n_events: int

    @property
    def estimate(self) -> float | None:
        return self.found.estimate

    @property
    def n_units(self) -> int:
        return self.found.n

    @property
    def log_e_pass(self) -> float:
        return float(self.design.log_e_pass(*self._numbers())) if self.found.ready else 0.0

    @property
    def log_e_fail(self) -> float:
        return float(self.design.log_e_fail(*self._numbers())) if self.found.ready else 0.0

    def interval(self, alpha: float, fail_level: float) -> Interval | None:
        return self.design.interval(*self._numbers(), alpha=alpha, fail_level=fail_level) if self.found.ready else None

    def _numbers(self) -> tuple[float, float, int]:
        if self.found.estimate is None or self.found.se is None:
            raise InputError("two arms without a difference have no evidence")
        return self.found.estimate, self.found.se, self.found.n


@dataclass(frozen=True, slots=True)
class ByCounts:
    """Read by the bounded mixture, from counts of values."""

    method: str
    design: Design
    counts: Floats
    values: Floats
    n_units: int
    n_events: int

    @property
    def estimate(self) -> float | None:
        total = float(self.counts.sum())
        return float(self.counts @ self.values) / total if total else None

    @property
    def log_e_pass(self) -> float:
        return float(self.design.log_e_pass(self.counts, self.values))

    @property
    def log_e_fail(self) -> float:
        return float(self.design.log_e_fail(self.counts, self.values))

    def interval(self, alpha: float, fail_level: float) -> Interval | None:
        if not self.counts.any():
            return None
        if len(self.design.pass_) == 2:
            under, over = self.design.pass_
            return Interval(low=over.bound(self.counts, self.values, level=alpha), high=under.bound(self.counts, self.values, level=alpha))
        return Interval(low=self.design.pass_[0].bound(self.counts, self.values, level=alpha),
                        high=self.design.fail[0].bound(self.counts, self.values, level=fail_level))


@dataclass(frozen=True, slots=True)
class ArmsTest:
    """A gate on a measure of both arms. pairs: where values have a bound. watch: of its change detector, bets or lifts."""

    gate: Gate
    spec: Spec
    lifts: NormalDesign
    pairs: Design | None
    watch: tuple[Process, ...] | tuple[Lift, ...]

    def detector(self, n_slots: int) -> PairWatch | BatchWatch:
        """A new one, for so many values of a segment."""
        better, adjusted = self.gate.metric.better or "higher", self.gate.metric.covariate is not None
        lifts = tuple(p for p in self.watch if isinstance(p, Lift))
        if lifts:
            n_first = self.gate.burn_in if self.gate.method == "asymptotic" else N_FIRST
            return BatchWatch(lifts, n_slots, better, self.spec.type == "binary", adjusted, self.spec.type == "ratio", n_first)
        return PairWatch(tuple(p for p in self.watch if isinstance(p, Process)), n_slots, 1.0 if better == "higher" else -1.0)

    def read(self, series: Series) -> Evident:
        """What the units so far say."""
        metric = self.gate.metric
        found = difference(series.sums, metric.better or "higher", binary=metric.type == "binary", adjusted=metric.covariate is not None,
                           n_first=self.gate.burn_in if self.gate.method == "asymptotic" else N_FIRST)
        if found.ready or self.pairs is None or series.counts is None:
            method = "asymptotic" if self.gate.method == "asymptotic" else "lifts"
            return ByLifts(method if metric.covariate is None else f"{method}, adjusted", self.lifts, found, series.n_events)
        counts = series.counts if metric.better == "higher" else series.counts[::-1]
        return ByCounts("pairs", self.pairs, counts / series.support.one, series.support.values, series.n_units, series.n_events)

    def facts(self) -> str:
        """Everything that is fixed before the data, in words."""
        lifts = [p.facts() for p in (*self.lifts.pass_, *self.lifts.fail)]
        watch = [p.facts() if isinstance(p, Lift) else _fact(p) for p in self.watch]
        return "\n".join([self.gate.name, repr(self.spec), *lifts, *_facts(self.pairs), *watch])


@dataclass(frozen=True, slots=True)
class SplitTest:
    """A gate on the share of the challenger: its arm minus its configured share, of each unit."""

    gate: Gate
    design: Design

    def read(self, first: Mapping[int, Floats], shares: Mapping[int, float]) -> Evident:
        """What the units so far say, from units of (incumbent, challenger) at their first exposure, by period."""
        periods = sorted(first)
        values = np.array([[-shares[p], 1.0 - shares[p]] for p in periods]).reshape(-1)
        counts = np.array([first[p] for p in periods], np.float64).reshape(-1)
        return ByCounts("split", self.design, counts, values, int(counts.sum()), int(counts.sum()))

    def facts(self) -> str:
        """Everything that is fixed before the data, in words."""
        return "\n".join([self.gate.name, *_facts(self.design)])


def _numbers(*arrays: Floats) -> str:
    return " ".join(f"{x:.9g}" for x in np.concatenate(arrays))


def _facts(made: Design | None) -> list[str]:
    return [_fact(p) for p in (() if made is None else (*made.pass_, *made.fail))]


def _fact(p: Process) -> str:
    return f"{p.proves} {p.limit:.9g} [{p.low:.9g}, {p.high:.9g}] " + _numbers(p.bets.fractions, p.bets.log_weights)


def prepare(gate: Gate) -> ArmsTest | SplitTest:
    """Fix a gate's test before its first unit.

    Raises:
        InputError: the gate cannot be computed.
    """
    if gate.metric.kind == "sample_ratio":
        if gate.each:
            raise InputError(f"{gate.name}: the split of traffic is tested as a whole, not by segments")
        if gate.word != "within" or not 0.0 < gate.limit < 1.0:
            raise InputError(f"{gate.name}: a sample_ratio takes within, a difference of shares in (0, 1), got {gate.word} {gate.limit}")
        if gate.method != "mixture":
            raise InputError(f"{gate.name}: a sample_ratio takes the mixture, which is exact, got {gate.method}")
        return SplitTest(gate, _bounded(gate, 1.0))
    spec = spec_of(gate.metric)
    lifts = design_lifts(gate.word, gate.limit, gate.expect)
    pairs = None if spec.bound is None else _bounded(gate, spec.bound)
    watch = tuple(p for p in lifts.fail if isinstance(p, Lift)) if pairs is None else pairs.fail
    if gate.method == "asymptotic":
        if gate.word not in ("worse_by_at_most", "better_by_more_than", "within") or gate.burn_in < 2:
            raise InputError(f"{gate.name}: two arms take no {gate.word}, and a burn-in of at least 2 units, got {gate.burn_in}")
        return ArmsTest(gate, spec, design_wide(gate.word, gate.limit, gate.decide_at or 0), None, watch)
    if gate.method != "mixture":
        raise InputError(f"{gate.name}: two arms take the mixture or asymptotic, got {gate.method}")
    return ArmsTest(gate, spec, lifts, pairs, watch)


def _bounded(gate: Gate, bound: float) -> Design:
    return design(Question(kind="numeric", low=-bound, high=bound, word=gate.word, limit=gate.limit, expect=gate.expect,
                           discordance=gate.discordance))


def judge(
    gate: Gate, seen: Evident | None, *, segment: Mapping[str, str] | None = None, failed: bool, alarmed_at: int | None = None,
    misdrawn: bool, alpha: float, fail_level: float,
) -> GateResult:
    """The result of one row. Fail beats pass; an error, a wrong split of traffic or too few units turn a pass into undecided.

    Args:
        gate: The gate.
        seen: What its test made of the evidence; None where an error stopped it.
        segment: The value of a segment that the row speaks of; None for all units.
        failed: Whether its fail is latched.
        alarmed_at: The look of its change detector's alarm; None without one.
        misdrawn: Whether traffic is not split as configured.
        alpha: The level of its pass.
        fail_level: The level of its own fail, for the interval.
    """
    failed = failed or alarmed_at is not None
    blank = GateResult(name=gate.name, segment=segment, status=Status.FAIL if failed else Status.UNDECIDED, reason=None, estimate=None,
                       lower=None, upper=None, limit=gate.limit, n_units=0, n_events=0, estimate_events=None, alpha=alpha, method="",
                       log_e_pass=None, log_e_fail=None, on_fail=gate.on_fail, dry_run=gate.dry_run, alarmed_at=alarmed_at)
    if seen is None:
        method = "split" if gate.metric.kind == "sample_ratio" else "asymptotic" if gate.method == "asymptotic" else "lifts"
        return replace(blank, method=method, reason=None if failed else "compute_error")
    interval = seen.interval(alpha, fail_level)
    result = replace(blank, method=seen.method, estimate=seen.estimate, n_units=seen.n_units, n_events=seen.n_events,
                     log_e_pass=seen.log_e_pass, log_e_fail=seen.log_e_fail, lower=_finite(interval.low if interval else None),
                     upper=_finite(interval.high if interval else None))
    if failed:
        return result
    if misdrawn:
        return replace(result, reason="sample_ratio")
    # without a single measurement a dead source would look like a perfect one
    if seen.log_e_pass >= -log(alpha) and seen.n_events > 0 and seen.n_units >= gate.min_units:
        return replace(result, status=Status.PASS)
    return replace(result, reason="insufficient")


def _finite(bound: float | None) -> float | None:
    return bound if bound is not None and np.isfinite(bound) else None
