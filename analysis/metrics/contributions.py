"""From a metric and a pair table to contributions: which rows count, and the number of each.

A domain says on which rows a metric is defined; gates with the same domain share their first events of units. The numbers follow
the words of the gate: compared gates and `within` take a difference in which positive means that the challenger is better.
"""

from __future__ import annotations

import numpy as np

from analysis.metrics import numbers, plugins, quantiles
from analysis.metrics.numbers import Mask, needed, of_lane, policy_of, says
from analysis.metrics.support import LARGEST, Floats, Support
from analysis.types import CLASS_KINDS, Gate, InputError, Metric, PairTable

Domain = tuple[str, ...]
_OF_PAIRS = ("difference", "flip", "disagreement", "excess_disagreement")
"""Kinds that compare the lanes by themselves; only a difference of numbers has two sides."""


# ------------------------------------------------------------------------------------------------------------ which rows
def domain_of(metric: Metric) -> Domain:
    """The rows that a metric is defined on, as a hashable key for `rows_of`: with weights every pair, labelled or not.

    Raises:
        InputError: the kind is not known, or a part that it needs is missing.
    """
    own = _own_domain(metric)
    return ("pairs",) if metric.weighted else own


def _own_domain(metric: Metric) -> Domain:
    """The rows on which its number is known."""
    if metric.kind in ("missing", "errors", "latency"):
        return ("all",)
    if metric.kind in ("flip", "difference", "disagreement", "excess_disagreement"):
        return ("pairs",)
    if metric.kind == "action":
        if not metric.decisions or metric.lane not in ("incumbent", "challenger"):
            raise InputError(f"an action needs at least one decision, of the incumbent or the challenger; got the {metric.lane}")
        return ("pairs",)
    if metric.kind == "cost":
        if not metric.costs or any(not 0.0 < weight < np.inf for *_, weight in metric.costs):
            raise InputError("a cost needs at least one harm, each with a positive weight")
        return ("known", *dict.fromkeys(policy for policy, *_ in metric.costs))
    if metric.kind == "harm":
        if metric.truth is None or not metric.decisions:
            raise InputError("a harm needs the class of its truth and at least one decision")
        return ("class", policy_of(metric), "1" if metric.truth else "0")
    if metric.kind == "recall":
        return ("class", policy_of(metric), "1")
    if metric.kind == "precision":
        return ("decided", policy_of(metric))
    if metric.kind == "python":
        return plugins.domain_of(metric)
    if metric.kind == "loss":
        return ("known", policy_of(metric)) if metric.loss == "zero_one" else ("labelled", needed(metric.truth_name, "truth_name", metric))
    raise InputError(f"a metric of the kind {metric.kind!r} is not known here")


def rows_of(domain: Domain, table: PairTable) -> Mask:
    """Which rows of the table are in the domain, shape (rows,)."""
    if domain == ("all",):
        return np.ones(len(table), bool)
    paired = paired_rows(table)
    rows: Mask
    match domain:
        case ("pairs",):
            rows = paired
        case ("class", policy, truth):
            rows = paired & np.asarray(table[f"{policy}.truth"] == int(truth), bool)
        case ("known", *policies):
            rows = paired & np.all([table[f"{policy}.truth"] >= 0 for policy in policies], axis=0)
        case ("decided", policy):
            said = says(table, policy, "challenger", ("true",))
            rows = paired & (table[f"{policy}.truth"] >= 0) & ((said == 1.0) | np.isnan(said))
        case ("python", *_):
            rows = paired & plugins.rows_of(domain, table)
        case ("labelled", truth_name):
            rows = paired & ~np.isnan(table[f"truth.{truth_name}"])
        case _:
            raise InputError(f"a domain {domain} is not known here")
    return rows


def paired_rows(table: PairTable) -> Mask:
    """Which rows both lanes answered, shape (rows,)."""
    paired: Mask = (table["missing.incumbent"] < 0) & (table["missing.challenger"] < 0)
    return paired


def labelled_rows(table: PairTable) -> Mask:
    """Which rows have any truth, shape (rows,)."""
    known = np.zeros(len(table), bool)
    for name, column in table.columns.items():
        if name.startswith("truth."):
            known |= ~np.isnan(column)
        elif name.endswith(".truth"):
            known |= column >= 0
    return known


# ------------------------------------------------------------------------------------------------------------ which numbers
def paired_difference(gate: Gate) -> bool:
    """Whether its contributions are differences between the lanes: compared gates, and `within` of what both lanes have."""
    return gate.compared or (gate.word == "within" and gate.metric.kind not in _OF_PAIRS)


def agreement_is_known(gate: Gate) -> bool:
    """Whether equal decisions make its weighted contribution known without a label: two losses, or two costs, of one policy."""
    metric = gate.metric
    return metric.weighted and metric.policy is not None and metric.kind in ("loss", "cost") and paired_difference(gate)


def support_of(gate: Gate) -> Support:
    """The range of a gate's contributions: of events, or of what the windows of units tell.

    Raises:
        InputError: the metric cannot be asked with this word or unit, or a numeric one has no bound.
    """
    of_events = _support_of_events(gate)
    if gate.unit == "first":
        return of_events
    if not gate.unit_window_us or gate.unit_window_us < 1:
        raise InputError(f"a unit counted by {gate.unit} needs a window of time, got {gate.unit_window_us}")
    of_quantile = of_events.kind == "latency" or quantiles.is_difference_quantile(gate.metric)
    if gate.metric.weighted or of_quantile or (gate.unit == "ever" and of_events.kind != "rate"):
        raise InputError(f"{gate.metric.kind} {gate.word} cannot be counted by {gate.unit}")
    return of_events if gate.unit == "ever" else Support("numeric", of_events.low, of_events.high)


def _support_of_events(gate: Gate) -> Support:
    metric, compared = gate.metric, paired_difference(gate)
    if metric.kind == "latency":
        if gate.word != "below":
            raise InputError(f"latency takes below, got {gate.word}")
        return Support("latency", 0.0, 1.0)
    if (compared and metric.kind in (*_OF_PAIRS, "precision")) or (gate.word == "within" and metric.kind in _OF_PAIRS[1:]):
        raise InputError(f"{metric.kind} takes below or above, got {gate.word}")
    if compared and metric.lane == "incumbent":
        raise InputError("the incumbent cannot be compared with itself")
    if quantiles.is_difference_quantile(metric):
        return Support("sign", -1.0, 1.0) if gate.word == "within" else Support("rate", 0.0, 1.0)
    least = metric.least if metric.weighted else None
    if least is not None and not 0.0 < least <= 1.0:
        raise InputError(f"least must lie in (0, 1], got {least}")
    if metric.kind == "excess_disagreement":
        share = needed(metric.share, "share", metric)
        if not 0.0 < share <= 1.0:
            raise InputError(f"the replica's share must lie in (0, 1], got {share}")
        return Support("sign", -1.0, 1.0) if share == 1.0 else Support("numeric", -1.0 / share, 1.0)
    if metric.kind in ("difference", "cost", "python") or (metric.kind == "loss" and (metric.loss != "zero_one" or least is not None)):
        if metric.bound is None and gate.method == "asymptotic" and least is None:
            return Support("free", -LARGEST, LARGEST)
        bound = 1.0 if metric.loss == "zero_one" else float(needed(metric.bound, "bound", metric))
        if not 0.0 < bound < np.inf:
            raise InputError(f"bound must be positive and finite, got {bound}")
        bound /= least or 1.0
        return Support("numeric", -bound if compared or metric.kind == "difference" else 0.0, bound)
    return Support("sign", -1.0, 1.0, least) if compared else Support("rate", 0.0, 1.0, least)


def contributions_of(gate: Gate, table: PairTable) -> tuple[Floats, Floats | None]:
    """(value, weight) of every row, shape (rows,) each; meaningful where the domain is, NaN where a number is not known there.

    Without a propensity every weight is one (None). With one a share of a class has the weight 1/propensity on the labelled rows of its
    class and 0 elsewhere; any other metric has its value times that weight, and 0 on rows without a label.

    Source: STATISTICS 4 and 7.5.
    """
    values, metric = values_of(gate, table), gate.metric
    if not metric.weighted:
        return values, None
    known, weights = rows_of(_own_domain(metric), table), weights_of(metric, table)
    if metric.requested:  # a label that nobody asked for is no part of the sample
        known &= ~np.isnan(table["propensity"])
        values = np.where(known & _beyond(metric, table), np.nan, values)
    trusted = ~np.isnan(weights)
    if metric.kind in CLASS_KINDS:
        return np.where(known, np.where(trusted, values, np.nan), 0.0), np.where(known & trusted, weights, 0.0)
    return np.where(known, values * weights, 0.0), None


def _beyond(metric: Metric, table: PairTable) -> Mask:
    """On which rows a squared error is over its bound, shape (rows,): while the label waited it was filled as if none could be."""
    if metric.loss != "squared_error":
        return np.zeros(len(table), bool)
    largest = np.fmax(of_lane(metric, table, "incumbent"), of_lane(metric, table, "challenger"))
    beyond: Mask = largest > needed(metric.bound, "bound", metric) * (1.0 + 1e-9)
    return beyond


def weights_of(metric: Metric, table: PairTable) -> Floats:
    """1/propensity of every row, shape (rows,); NaN where there is none that can be trusted."""
    chance, least = table["propensity"], float(metric.least or 1.0)
    with np.errstate(invalid="ignore"):
        trusted = (chance >= least * (1.0 - 1e-6)) & (chance <= 1.0 + 1e-6)  # a table may keep propensities in single precision
        return np.where(trusted, 1.0 / np.clip(chance, least, 1.0), np.nan)


def values_of(gate: Gate, table: PairTable) -> Floats:
    """The number of every row before any weight, shape (rows,)."""
    metric = gate.metric
    if metric.kind == "latency":
        return numbers.latency(gate, table)
    if metric.kind == "flip":
        return numbers.flip(metric, table)
    if metric.kind == "precision":
        truth = np.asarray(table[f"{policy_of(metric)}.truth"], dtype=np.float64)
        return np.where(np.isnan(says(table, policy_of(metric), "challenger", ("true",))), np.nan, truth)
    if metric.kind == "difference":
        return quantiles.difference(metric, table) if metric.quantile is None else quantiles.places(gate, table)
    if metric.kind == "disagreement":
        return numbers.disagreement(metric, table)
    if metric.kind == "excess_disagreement":
        return numbers.excess_disagreement(metric, table)
    own = of_lane(metric, table, "challenger" if metric.labelled else metric.lane)
    if not paired_difference(gate):
        return own
    other = of_lane(metric, table, "incumbent")
    return own - other if metric.kind == "recall" else other - own
