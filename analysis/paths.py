"""Evidence at every look of one fold, from what was counted before and the contributions that came since."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np

from analysis.gates import Test
from analysis.metrics.support import Floats, Ints
from analysis.metrics.tally import Batch, Tally


def fail_paths(test: Test, tally: Tally, batch: Batch, look_of_row: Ints, n_looks: int) -> Floats:
    """Log e-value of the fail for each slot and look, shape (slots, looks).

    Args:
        test: The gate's test.
        tally: What was counted before the first of these looks.
        batch: What came since.
        look_of_row: For each row of the batch, the first look that counts it.
        n_looks: How many looks there are, >= 1.
    """
    start = test.log_e_fail(tally.counts)
    paths = np.repeat(start[:, None], n_looks, axis=1)
    if not batch.first.any():
        return paths
    slots, values, looks = batch.slots[batch.first], batch.values[batch.first], look_of_row[batch.first]
    for slot in np.unique(slots):
        mine = slots == slot
        changed, place = np.unique(looks[mine], return_inverse=True)
        counts = np.zeros((len(changed), test.support.n_values), np.int64)
        row, cell, weight = test.support.spread(values[mine])
        np.add.at(counts, (place.reshape(-1)[row], cell), weight)
        since = test.log_e_fail(tally.counts[slot] + np.cumsum(counts, axis=0))
        paths[slot] = np.append(start[slot], since)[np.searchsorted(changed, np.arange(n_looks), side="right")]
    return paths


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
