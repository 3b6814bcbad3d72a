"""From statistics to gate results: what a gate tests, when it passes and fails, and the interval that agrees with it.

Source: STATISTICS 3 (tests, closed testing, numbers), 6.3 (intervals), 6.9 (quantiles), 9 (segments).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.contributions import Domain, domain_of, support_of
from analysis.metrics.quantiles import cells_of, edges_of, is_difference_quantile, quantile_of
from analysis.metrics.requests import Requests
from analysis.metrics.support import Floats, Ints, Support, counted
from analysis.metrics.tally import Batch, Tally
from analysis.sequential.designs import Design, Question, design
from analysis.sequential.mixture import Waiting
from analysis.sequential.tails import of_rates, quantile_design
from analysis.types import CLASS_KINDS, Gate, GateResult, InputError, Interval, PairTable, Reason, Status

_OPTIONAL = ("harm", "recall")  # what was decided is known; without its label nobody knows whether the event is of the class
_WORST_REASONS: tuple[Reason, ...] = ("compute_error", "sample_ratio", "unpaired", "no_support", "insufficient")


@dataclass(frozen=True, slots=True)
class Test:
    """A gate with all that its data must not move: domain, support, bets; the edges of a quantile's histogram in its unit."""

    __test__ = False  # no test of pytest's

    gate: Gate
    domain: Domain
    support: Support
    design: Design
    edges: Floats | None = None

    def log_e_pass(self, counts: Ints, waiting: Waiting | None = None) -> Floats:
        """Log e-value for the pass, shape (...,), from counts of shape (..., cells of the support), and of what is `filled`."""
        return self.design.log_e_pass(self.support.for_pass(counts), self.support.values, self.support.weights, waiting)

    def log_e_fail(self, counts: Ints, waiting: Waiting | None = None) -> Floats:
        """Log e-value for the fail, shape (...,)."""
        return self.design.log_e_fail(self.support.for_fail(counts), self.support.values, self.support.weights, waiting)

    def filled(self, least: Ints, greatest: Ints) -> Waiting:
        """What waits for its label, from counts of shape (..., cells): of a harm or a recall it may turn out not to be of the class."""
        return Waiting(self.support.for_pass(least), self.support.for_pass(greatest), self.gate.metric.kind in _OPTIONAL)

    def cells(self, table: PairTable) -> Ints | None:
        """The cell of each row in the quantile's histogram, shape (rows,); None where there is no quantile."""
        return None if self.edges is None else cells_of(self.gate, table, self.edges)

    def facts(self) -> str:
        """Everything that is fixed before the data, in words."""
        processes = [f"{type(p).__name__} {p.proves} {p.limit:.9g} [{p.low:.9g}, {p.high:.9g}] " + " ".join(
            f"{number:.9g}" for number in (*p.bets.fractions, *p.bets.log_weights)) for p in (*self.design.pass_, *self.design.fail)]
        return "\n".join([self.gate.name, repr(self.domain), repr(self.support), str(self.support.n_values), *processes])


def prepare(gate: Gate) -> Test:
    """Fix a gate's test before its first event.

    Raises:
        InputError: the gate cannot be computed: an unknown kind, a limit outside the range, a missing bound.
    """
    domain, support = domain_of(gate.metric), support_of(gate)
    if support.kind == "latency" and gate.method != "mixture":
        raise InputError(f"a latency is tested by the mixture, got {gate.method}")
    if support.kind == "latency":
        quantile = gate.metric.quantile
        if quantile is None or not 0.0 < quantile < 1.0:
            raise InputError(f"a latency needs a quantile in (0, 1), got {quantile}")
        question = Question(kind="rate", low=0.0, high=1.0, word="below", limit=round(1.0 - quantile, 12))
        return Test(gate, domain, support, design(question), edges_of(gate))
    if is_difference_quantile(gate.metric):
        if gate.method != "mixture":
            raise InputError(f"a quantile is tested by the mixture, got {gate.method}")
        return Test(gate, domain, support, quantile_design(gate.metric.quantile or 0.0, gate.word), edges_of(gate))
    question = Question(kind=support.kind, low=support.low, high=support.high, word=gate.word, limit=gate.limit, expect=gate.expect,
                        discordance=_spread(gate, support), method="beta-binomial" if gate.method == "beta-binomial" else "mixture")
    if gate.method == "group_sequential":
        _check_staged(gate, support)
    if gate.method != "mixture" and support.least is not None:
        raise InputError(f"{gate.method} takes counts of 0 and 1, not labels with weights")
    return Test(gate, domain, support, design(question))


def _check_staged(gate: Gate, support: Support) -> None:
    """A plan needs one sum of units that is normal in time: no weights, and one limit."""
    plan = gate.plan
    if plan is None or plan.maximum < plan.looks or not 1 <= plan.looks <= 50:
        raise InputError(f"group_sequential needs a plan of 1 to 50 looks and at least as many units, got {plan}")
    if gate.metric.weighted or support.least is not None or gate.word == "within":
        raise InputError(f"group_sequential takes one limit and labels without weights, got {gate.word}")


def _spread(gate: Gate, support: Support) -> float | None:
    """What the design takes for `discordance`: a variance once weights make a number of a rate, at most 1/least times as large."""
    metric = gate.metric
    if gate.unit == "mean" and gate.discordance is None and (support.low, support.high) == (0.0, 1.0):
        return (gate.limit / 2.0 if gate.expect is None else gate.expect) or None  # a mean of 0 and 1 varies at most as much as they do
    if not metric.weighted or support.kind != "numeric" or metric.least is None:
        return gate.discordance
    if gate.discordance is None and metric.loss == "zero_one" and gate.word in ("below", "above"):
        return (gate.limit / 2.0 if gate.expect is None else gate.expect) / metric.least or None
    return None if gate.discordance is None else gate.discordance / metric.least


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedRow:
    """What a group sequential gate says of a row after its last planned look. looks: how many were taken."""

    passed: bool
    interval: Interval
    looks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowEvidence:
    """What is known of one row at a look.

    n_rows, n_pairs: events of the row's segment, and those that both lanes answered. unsupported: a decision cell has pairs and no
    label. failed: a fail is latched. alarmed_at: the look of the change detector's alarm, None without one. broken: the gate met an
    error. misdrawn: labels are not as frequent as recorded. fail_level: level of the row's own fail. staged: of a group sequential gate.
    requests: for labels, where they are recorded.
    """

    segment: Mapping[str, str] | None
    tally: Tally | None
    slot: int
    n_rows: int
    n_pairs: int
    unsupported: bool
    failed: bool
    alarmed_at: int | None
    broken: bool
    misdrawn: bool
    alpha: float
    fail_level: float
    staged: StagedRow | None = None
    requests: Requests | None = None

    def waiting(self, test: Test) -> Waiting | None:
        """What waits for its label in this row."""
        found = self.requests
        return None if found is None else test.filled(found.least[self.slot], found.greatest[self.slot])


def judge(gate: Gate, test: Test | None, row: RowEvidence) -> GateResult:
    """The result of one row. Fail beats pass; an error, a missing label or too few units turn a pass into undecided."""
    stopped = row.failed or row.alarmed_at is not None
    blank = GateResult(name=gate.name, segment=row.segment, status=Status.FAIL if stopped else Status.UNDECIDED,
                       reason=None if stopped else "insufficient", estimate=None, lower=None, upper=None, limit=gate.limit,
                       n_units=0, n_events=0, estimate_events=None, alpha=row.alpha, method=_method(gate), log_e_pass=None,
                       log_e_fail=None, on_fail=gate.on_fail, dry_run=gate.dry_run, alarmed_at=row.alarmed_at)
    if test is None or row.tally is None:
        return blank if stopped else replace(blank, reason="compute_error")
    counts, (n_units, n_events) = row.tally.counts[row.slot], _sizes(gate, row, row.tally)
    blank = replace(blank, n_units=n_units, n_events=n_events, labels=row.requests.labels(row.slot) if row.requests else None)
    if row.broken:
        return blank if stopped else replace(blank, reason="compute_error")
    staged = row.staged  # no e-values then: its evidence is a boundary
    waiting = row.waiting(test)
    log_e_pass, log_e_fail = (None, None) if staged else (float(test.log_e_pass(counts, waiting)), float(test.log_e_fail(counts, waiting)))
    interval = staged.interval if staged else _interval(test, row, row.tally) if n_units else None
    passed = staged.passed if staged else log_e_pass is not None and log_e_pass >= -log(row.alpha)
    estimate, estimate_events = _estimates(test, row, row.tally)
    result = replace(blank, estimate=estimate, estimate_events=estimate_events, log_e_pass=log_e_pass, log_e_fail=log_e_fail,
                     lower=_finite(interval.low if interval else None), upper=_finite(interval.high if interval else None))
    if stopped:
        return result
    if row.misdrawn:
        return replace(result, reason="sample_ratio")
    if passed and not row.unsupported and n_units >= gate.min_units:
        return replace(result, status=Status.PASS, reason=None)
    return replace(result, reason=_reason(test, row))


def _sizes(gate: Gate, row: RowEvidence, tally: Tally) -> tuple[int, int]:
    """(units, events) of the denominator: of a class only those that a label puts there, else also those that wait for their label."""
    n_units, n_events = tally.units(row.slot), int(tally.events[row.slot])
    if row.requests is None or gate.metric.kind in CLASS_KINDS:
        return n_units, n_events
    return n_units + row.requests.units(row.slot), n_events + row.requests.events(row.slot)


def _method(gate: Gate) -> str:
    """The method, and of whom a labelled gate speaks."""
    if not gate.metric.labelled:
        return gate.method
    if gate.metric.weighted and gate.metric.requested:
        return f"{gate.method}, weighted, pending labels filled"
    return f"{gate.method}, {'weighted' if gate.metric.weighted else 'among labelled'}"


def _reason(test: Test, row: RowEvidence) -> Reason:
    if test.domain != ("all",) and row.n_rows and not row.n_pairs:
        return "unpaired"
    return "no_support" if row.unsupported else "insufficient"


def _interval(test: Test, row: RowEvidence, tally: Tally) -> Interval:
    """The ends that agree with the status: the side of the limit at alpha from the pass, the other at the level of the fail."""
    if test.edges is not None:
        cells = tally.cells[row.slot, 1]
        latency = test.gate.metric.kind == "latency"
        return _latency_interval(test, cells, row, test.edges) if latency else _difference_interval(test, cells, row, test.edges)
    counts, values, weights = tally.counts[row.slot], test.support.values, test.support.weights
    for_pass, for_fail, waiting = test.support.for_pass(counts), test.support.for_fail(counts), row.waiting(test)
    if test.gate.word == "within":
        under, over = test.design.pass_
        return Interval(low=over.bound(for_pass, values, level=row.alpha, weights=weights, waiting=waiting),
                        high=under.bound(for_pass, values, level=row.alpha, weights=weights, waiting=waiting))
    passing = test.design.pass_[0].bound(for_pass, values, level=row.alpha, weights=weights, waiting=waiting)
    failing = test.design.fail[0].bound(for_fail, values, level=row.fail_level, weights=weights, waiting=waiting)
    return Interval(low=failing, high=passing) if test.gate.word == "below" else Interval(low=passing, high=failing)


def _latency_interval(test: Test, cells: Ints, row: RowEvidence, edges: Floats) -> Interval:
    """Edges that the quantile is proved to lie below and above; passing means `high` <= limit, as the limit is an edge."""
    n, last = int(cells.sum()), len(edges)
    slower = n - np.cumsum(cells[:last])
    unknown = int(cells[last + 1])
    for_pass = np.stack([n - slower, slower], axis=-1)
    for_fail = np.stack([n - slower + unknown, slower - unknown], axis=-1)
    below = test.design.log_e_pass(for_pass, test.support.values) >= -log(row.alpha)
    above = test.design.log_e_fail(for_fail, test.support.values) >= -log(row.fail_level)
    low = float(edges[np.flatnonzero(above)[-1]]) if above.any() else 0.0
    return Interval(low=low, high=float(edges[np.argmax(below)]) if below.any() else np.inf)


def _difference_interval(test: Test, cells: Ints, row: RowEvidence, edges: Floats) -> Interval:
    """The same for a difference: `within` takes both ends from its pass, one for each limit."""
    counts = np.stack([(below := np.cumsum(cells[: len(edges)])), int(cells.sum()) - below], axis=-1)
    ends = [(process, row.alpha) for process in test.design.pass_]
    ends += [] if test.gate.word == "within" else [(process, row.fail_level) for process in test.design.fail]
    low, high = float(edges[0]), float(edges[-1])
    for process, level in ends:
        proved = np.flatnonzero(of_rates(process).log_e(counts, np.array([0.0, 1.0])) >= -log(level))
        if len(proved) and process.proves == "below":
            high = float(edges[proved[0]])
        elif len(proved):
            low = float(edges[proved[-1]])
    return Interval(low=low, high=high)


def _estimates(test: Test, row: RowEvidence, tally: Tally) -> tuple[float | None, float | None]:
    """(per unit, per event)."""
    if row.requests is not None and test.gate.metric.kind not in CLASS_KINDS:
        return _as_if_all_came(test, row, row.requests, tally)
    if test.edges is None:
        return tally.mean(row.slot), tally.mean_events(row.slot)
    by_event, by_unit = tally.cells[row.slot]
    return quantile_of(test.gate.metric, by_unit, test.edges), quantile_of(test.gate.metric, by_event, test.edges)


def _finite(bound: float | None) -> float | None:
    return bound if bound is not None and np.isfinite(bound) else None


def follow_segments(gate: Gate, whole: GateResult, parts: Sequence[tuple[GateResult, bool]]) -> GateResult:
    """The whole row of a gate with `each`: its own numbers over all events, and the worst status of its segments.

    Args:
        gate: The gate.
        whole: Its row over all events.
        parts: Each segment's row, and whether any event of that segment was seen. Under `small: report` a seen segment of fewer than
            `min_units` units does not count; no segment that counts is no evidence.
    """
    counted = [part for part, seen in parts if not (gate.small == "report" and seen and part.n_units < gate.min_units)]
    worst = max((part.status for part in counted), default=Status.UNDECIDED)
    reasons = [part.reason for part in counted if part.status is worst]
    reason = next((r for r in _WORST_REASONS if r in reasons), None if worst is not Status.UNDECIDED else "insufficient")
    if whole.reason == "compute_error" and worst is not Status.FAIL:
        return whole
    alarms = [part.alarmed_at for part in counted if part.alarmed_at is not None]
    return replace(whole, status=worst, reason=reason, alarmed_at=min(alarms, default=None))


def closed_test(log_e: Floats, log_enough: float) -> NDArray[np.bool_]:
    """Which members fail by closed testing by means, at one look.

    A member fails when the mean of its e-value with the k smallest others reaches the level for every k.

    Args:
        log_e: Log e-value of each member, shape (members,).
        log_enough: ln(1 / level of the group).

    Source: Vovk & Wang (2021), Ann. Statist. 49(3); STATISTICS 3.
    """
    failed = np.zeros(len(log_e), bool)
    ordered = np.sort(log_e)
    sums = np.concatenate([[-np.inf], np.logaddexp.accumulate(ordered)]) if len(log_e) else ordered
    sizes = np.log(np.arange(1, len(log_e) + 1))
    for member in np.flatnonzero(log_e >= log_enough):
        # beyond its own place the smallest others only grow, and with them the mean: those k need no look
        others = int(np.searchsorted(ordered, log_e[member], side="left")) + 1
        failed[member] = bool((np.logaddexp(log_e[member], sums[:others]) - sizes[:others]).min() >= log_enough)
    return failed


def _as_if_all_came(test: Test, row: RowEvidence, requests: Requests, tally: Tally) -> tuple[float | None, float | None]:
    """(per unit, per event) as if labels that wait were like those that came; the interval holds whatever they are."""
    found = []
    for units, n, total in zip((True, False), _sizes(test.gate, row, tally), (tally.unit_sums, tally.event_sums), strict=True):
        came = requests.came(row.slot, units=units)
        found.append(total[row.slot] / (n << test.support.bits) / came if n and came else None)
    return found[0], found[1]


def watched(test: Test, batch: Batch, rows: Ints) -> Floats:
    """Contributions of these rows as a change detector takes them: two numbers each, four where there are requests."""
    weights = np.ones(len(rows)) if batch.weights is None else batch.weights[rows] * (test.support.least or 1.0)
    values = test.support.fail_values(batch.values[rows])
    if batch.fill is None:
        return np.stack([values, weights], axis=-1)
    fill = batch.fill.take(rows)
    optional = fill.waits & (test.gate.metric.kind in _OPTIONAL)
    return np.stack([np.where(fill.waits, fill.low, values), np.where(fill.waits, fill.high, values), weights, optional], axis=-1)


def fail_paths(
    test: Test, tally: Tally, batch: Batch, look_of_row: Ints, n_looks: int, requests: Requests | None = None
) -> Floats:
    """Log e-value of the fail for each slot and look, shape (slots, looks).

    Args:
        test: The gate's test.
        tally: What was counted before the first of these looks.
        batch: What came since.
        look_of_row: For each row of the batch, the first look that counts it.
        n_looks: How many looks there are, >= 1.
        requests: What was counted of labels that wait, before these looks.
    """
    before = [tally.counts] if requests is None else [tally.counts, requests.least, requests.greatest]
    start = _log_e_fail(test, before)
    paths = np.repeat(start[:, None], n_looks, axis=1)
    if not batch.first.any():
        return paths
    for slot in np.unique(batch.slots[batch.first]):
        mine = batch.first & (batch.slots == slot)
        changed, place = np.unique(look_of_row[mine], return_inverse=True)
        own = replace(batch.take(mine), slots=place.reshape(-1))
        parts = (own.told(),) if requests is None else (own.told(), own.waiting(greatest=False), own.waiting(greatest=True))
        shape = len(changed), test.support.n_values
        since = _log_e_fail(test, [
            counts[slot] + np.cumsum(counted(test.support, shape, part.slots, part.values, part.weights), axis=0)
            for counts, part in zip(before, parts, strict=True)])
        paths[slot] = np.append(start[slot], since)[np.searchsorted(changed, np.arange(n_looks), side="right")]
    return paths


def _log_e_fail(test: Test, counts: Sequence[Ints]) -> Floats:
    """From the counts of what is known, and (with requests) of what waits at its least and at its greatest."""
    return test.log_e_fail(counts[0]) if len(counts) == 1 else test.log_e_fail(counts[0], test.filled(counts[1], counts[2]))


def pool_path(shares: Sequence[Floats], n_looks: int) -> Floats:
    """ln of sum E_k/(k(k+1)) over all k, those not seen at E = 1: one e-process for values that no config lists.

    Args:
        shares: ln(E_k/(k(k+1))) at each look for k = 1, 2, ..., shape (looks,) each.
        n_looks: How many looks there are.
    """
    total = np.full(n_looks, -log(len(shares) + 1))  # the sum of 1/(k(k+1)) over the k that are left
    for share in shares:
        total = np.logaddexp(total, share)
    return total
