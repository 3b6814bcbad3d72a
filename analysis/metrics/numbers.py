"""The number of each row and lane that a metric speaks of, before it is a contribution."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.metrics import plugins
from analysis.metrics.support import FAST, SLOW, UNKNOWN, Floats, Ints, latency_cells
from analysis.types import Column, Gate, InputError, Metric, PairTable

Mask = NDArray[np.bool_]
NULL = "unknown"
ERRORS = ("error", "bad_output")
T = TypeVar("T")


def of_lane(metric: Metric, table: PairTable, lane: str) -> Floats:
    """One lane's own number on every row, shape (rows,); NaN where it has none."""
    if metric.kind == "python":
        return plugins.values_of(metric, table, lane)
    if metric.kind == "missing":
        return np.asarray(table[f"missing.{lane}"] >= 0, dtype=np.float64)
    if metric.kind == "errors":
        return np.asarray(is_any(table[f"missing.{lane}"], table.words.get("missing", ()), ERRORS), dtype=np.float64)
    if metric.kind in ("harm", "recall", "action"):
        return says(table, policy_of(metric), lane, ("true",) if metric.kind == "recall" else metric.decisions)
    if metric.kind == "cost":
        harmful = [weight * (table[f"{policy}.truth"] == int(truth)) * says(table, policy, lane, decisions)
                   for policy, truth, decisions, weight in metric.costs]
        return np.sum(harmful, axis=0)  # type: ignore[no-any-return]
    if metric.loss == "zero_one":
        policy = policy_of(metric)
        return np.abs(says(table, policy, lane, ("true",)) - table[f"{policy}.truth"])
    output, truth = needed(metric.output, "output", metric), table[f"truth.{needed(metric.truth_name, 'truth_name', metric)}"]
    found = _loss(needed(metric.loss, "loss", metric), np.asarray(table[f"{output}.{lane}"], dtype=np.float64), truth)
    # a probability of 0 for what then happened has no finite log loss: it counts as the bound that the config states
    return np.minimum(found, needed(metric.bound, "bound", metric)) if metric.loss == "log_loss" else found


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


def flip(metric: Metric, table: PairTable) -> Floats:
    policy = policy_of(metric)
    old, new = table[f"{policy}.incumbent"], table[f"{policy}.challenger"]
    words = table.words.get(policy, ())
    changed = old != new
    if metric.from_ is not None:
        changed = changed & is_any(old, words, (metric.from_,))
    if metric.to is not None:
        changed = changed & is_any(new, words, (metric.to,))
    return np.where((old < 0) | (new < 0), np.nan, changed.astype(np.float64))


def latency(gate: Gate, table: PairTable) -> Floats:
    lane = gate.metric.lane
    missing, taken = table[f"missing.{lane}"] >= 0, table[f"latency_ms.{lane}"]
    with np.errstate(invalid="ignore"):
        answered = np.where(np.isnan(taken), UNKNOWN, np.where(taken > gate.limit, SLOW, FAST))
    return np.where(missing, SLOW, answered)


def disagreement(metric: Metric, table: PairTable) -> Floats:
    """1 where the outputs of a pair differ, numbers and scores by more than the tolerance; NaN where one is not there."""
    name, tolerance = needed(metric.output, "output", metric), metric.tolerance or 0.0
    if name in table.words:
        old, new = table[f"{name}.incumbent"], table[f"{name}.challenger"]
        return np.where((old < 0) | (new < 0), np.nan, (old != new).astype(np.float64))
    columns = [f"{name}.{label}" for label in metric.labels] or [name]
    apart = [np.abs(table[f"{column}.challenger"] - table[f"{column}.incumbent"]) for column in columns]
    furthest: Floats = np.max(apart, axis=0)
    return np.where(np.isnan(furthest), np.nan, (furthest > tolerance).astype(np.float64))


def excess_disagreement(metric: Metric, table: PairTable) -> Floats:
    """Z = V - xi U / rho: V whether the challenger decides otherwise, U whether the incumbent's own copy does where it was asked.

    A copy that was asked and did not answer counts as one that agrees: a pass is safe, a fail may come sooner.

    Source: STATISTICS 7.6.
    """
    policy = policy_of(metric)
    old, copy = table[f"{policy}.incumbent"], table[f"{policy}.replica"]
    itself: Floats = ((table["missing.replica"] < 0) & (copy >= 0) & (copy != old)).astype(np.float64)
    return flip(metric, table) - itself / needed(metric.share, "share", metric)


def says(table: PairTable, policy: str, lane: str, decisions: tuple[str, ...]) -> Floats:
    """1 where the lane's decision is one of these, 0 where another, NaN where there is none."""
    said = table[f"{policy}.{lane}"]
    return np.where(said < 0, np.nan, is_any(said, table.words.get(policy, ()), decisions).astype(np.float64))


def is_any(coded: Column, words: tuple[str, ...], wanted: tuple[str, ...]) -> Mask:
    found: Mask = np.isin(coded, [k for k, word in enumerate(words) if word in wanted])
    return found


def cells_of(table: PairTable, policy: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """(incumbent, challenger) decision of every row as words, for coverage by cell."""
    words = np.array([*table.words.get(policy, ()), NULL], dtype=object)
    return words[table[f"{policy}.incumbent"]], words[table[f"{policy}.challenger"]]


def policy_of(metric: Metric) -> str:
    return needed(metric.policy, "policy", metric)


def needed(value: T | None, name: str, metric: Metric) -> T:
    if value is None:
        raise InputError(f"a metric of the kind {metric.kind!r} needs {name}")
    return value


def latency_cells_of(table: PairTable, lane: str, edges: Floats) -> Ints:
    """The latency cell of each row of a lane, shape (rows,)."""
    return latency_cells(table[f"latency_ms.{lane}"], table[f"missing.{lane}"] >= 0, edges)
