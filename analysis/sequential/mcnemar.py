"""Sequential McNemar: are two ways to differ equally frequent? From two counts alone, at every look.

Two models are compared on the same events. Where both are right or both are wrong nothing is learnt; of the rest each is a fair coin if
the models are equally good. Free of order, so counts of days and shards add up. Use it for the two-sided question of a report; a gate with
a margin asks more, and is the mixture's task.

Source: STATISTICS 4, 6.4 and 7.6; Robbins (1970), Ann. Math. Statist. 41(5); McNemar (1947), Psychometrika 12(2) for the pairs.
"""

from __future__ import annotations

from math import log

import numpy as np

from analysis.sequential.betas import log_incomplete_beta
from analysis.types import InputError


def log_e_equal(one: int, other: int) -> float:
    """Log e-value against "both kinds of discordant pair are equally frequent", two-sided, with a uniform prior on the share.

    Valid at every n: if each discordant pair is a fair coin given the past, it ever reaches ln(1/alpha) with chance at most alpha.

    Args:
        one: Pairs in which only the first was right, >= 0.
        other: Pairs in which only the second was right, >= 0.

    Raises:
        InputError: a count is negative.

    >>> round(log_e_equal(0, 10), 3)
    4.534
    """
    from scipy.special import betaln

    _check(one, other)
    return float(betaln(1.0 + one, 1.0 + other)) + (one + other) * log(2.0)


def log_e_more(one: int, other: int) -> float:
    """The same against "`one` is at most as frequent as `other`": the uniform prior on shares over a half only.

    Exact for the composite null, and twice as strong as the two-sided one where the direction is known beforehand.

    >>> round(log_e_more(10, 0), 3)
    5.226
    """
    _check(one, other)
    n = one + other
    return float(log_incomplete_beta(0.5, np.array(1.0 + other), np.array(1.0 + one))) + log(2.0) + n * log(2.0)


def _check(*counts: int) -> None:
    if min(counts) < 0:
        raise InputError(f"counts of discordant pairs must be at least 0, got {counts}")
