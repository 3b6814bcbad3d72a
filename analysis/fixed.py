"""Fixed-sample companions: what a reader's own notebook would say of the same gate. Descriptive, valid at one look chosen beforehand.

They count every event, with an interval clustered by unit, beside the sequential numbers, which count each unit once and hold at every
look. Never gate on them: read again and again, a 95 % interval misses far more than 5 %. The one home of statsmodels and scipy's tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from analysis.metrics.contributions import contributions_of, domain_of, paired_difference, rows_of, support_of
from analysis.metrics.quantiles import is_difference_quantile
from analysis.metrics.support import UNKNOWN, Floats
from analysis.metrics.waiting import fill_of, without_unasked
from analysis.types import Gate, InputError, Interval, PairTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """Fixed-sample numbers of one gate over all events of a table.

    estimate: mean over events (weighted where a propensity is declared); for a quantile the share of events over the limit. interval:
    of that mean, at `level`, clustered by unit; None with fewer than two units. design_effect: variance of the mean by units over that
    of independent events; how much evidence several events of a unit only seem to be. p_value: one look, the null that a pass rejects.
    gained, lost: units whose first event only the challenger, or only the incumbent, got right; mcnemar_exact, mcnemar_mid_p: two-sided
    p-values that these differ by chance; None where the metric is not paired and of two values.
    """

    estimate: float | None
    interval: Interval | None
    level: float
    n_events: int
    n_units: int
    design_effect: float | None
    p_value: float | None
    gained: int | None = None
    lost: int | None = None
    mcnemar_exact: float | None = None
    mcnemar_mid_p: float | None = None


def companions(gate: Gate, table: PairTable, *, level: float = 0.95) -> Companion:
    """The fixed-sample companion of a gate, over all rows of the table that its metric is defined on.

    Args:
        gate: The gate.
        table: Rows in any order; for a labelled gate only those that have matured.
        level: Chance that the interval covers, at one look, in (0, 1).

    Raises:
        InputError: the gate cannot be computed from this table, a number is not finite or out of range, or level is out of range.
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level must lie in (0, 1), got {level}")
    values, weights, units = _numbers(gate, table)
    n, distinct = len(values), np.unique(units)
    blank = Companion(estimate=None, interval=None, level=level, n_events=n, n_units=len(distinct), design_effect=None, p_value=None)
    if not n or not weights.sum() > 0.0:
        return blank
    mean = float((values * weights).sum() / weights.sum())
    clustered, plain = _variances(values, weights, units, mean)
    found = replace(blank, estimate=mean)
    if len(distinct) >= 2:
        from scipy import stats

        half = float(stats.t.ppf(0.5 + level / 2.0, len(distinct) - 1)) * sqrt(clustered)
        interval, effect = Interval(low=mean - half, high=mean + half), clustered / plain if plain > 0.0 else None
        found = replace(found, interval=interval, design_effect=effect, p_value=_p_value(gate, mean, sqrt(clustered), len(distinct) - 1))
    support = support_of(gate)
    return _with_mcnemar(found, values, units) if paired_difference(gate) and support.kind == "sign" and support.least is None else found


def _numbers(gate: Gate, table: PairTable) -> tuple[Floats, Floats, Floats]:
    """(value, weight, unit) of each row that counts."""
    rows = np.flatnonzero(rows_of(domain_of(gate.metric), table)) if len(table) else np.zeros(0, np.int64)
    if not len(rows):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    if is_difference_quantile(gate.metric) and gate.word == "within":
        raise InputError(f"{gate.name}: a quantile within two limits has no one share that a fixed-sample test could speak of")
    values, weights = contributions_of(gate, table)
    values = values[rows]
    if support_of(gate).faulty(values).any():
        raise InputError(f"{gate.name}: a number lies outside its range or is not finite")
    if weights is None and (fill := fill_of(gate, without_unasked(table))) is not None and (came := fill.needed & fill.known).any():
        # as if labels that wait were like those that came
        values = values * float(fill.chances[fill.needed].sum() / fill.chances[came].sum())
    heavy = np.ones(len(rows)) if weights is None else weights[rows]
    kept = heavy > 0.0 if gate.metric.kind != "latency" else values != UNKNOWN
    return values[kept], heavy[kept], np.asarray(table["unit_id"])[rows][kept]


def _variances(values: Floats, weights: Floats, units: Floats, mean: float) -> tuple[float, float]:
    """Variance of a (weighted) mean: by units (linearised, with G/(G - 1)), and as if events were independent."""
    residuals = weights * (values - mean) / weights.sum()
    _, of = np.unique(units, return_inverse=True)
    sums = np.bincount(of.reshape(-1), weights=residuals)
    n, g = len(values), len(sums)
    return float((sums**2).sum()) * g / max(g - 1, 1), float((residuals**2).sum()) * n / max(n - 1, 1)


def _p_value(gate: Gate, mean: float, error: float, degrees: int) -> float | None:
    """One-sided p-value of the null that the pass rejects; of `within` the larger of its two (TOST)."""
    if error == 0.0:
        return None
    from scipy import stats

    limit = 1.0 - gate.metric.quantile if gate.metric.quantile is not None else gate.limit
    under = float(stats.t.cdf((mean - limit) / error, degrees))
    over = float(stats.t.sf((mean + limit) / error, degrees))
    match gate.word:
        case "below":
            return under
        case "within":
            return max(under, over)
        case "worse_by_at_most":
            return over
        case _:
            return float(stats.t.sf((mean - limit) / error, degrees))


def _with_mcnemar(found: Companion, values: Floats, units: Floats) -> Companion:
    """McNemar on the first event of each unit: exact by statsmodels, mid-p as exact minus half the chance of what was seen."""
    from scipy import stats
    from statsmodels.stats.contingency_tables import mcnemar

    first = np.sort(np.unique(units, return_index=True)[1])
    gained, lost = int((values[first] > 0.0).sum()), int((values[first] < 0.0).sum())
    exact = float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue)
    smaller = min(gained, lost)
    mid = min(2.0 * float(stats.binom.cdf(smaller, gained + lost, 0.5)) - float(stats.binom.pmf(smaller, gained + lost, 0.5)), 1.0)
    return replace(found, gained=gained, lost=lost, mcnemar_exact=exact, mcnemar_mid_p=mid if gained + lost else 1.0)
