"""Slow second versions of `analysis.online`: plain loops, exact fractions where they can be, straight from the formulas."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import exp, fsum, lgamma, log, sqrt


def _sum_products(rows, i, j):
    n = len(rows)
    mean = [sum((Fraction(row[k]) for row in rows), Fraction(0)) / n for k in (i, j)]
    return sum((Fraction(row[i]) - mean[0]) * (Fraction(row[j]) - mean[1]) for row in rows)


def arm(rows):
    """(n, mean, covariance) of rows (value, denominator, covariate), in exact fractions; n >= 2."""
    n = len(rows)
    mean = [sum((Fraction(row[k]) for row in rows), Fraction(0)) / n for k in range(3)]
    return n, mean, [[_sum_products(rows, i, j) / (n - 1) for j in range(3)] for i in range(3)]


def contrast(incumbent, challenger, *, adjusted):
    """(challenger - incumbent, its variance): the residuals of single units, then their variance, all in fractions."""
    arms = [(incumbent, *arm(incumbent)), (challenger, *arm(challenger))]
    ratios = [mean[0] / mean[1] for _, _, mean, _ in arms]
    parts = [[((Fraction(v) - ratio * Fraction(d)) / mean[1], Fraction(0), Fraction(x)) for v, d, x in rows]
             for (rows, _, mean, _), ratio in zip(arms, ratios, strict=True)]
    slope = Fraction(0)
    if adjusted:
        above = sum(_sum_products(part, 0, 2) / (len(part) - 1) / len(part) for part in parts)
        below = sum(_sum_products(part, 2, 2) / (len(part) - 1) / len(part) for part in parts)
        slope = above / below if below else slope
    means = [mean[2] for _, _, mean, _ in arms]
    variance = Fraction(0)
    for part in parts:
        left = [(linear - slope * x, 0, 0) for linear, _, x in part]
        variance += _sum_products(left, 0, 0) / (len(left) - 1) / len(left)
    return ratios[1] - ratios[0] - slope * (means[1] - means[0]), variance


def combined(parts):
    """(estimate, standard error) of independent (estimate, variance), by inverse variance."""
    weights = [1 / variance for _, variance in parts]
    return float(sum(w * e for w, (e, _) in zip(weights, parts, strict=True)) / sum(weights)), sqrt(1 / sum(weights))


def log_e_lifts(estimate, se, limit, *, proves, best):
    """The designed mixture as in STATISTICS 6.5, one exponential at a time, for e-values that fit a float."""
    steps = [2.0 ** (-3.0 + 6.0 * j / 39.0) for j in range(40)]
    bells = [exp(-0.5 * (log(step) / 0.5) ** 2) for step in steps]
    away = estimate - limit if proves == "above" else limit - estimate
    terms = []
    for step, bell in zip(steps, bells, strict=True):
        d = step * best
        terms.append((0.95 * bell / fsum(bells) + 0.05 / 40) * exp((d * away - d * d / 2.0) / se**2))
    return log(fsum(terms))


def log_e_lifts_undesigned(estimate, se, n, limit, *, proves):
    """The mixture without a design: 60 lifts from 1e-4 to 0.5 of a unit's standard deviation."""
    sigma = se * sqrt(n)
    away = estimate - limit if proves == "above" else limit - estimate
    sizes = [sigma * 1e-4 * 5_000.0 ** (j / 59.0) for j in range(60)]
    return log(fsum(exp((d * away - d * d / 2.0) / se**2) / 60.0 for d in sizes))


def log_e_split(arms, shares, k=1_000.0):
    """One unit after the other: the chance that the prior gives its arm, over the configured one."""
    counts, total = [0] * len(shares), 0.0
    for which in arms:
        total += log((k * shares[which] + counts[which]) / (k + sum(counts)) / shares[which])
        counts[which] += 1
    return total


def pairs(units, sizes):
    """Challenger minus incumbent of each pair, from (value, arm) in prefix order and units of a block (incumbent, challenger)."""
    blocks = [[], []]
    for which in (0, 1):
        mine = [value for value, a in units if a == which]
        blocks[which] = [sum(mine[i : i + sizes[which]]) / sizes[which] for i in range(0, len(mine) - sizes[which] + 1, sizes[which])]
    return [new - old for old, new in zip(*blocks, strict=False)]


def log_e_quantile(incumbent, challenger, p, alpha, decide_at):
    """The smallest evidence over all values at and between those seen, each with the counts that favour the null most."""
    spread = max(decide_at / (2 * log(1 / alpha) + log(1 + 2 * log(1 / alpha))) - 1, 0.001)
    a, b = spread * p, spread * (1 - p)

    def evidence(count, n):
        beta = lgamma(a + count) + lgamma(b + n - count) - lgamma(a + b + n) - lgamma(a) - lgamma(b) + lgamma(a + b)
        return beta - count * log(p) - (n - count) * log(1 - p)

    seen = sorted({*incumbent, *challenger})
    places = [seen[0] - 1.0, *seen, *((x + y) / 2 for x, y in pairwise(seen)), seen[-1] + 1.0]
    return min(sum(min(evidence(c, len(arm)) for c in range(sum(x < q for x in arm), sum(x <= q for x in arm) + 1))
                   for arm in (incumbent, challenger)) for q in places)


def units_of(exposures, measurements, *, type, window, look, absent=None):
    """{(period, arm): [value, ...]} of the units whose window is over at a look, in prefix order, and how many were left out.

    exposures: (unit, at, arm, period). measurements: (unit, at, value, of). A value of a ratio is (value, of).
    """
    by_unit = {}
    for unit, at, arm, period in sorted(exposures, key=lambda row: (row[1], row[2], row[3])):
        by_unit.setdefault(unit, []).append((at, arm, period))
    found, left_out = {}, 0
    for unit, seen in sorted(by_unit.items(), key=lambda item: (item[1][0][0], item[0])):
        at, arm, period = seen[0]
        if at + window > look:
            continue
        if any(other != arm and when < at + window for when, other, _ in seen):
            left_out += 1
            continue
        mine = [(value, of) for of_unit, when, value, of in measurements if of_unit == unit and at <= when < at + window]
        if not mine and type == "mean" and absent is None:
            continue
        value = {"binary": max((v for v, _ in mine), default=0.0), "mean": sum(v for v, _ in mine) if mine else absent,
                 "count": sum(v for v, _ in mine), "ratio": (sum(v for v, _ in mine), sum(d for _, d in mine))}[type]
        found.setdefault((period, arm), []).append(value)
    return found, left_out
