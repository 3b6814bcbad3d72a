"""Between p-values and e-values, when a test of somebody else's has to join ours, or the other way round.

An e-value may be averaged with others whatever their dependence; a p-value may not.
"""

from __future__ import annotations

from math import exp, inf, isnan, log

from analysis.types import InputError


def log_e_of_p(p: float, *, kappa: float | None = None) -> float:
    """Log e-value of a p-value: kappa p^(kappa - 1), or mixed over all kappa: (1 - p + p ln p) / (p ln^2 p).

    Args:
        p: In [0, 1]; 0 gives infinity.
        kappa: In (0, 1), fixed before the data; None for the mixture, which needs no choice.

    Raises:
        InputError: p or kappa is out of range.

    Source: Vovk & Wang (2021), Ann. Statist. 49(3), equations 1 and 2.

    >>> round(log_e_of_p(0.01, kappa=0.5), 4)
    1.6094
    """
    if isnan(p) or not 0.0 <= p <= 1.0 or (kappa is not None and not 0.0 < kappa < 1.0):
        raise InputError(f"p must lie in [0, 1] and kappa in (0, 1), got {p} and {kappa}")
    if p == 0.0:
        return inf
    if kappa is not None:
        return log(kappa) + (kappa - 1.0) * log(p)
    near = 1.0 - p
    if near < 1e-5:  # both sides of the fraction vanish: 1/2 + (1 - p)/6 + ...
        return log(0.5 + near / 6.0)
    return log(near + p * log(p)) - log(p) - 2.0 * log(-log(p))


def p_of_log_e(log_e: float) -> float:
    """The p-value of a log e-value, min(1, 1/e); also of the largest that an e-process reached, which is valid at every time.

    Raises:
        InputError: it is NaN.

    >>> p_of_log_e(0.0)
    1.0
    """
    if isnan(log_e):
        raise InputError("log_e must be a number, got nan")
    return 1.0 if log_e <= 0.0 else exp(-log_e)


def log_e_of_largest(log_e_max: float) -> float:
    """Log e-value of the largest value E* >= 1 that an e-process reached: (E* - 1 - ln E*) / ln^2 E*. The largest itself is no e-value.

    Raises:
        InputError: it is NaN or below 0 (an e-process begins at 1).

    Source: the mixture calibrator of `log_e_of_p` at p = 1/E*.
    """
    if isnan(log_e_max) or log_e_max < 0.0:
        raise InputError(f"the largest of an e-process is at least 1, got log_e {log_e_max}")
    if log_e_max < 1e-4:
        return log(0.5 + log_e_max / 6.0)
    if log_e_max > 50.0:  # 1 + ln E* is nothing beside E*
        return log_e_max - 2.0 * log(log_e_max)
    return log(exp(log_e_max) - 1.0 - log_e_max) - 2.0 * log(log_e_max)
