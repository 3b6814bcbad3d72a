"""The fixed-sample companion of each row of a verdict: the same gate and segment, counted over every event, at one look. Descriptive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.fixed import Companion, companions
from analysis.prefix import Mask
from analysis.types import Gate, InputError, PairTable

NULL = "unknown"
LEVEL = 0.95


def row_companions(
    gates: Sequence[Gate], rows: Sequence[tuple[str, Mapping[str, str] | None]], table: PairTable, matured: PairTable
) -> tuple[Companion, ...]:
    """One companion a row, in their order; one that cannot be computed from this table has no numbers.

    Args:
        gates: Those of the config.
        rows: (name of the gate, segment or None for the whole gate) of each row of the verdict.
        table: The pairs that gates without labels have folded.
        matured: Those that labelled gates have folded.
    """
    by_name = {gate.name: gate for gate in gates}
    found = []
    for name, segment in rows:
        gate = by_name.get(name)
        try:
            if gate is None:
                raise InputError(f"no gate of the config is named {name!r}")
            mine = matured if gate.metric.labelled else table
            found.append(companions(gate, mine.take(rows_of_segment(mine, segment)) if segment else mine, level=LEVEL))
        except InputError:  # the row itself says why (compute_error), or is of two arms, which have no pairs
            found.append(Companion(estimate=None, interval=None, level=LEVEL, n_events=0, n_units=0, design_effect=None, p_value=None))
    return tuple(found)


def rows_of_segment(table: PairTable, segment: Mapping[str, str]) -> Mask:
    """Which rows lie in a segment, shape (rows,): its values as words, `unknown` for null.

    Raises:
        InputError: the table has no such segment.
    """
    inside: Mask = np.ones(len(table), bool)
    for name, value in segment.items():
        column, words = table[f"segment.{name}"], table.words.get(f"segment.{name}", ())
        codes = [k for k, word in enumerate(words) if word == value] + ([-1] if value == NULL else [])
        inside &= np.isin(column, codes)
    return inside
