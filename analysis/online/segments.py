"""What a gate on two arms is split by: the value of each unit, known with its first exposure, one of a closed list.

Values are codes into the words that are fixed before the start: those that the config lists, which can fail by themselves, and after them
those that stand for all others, which can only hold a pass back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from analysis.metrics.support import Ints
from analysis.plan import Item, Plan, Value
from analysis.types import InputError

Words = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Slots:
    """The values of an item: listed ones first, then crossings with a word outside a list.

    words: of each of its segments, by name. n_listed: how many values are members of the closed test.
    """

    item: Item
    words: Words
    values: tuple[Value, ...]
    n_listed: int
    _place: Ints = field(repr=False)

    @classmethod
    def of(cls, item: Item, plan: Plan, words: Words) -> Slots:
        """Those that there can be.

        Raises:
            InputError: a segment lists no values, or its words do not begin with those that it lists.
        """
        listed = plan.values(item)
        for name in item:
            known, own = plan.listed.get(name), words.get(name)
            if known is None or own is None or own[: len(known)] != known or len(set(own)) < len(own):
                raise InputError(f"a gate on two arms is split by segments that list their values, got {name} with {known} and {own}")
        every = list(product(*(words[name] for name in item)))
        values = (*(listed or ()), *(value for value in every if value not in (listed or ())))
        places = {value: place for place, value in enumerate(values)}
        return cls(item, words, values, len(listed or ()), np.array([places[value] for value in every], np.int64))

    def slots(self, codes: Mapping[str, Ints], n: int) -> Ints:
        """The place of each unit's value, from the codes of its segments; shape (n,)."""
        at = np.zeros(n, np.int64)
        for name in self.item:
            at = at * len(self.words[name]) + codes[name]
        return self._place[at]


def check_codes(codes: Mapping[str, Ints], words: Words, n: int) -> None:
    """Raises InputError where a segment that is needed is missing, or a code is none of its words."""
    for name, known in words.items():
        found = codes.get(name)
        if n and found is None:
            raise InputError(f"exposures need the segment {name!r}; they have {', '.join(codes) or 'none'}")
        if n and found is not None and not ((found >= 0) & (found < len(known))).all():
            raise InputError(f"a value of the segment {name!r} is an index into {known}, got {np.unique(found).tolist()}")
