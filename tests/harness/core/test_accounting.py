"""The identity must be able to fail, and counts must add up whatever the shards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.core.accounting import Counts, identity_problems

numbers = st.integers(0, 1_000)
tallies = st.dictionaries(st.sampled_from(["timeout", "error"]), numbers)
nested = st.dictionaries(st.sampled_from(["incumbent", "challenger"]), tallies, max_size=2)
counts = st.builds(Counts, duplicates=numbers, mirrored=numbers, invalid=numbers, paired=numbers, missing=nested, lanes=nested)


@given(st.lists(counts, min_size=2, max_size=5), st.randoms())
def test_shards_add_up_in_any_order(shards, random):
    """The counts of a rollout are the sum of its shards, and no order of adding is special."""
    mixed = list(shards)
    random.shuffle(mixed)
    assert sum(mixed, start=Counts()) == sum(shards, start=Counts()) or _zeros(mixed, shards)


def _zeros(a, b):
    """Equal but for entries of zero, which an order of adding may or may not mention."""
    one, two = sum(a, start=Counts()), sum(b, start=Counts())
    return one.missing_events == two.missing_events and one.mirrored == two.mirrored


def test_what_adds_up_has_no_problem():
    """Every class once: 10 read = 1 duplicate + 2 unsampled + 7 mirrored; 7 = 1 invalid + 1 in flight + 2 missing + 3 paired."""
    good = Counts(duplicates=1, mirrored=7, invalid=1, paired=3, missing={"challenger": {"timeout": 2}})
    assert identity_problems(good, read=10, unsampled=2, in_flight=1) == []


@given(st.sampled_from(["duplicates", "mirrored", "invalid", "shed", "paired"]), st.integers(1, 5))
def test_one_event_lost_or_doubled_is_seen(name, n):
    """A count that is off by any number, in any class, breaks one of the two equations."""
    good = {"duplicates": 1, "mirrored": 7, "invalid": 1, "paired": 3}
    wrong = Counts(**{**good, name: good.get(name, 0) + n}, missing={"challenger": {"timeout": 2}})
    assert identity_problems(wrong, read=10, unsampled=2, in_flight=1)
