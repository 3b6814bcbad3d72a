"""From a metric and a pair table to contributions: which rows count, and the number of each.

A domain says on which rows a metric is defined; gates with the same domain share their first events of units. The numbers follow
the words of the gate: compared gates and `within` take a difference in which positive means that the challenger is better.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.support import FAST, SLOW, UNKNOWN, Floats, Support
from analysis.types import CLASS_KINDS, Column, Gate, InputError, Metric, PairTable

Domain = tuple[str, ...]
Mask = NDArray[np.bool_]
NULL = "unknown"
ERRORS = ("error", "bad_output")
T = TypeVar("T")


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
    if metric.kind in ("flip", "difference"):
        return ("pairs",)
    if metric.kind == "harm":
        if metric.truth is None or not metric.decisions:
            raise InputError("a harm needs the class of its truth and at least one decision")
        return ("class", _policy(metric), "1" if metric.truth else "0")
    if metric.kind == "recall":
        return ("class", _policy(metric), "1")
    if metric.kind == "precision":
        return ("decided", _policy(metric))
    if metric.kind == "loss":
        return ("known", _policy(metric)) if metric.loss == "zero_one" else ("labelled", _needed(metric.truth_name, "truth_name", metric))
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
        case ("known", policy):
            rows = paired & np.asarray(table[f"{policy}.truth"] >= 0, bool)
        case ("decided", policy):
            said = _says(table, policy, "challenger", ("true",))
            rows = paired & (table[f"{policy}.truth"] >= 0) & ((said == 1.0) | np.isnan(said))
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
    return gate.compared or (gate.word == "within" and gate.metric.kind != "difference")


def agreement_is_known(gate: Gate) -> bool:
    """Whether equal decisions make its weighted contribution known without a label: the difference of two losses of one policy."""
    return gate.metric.weighted and gate.metric.loss == "zero_one" and paired_difference(gate)


def support_of(gate: Gate) -> Support:
    """The range of a gate's contributions.

    Raises:
        InputError: the metric cannot be asked with this word, or a numeric one has no bound.
    """
    metric, compared = gate.metric, paired_difference(gate)
    if metric.kind == "latency":
        if gate.word != "below":
            raise InputError(f"latency takes below, got {gate.word}")
        return Support("latency", 0.0, 1.0)
    if compared and metric.kind in ("flip", "precision", "difference"):
        raise InputError(f"{metric.kind} takes below or above, got {gate.word}")
    least = metric.least if metric.weighted else None
    if least is not None and not 0.0 < least <= 1.0:
        raise InputError(f"least must lie in (0, 1], got {least}")
    if metric.kind == "difference" or (metric.kind == "loss" and (metric.loss != "zero_one" or least is not None)):
        bound = 1.0 if metric.loss == "zero_one" else float(_needed(metric.bound, "bound", metric))
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
    known, least = rows_of(_own_domain(metric), table), float(metric.least or 1.0)
    chance = table["propensity"]
    with np.errstate(invalid="ignore"):
        trusted = (chance >= least * (1.0 - 1e-6)) & (chance <= 1.0 + 1e-6)  # a table may keep propensities in single precision
        weights = np.where(trusted, 1.0 / np.clip(chance, least, 1.0), np.nan)
    if metric.kind in CLASS_KINDS:
        return np.where(known, np.where(trusted, values, np.nan), 0.0), np.where(known & trusted, weights, 0.0)
    return np.where(known, values * weights, 0.0), None


def values_of(gate: Gate, table: PairTable) -> Floats:
    """The number of every row before any weight, shape (rows,)."""
    metric = gate.metric
    if metric.kind == "latency":
        return _latency(gate, table)
    if metric.kind == "flip":
        return _flip(metric, table)
    if metric.kind == "precision":
        truth = np.asarray(table[f"{_policy(metric)}.truth"], dtype=np.float64)
        return np.where(np.isnan(_says(table, _policy(metric), "challenger", ("true",))), np.nan, truth)
    if metric.kind == "difference":
        output = _needed(metric.output, "output", metric)
        return np.asarray(table[f"{output}.challenger"] - table[f"{output}.incumbent"], dtype=np.float64)
    own = _of_lane(metric, table, metric.lane if metric.kind in ("missing", "errors") else "challenger")
    if not paired_difference(gate):
        return own
    other = _of_lane(metric, table, "incumbent")
    return own - other if metric.kind == "recall" else other - own


def _of_lane(metric: Metric, table: PairTable, lane: str) -> Floats:
    """One lane's own number on every row."""
    if metric.kind == "missing":
        return np.asarray(table[f"missing.{lane}"] >= 0, dtype=np.float64)
    if metric.kind == "errors":
        return np.asarray(_is_any(table[f"missing.{lane}"], table.words.get("missing", ()), ERRORS), dtype=np.float64)
    if metric.kind in ("harm", "recall"):
        return _says(table, _policy(metric), lane, metric.decisions if metric.kind == "harm" else ("true",))
    if metric.loss == "zero_one":
        policy = _policy(metric)
        return np.abs(_says(table, policy, lane, ("true",)) - table[f"{policy}.truth"])
    output, truth = _needed(metric.output, "output", metric), table[f"truth.{_needed(metric.truth_name, 'truth_name', metric)}"]
    found = _loss(_needed(metric.loss, "loss", metric), np.asarray(table[f"{output}.{lane}"], dtype=np.float64), truth)
    # a probability of 0 for what then happened has no finite log loss: it counts as the bound that the config states
    return np.minimum(found, _needed(metric.bound, "bound", metric)) if metric.loss == "log_loss" else found


def _loss(loss: str, said: Floats, truth: Floats) -> Floats:
    if loss == "absolute_error":
        return np.abs(said - truth)
    if loss == "squared_error":
        return (said - truth) ** 2
    if loss == "log_loss":
        with np.errstate(divide="ignore", invalid="ignore"):
            chance = np.where(truth == 1.0, said, np.where(truth == 0.0, 1.0 - said, np.nan))
            return -np.log(chance) + 0.0
    raise InputError(f"a loss {loss!r} is not known here")


def _flip(metric: Metric, table: PairTable) -> Floats:
    policy = _policy(metric)
    old, new = table[f"{policy}.incumbent"], table[f"{policy}.challenger"]
    words = table.words.get(policy, ())
    changed = old != new
    if metric.from_ is not None:
        changed = changed & _is_any(old, words, (metric.from_,))
    if metric.to is not None:
        changed = changed & _is_any(new, words, (metric.to,))
    return np.where((old < 0) | (new < 0), np.nan, changed.astype(np.float64))


def _latency(gate: Gate, table: PairTable) -> Floats:
    lane = gate.metric.lane
    missing, latency = table[f"missing.{lane}"] >= 0, table[f"latency_ms.{lane}"]
    with np.errstate(invalid="ignore"):
        answered = np.where(np.isnan(latency), UNKNOWN, np.where(latency > gate.limit, SLOW, FAST))
    return np.where(missing, SLOW, answered)


def _says(table: PairTable, policy: str, lane: str, decisions: tuple[str, ...]) -> Floats:
    """1 where the lane's decision is one of these, 0 where another, NaN where there is none."""
    said = table[f"{policy}.{lane}"]
    return np.where(said < 0, np.nan, _is_any(said, table.words.get(policy, ()), decisions).astype(np.float64))


def _is_any(coded: Column, words: tuple[str, ...], wanted: tuple[str, ...]) -> Mask:
    found: Mask = np.isin(coded, [k for k, word in enumerate(words) if word in wanted])
    return found


# --------------------------------------------------------------------------------------------------------------- support
def cells_of(table: PairTable, policy: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """(incumbent, challenger) decision of every row as words, for coverage by cell."""
    words = np.array([*table.words.get(policy, ()), NULL], dtype=object)
    return words[table[f"{policy}.incumbent"]], words[table[f"{policy}.challenger"]]


def _policy(metric: Metric) -> str:
    return _needed(metric.policy, "policy", metric)


def _needed(value: T | None, name: str, metric: Metric) -> T:
    if value is None:
        raise InputError(f"a metric of the kind {metric.kind!r} needs {name}")
    return value
