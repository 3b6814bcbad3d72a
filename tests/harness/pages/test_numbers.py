"""Numbers for people: no zero that is none, no difference that rounding hides."""

from __future__ import annotations

import doctest

import pytest

from harness.pages import numbers
from harness.pages.numbers import UNKNOWN, Scale, pair, per_thousand


def test_the_examples_in_the_docstrings_hold():
    """They are what people copy."""
    result = doctest.testmod(numbers)
    assert result.attempted and not result.failed


def test_a_number_that_is_not_known_is_a_dash():
    """None, NaN and infinity are not zero."""
    scale = Scale(factor=1_000.0, unit="per 1,000", signed=True)
    assert {scale.show(value) for value in (None, float("nan"), float("inf"))} == {UNKNOWN}


@pytest.mark.parametrize(("share", "words"), [(0.0, "0"), (1e-6, "fewer than 0.1"), (0.0096, "9.6"), (0.00999, "10"), (1.0, "1,000")])
def test_a_rare_harm_is_never_rounded_to_none(share, words):
    """One child in 100,000 is not no child."""
    assert per_thousand(share) == words


def test_two_values_get_as_many_decimals_as_tell_them_apart():
    """A change that is there is seen; equal ones stay short."""
    assert pair(0.12344, 0.12341) == ("0.12344", "0.12341")
    assert pair(7.5, 7.5) == ("7.50", "7.50")
