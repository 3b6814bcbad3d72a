"""What the fold remembers, against sets and dictionaries."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.prefix import Sighted, Units

batches = st.lists(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 20)), max_size=15), max_size=6)


@settings(deadline=None)
@given(batches)
def test_units_have_places_in_order_of_first_sight(parts):
    """Whatever the ids: keyed hashes use all 64 bits."""
    units, places = Units(), {}
    for part in parts:
        ids = [unit * 0x1555555555555555 for unit, _ in part]
        for unit in ids:
            places.setdefault(unit, len(places))
        assert units.places(np.array(ids, np.uint64)).tolist() == [places[unit] for unit in ids]
    assert units.ids.tolist() == list(places) == Units(units.ids).ids.tolist()


@settings(deadline=None)
@given(batches)
def test_a_unit_is_first_once_in_each_slot(parts):
    """Over batches, with slots that appear later and units that come in any order."""
    units, sighted, seen, n_slots = Units(), Sighted(), set(), 0
    for part in parts:
        places = units.places(np.array([unit for unit, _ in part], np.uint64))
        slots = np.array([slot for _, slot in part], np.int64)
        n_slots = max(n_slots, *slots.tolist(), 0) + 1 if len(part) else n_slots
        expected = []
        for pair in part:
            expected.append(pair not in seen)
            seen.add(pair)
        assert sighted.firsts(places, slots, len(units.ids), n_slots).tolist() == expected
