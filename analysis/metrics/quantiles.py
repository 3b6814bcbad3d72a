"""Quantiles of what the rows of a table say: where the limit cuts, the histogram for its interval, and the quantile of that histogram.

A quantile is gated by the rate of what lies over the limit: of a `latency` in milliseconds, or of the `difference` of an output.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from analysis.metrics.numbers import latency_cells_of, needed
from analysis.metrics.support import Floats, Ints, latency_edges, latency_quantile
from analysis.types import Gate, InputError, Metric, PairTable

N_STEPS = 2_000


def is_difference_quantile(metric: Metric) -> bool:
    """Whether a metric is a quantile of challenger minus incumbent."""
    return metric.kind == "difference" and metric.quantile is not None


def difference(metric: Metric, table: PairTable) -> Floats:
    """Challenger minus incumbent of an output, shape (rows,); NaN where one has none."""
    output = needed(metric.output, "output", metric)
    return np.asarray(table[f"{output}.challenger"] - table[f"{output}.incumbent"], dtype=np.float64)


def places(gate: Gate, table: PairTable) -> Floats:
    """Where each difference lies, shape (rows,): 1 over the limit, else 0; under `within` 1 over it, -1 not over minus it, else 0.

    NaN where there is none, or where it lies beyond the declared bound.
    """
    apart, bound = difference(gate.metric, table), float(needed(gate.metric.bound, "bound", gate.metric))
    with np.errstate(invalid="ignore"):
        over = (apart > gate.limit).astype(np.float64)
        found = over - (apart <= -gate.limit) if gate.word == "within" else over
        return np.where(np.abs(apart) <= bound * (1.0 + 1e-12), found, np.nan)


def edges_of(gate: Gate) -> Floats | None:
    """Edges of the histogram that the gate's interval is read from, rising, each limit one of them; None where it has none.

    A latency's are 1 % apart; a difference's are 2,000 equal steps of its range.

    Raises:
        InputError: the bound of a difference is not positive and finite.
    """
    metric = gate.metric
    if metric.kind == "latency":
        return latency_edges(gate.limit)
    if not is_difference_quantile(metric):
        return None
    bound = float(needed(metric.bound, "bound", metric))
    if not 0.0 < bound < np.inf:
        raise InputError(f"bound must be positive and finite, got {bound}")
    lines = (-gate.limit, gate.limit) if gate.word == "within" else (gate.limit,)
    return np.unique(np.concatenate([np.linspace(-bound, bound, N_STEPS + 1), lines]))


def cells_of(gate: Gate, table: PairTable, edges: Floats) -> Ints:
    """The cell of each row, shape (rows,): k for (edges[k-1], edges[k]]; of a latency also one for unknown and one for missing."""
    if gate.metric.kind == "latency":
        return latency_cells_of(table, gate.metric.lane, edges)
    return np.searchsorted(edges[:-1], np.nan_to_num(difference(gate.metric, table)), side="left").astype(np.int64)


def quantile_of(metric: Metric, cells: Ints, edges: Floats) -> float | None:
    """The quantile of a histogram, interpolated inside its cell; None without rows, or where no answer is so slow."""
    quantile = float(needed(metric.quantile, "quantile", metric))
    if metric.kind == "latency":
        return latency_quantile(cells, edges, quantile)
    total = int(cells.sum())
    if not total:
        return None
    rank, below = max(ceil(quantile * total - 1e-9), 1), np.cumsum(cells)
    cell = int(np.searchsorted(below, rank, side="left"))
    if cell == 0:
        return float(edges[0])
    share = (rank - int(below[cell - 1])) / int(cells[cell])
    return float(edges[cell - 1] + share * (edges[cell] - edges[cell - 1]))
