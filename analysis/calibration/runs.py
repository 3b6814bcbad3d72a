"""Many simulated runs of one gate at once: the product's own contributions, first events and windows, then counts by look.

`Evidence` folds one run at a time, row by row; a test holds both together. Use this for error rates, `Evidence` for everything else.
"""

from __future__ import annotations

import numpy as np

from analysis.gates import Test
from analysis.metrics.contributions import contributions_of, rows_of
from analysis.metrics.support import Floats, Ints
from analysis.metrics.tally import Batch
from analysis.prefix import Sighted, Units
from analysis.types import PairTable
from analysis.windows import Windows


def log_e_of_runs(test: Test, table: PairTable, run: Ints, looks: Ints) -> tuple[Floats, Floats]:
    """Log e-values of the pass and of the fail of one gate at each look of each run, shape (runs, looks) each.

    Args:
        test: The gate's test.
        table: The rows of all runs, one run after the other, each in order of arrival; no unit is in two runs. It has no faulty value.
        run: The run of each row, 0, 1, ..., shape (rows,).
        looks: Record times that all runs share, rising, the last one after every row; shape (looks,).
    """
    values, weights = contributions_of(test.gate, table)
    rows = np.flatnonzero(rows_of(test.domain, table) & (True if weights is None else weights > 0.0))
    units, n_runs = Units(), int(run[-1]) + 1
    places = units.places(table["unit_id"][rows])
    if test.gate.unit == "first":
        rows = rows[Sighted().firsts(places, np.zeros(len(rows), np.int64), len(units.ids), 1)]
        of, found, at = run[rows], values[rows], np.searchsorted(looks, table["arrived"][rows], side="left")
        return _log_e(test, n_runs, len(looks), of, at, found, None if weights is None else weights[rows])
    windows = Windows(test.support, test.gate.unit_window_us or 0, test.gate.unit == "ever")
    windows.add(places, Batch(run[rows], values[rows], np.zeros(len(rows), bool)), table["arrived"][rows])
    told, at = windows.close(looks)
    return _log_e(test, n_runs, len(looks), told.slots, at, told.values, None)


def _log_e(
    test: Test, n_runs: int, n_looks: int, run: Ints, look: Ints, values: Floats, weights: Floats | None
) -> tuple[Floats, Floats]:
    """The same from one contribution a unit."""
    cells = test.support.n_values
    row, cell, share = test.support.spread(values, weights)
    counts = np.bincount((run[row] * n_looks + look[row]) * cells + cell, weights=share, minlength=n_runs * n_looks * cells)
    total = np.cumsum(counts.reshape(n_runs, n_looks, cells), axis=1).astype(np.int64)
    return test.log_e_pass(total), test.log_e_fail(total)
