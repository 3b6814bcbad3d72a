"""What pass and fail reject for each word of a gate, the power at the design, and the fails of many gates together."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from analysis.gates import closed_test
from analysis.sequential.designs import Question, design
from analysis.types import InputError

SIGNS = np.array([-1.0, 0.0, 1.0])
RATE = np.array([0.0, 1.0])


def rate(word: str, limit: float, expect: float | None = None) -> Question:
    return Question(kind="rate", low=0.0, high=1.0, word=word, limit=limit, expect=expect)


def sign(word: str, limit: float, **known: float) -> Question:
    return Question(kind="sign", low=-1.0, high=1.0, word=word, limit=limit, **known)


def test_the_best_fractions_of_a_rate_are_those_of_its_design():
    """Half and twice the limit where the config expects nothing: f* = 1 - q/c for the pass, (q - c)/(1 - c) for the fail."""
    found = design(rate("below", 0.02))
    peak = [p.bets.fractions[:60][np.argmax(p.bets.log_weights[:60])] for p in (*found.pass_, *found.fail)]
    assert peak == pytest.approx([0.5, 0.02 / 0.98], rel=0.06)
    expected = design(rate("below", 0.02, expect=0.005)).pass_[0].bets
    assert expected.fractions[:60][np.argmax(expected.log_weights[:60])] == pytest.approx(0.75, rel=0.06)


def test_above_is_below_in_a_mirror():
    """Recall above 0.9 is misses below 0.1: the same evidence from the same events."""
    below, above = design(rate("below", 0.1)), design(rate("above", 0.9))
    counts = np.array([[500, 30], [90, 40], [0, 7]])
    assert above.log_e_pass(counts[:, ::-1], RATE) == pytest.approx(below.log_e_pass(counts, RATE), abs=1e-9)
    assert above.log_e_fail(counts[:, ::-1], RATE) == pytest.approx(below.log_e_fail(counts, RATE), abs=1e-9)


@pytest.mark.parametrize(("word", "limit", "passing", "failing"), [
    ("below", 0.1, 0.02, 0.3), ("above", 0.1, 0.3, 0.02), ("worse_by_at_most", 0.1, 0.0, -0.3), ("better_by_more_than", 0.1, 0.3, -0.1),
    ("within", 0.1, 0.0, 0.3), ("within", 0.1, 0.0, -0.3),
])
def test_each_word_passes_and_fails_on_its_own_side(word, limit, passing, failing):
    """The table of STATISTICS 3, on clear data: the right side is proved and the wrong one is not."""
    found = design(sign(word, limit))
    good, bad = (np.array([500 * (1 - m), 500, 500 * (1 + m)]).astype(int) for m in (passing * 1.5, failing * 1.5))
    assert found.log_e_pass(good, SIGNS) > log(20) > 0 > found.log_e_fail(good, SIGNS)
    assert found.log_e_fail(bad, SIGNS) > log(20) > 0 > found.log_e_pass(bad, SIGNS)


@pytest.mark.parametrize(("known", "ratio"), [({"discordance": 0.05}, 1.12), ({}, 1.45)])
def test_accuracy_non_inferiority_is_decided_near_the_limit_of_information(known, ratio):
    """Margin 0.01, discordance 0.05, truth equal: 3,048 pairs at best. The goals are 1.12 times that, 1.45 without a discordance."""
    rng, process = np.random.default_rng(5), design(sign("worse_by_at_most", 0.01, **known)).pass_[0]
    n, stops = np.arange(25, 40_001, 25), []
    for _ in range(300):
        draws = rng.choice([-1, 0, 1], p=[0.025, 0.95, 0.025], size=40_000)
        minus, plus = np.cumsum(draws == -1)[24::25], np.cumsum(draws == 1)[24::25]
        log_e = process.log_e(np.stack([minus, n - minus - plus, plus], axis=-1), SIGNS)
        stops.append(n[np.argmax(log_e >= log(20.0))] if (log_e >= log(20.0)).any() else 40_000)
    assert np.mean(stops) / 3_048 <= ratio + 0.12


def test_twenty_gates_at_their_limits_are_rarely_stopped():
    """Every fail at alpha stops 0.37 of such rollouts; closed testing by means keeps them together below alpha."""
    rng, n_gates, stopped, alone = np.random.default_rng(11), 20, 0, 0
    found = design(rate("below", 0.05))
    n = np.arange(200, 10_001, 200)
    for _ in range(200):
        s = np.cumsum(rng.binomial(200, 0.05, (n_gates, len(n))), axis=1)
        log_e = found.log_e_fail(np.stack([n - s, s], axis=-1), RATE)
        alone += bool((log_e >= log(20.0)).any())
        stopped += any(closed_test(log_e[:, at], log(20.0)).any() for at in np.flatnonzero((log_e >= log(20.0)).any(axis=0)))
    assert stopped <= 20 < alone  # 0.999 quantile of Binomial(200, 0.05); uncorrected fails show that the test can fail


def test_what_is_expected_moves_both_sides_of_a_superiority_gate():
    """Pass is designed for e, fail for its mirror 2 delta - e: as far on the other side of the limit."""
    found = design(sign("better_by_more_than", 0.02, expect=0.06, discordance=0.2))
    peaks = [p.bets.fractions[np.argmax(p.bets.log_weights)] for p in (*found.pass_, *found.fail)]
    for peak, mean, room, side in zip(peaks, (0.06, -0.02), (1.02, 0.98), (1.0, -1.0), strict=True):
        bets = np.linspace(1e-4, 0.97, 20_000) / room
        growth = sum(p * np.log1p(bets * side * (d - 0.02)) for d, p in ((-1, (0.2 - mean) / 2), (0, 0.8), (1, (0.2 + mean) / 2)))
        assert peak == pytest.approx(float(bets[np.argmax(growth)]) * room, rel=0.1)


def test_equivalence_fails_with_the_mean_of_both_sides():
    """E_fail of `within` is half of each side's e-value, so that it is one e-process."""
    found, counts = design(sign("within", 0.1)), np.array([10, 100, 80])
    sides = [float(p.log_e(counts, SIGNS)) for p in found.fail]
    assert float(found.log_e_fail(counts, SIGNS)) == pytest.approx(log(sum(0.5 * np.exp(side) for side in sides)))
    assert float(found.log_e_pass(counts, SIGNS)) == min(float(p.log_e(counts, SIGNS)) for p in found.pass_)


@pytest.mark.parametrize("question", [
    rate("below", 0.0), rate("below", 1.0), rate("below", 0.02, expect=0.03), rate("worse_by_at_most", 0.1), rate("above", 1.0),
    sign("worse_by_at_most", 0.0), sign("worse_by_at_most", 1.5), sign("better_by_more_than", -0.1), sign("within", 0.0),
    sign("worse_by_at_most", 0.1, expect=-0.2), sign("worse_by_at_most", float("nan")),
])
def test_a_question_without_an_answer_is_refused(question):
    """A limit outside the range or an expectation on the failing side is a mistake in the config, never a test."""
    with pytest.raises(InputError):
        design(question)


def test_a_numeric_difference_is_designed_by_its_variance():
    """With a variance the bets gather at g / (s^2 + g^2); without one they are spread over everything."""
    known = design(Question(kind="numeric", low=-10.0, high=10.0, word="worse_by_at_most", limit=0.5, discordance=40.0)).pass_[0].bets
    assert known.fractions[np.argmax(known.log_weights)] == pytest.approx(0.5 / 40.25 * 9.5, rel=0.1)
    spread = design(Question(kind="numeric", low=-10.0, high=10.0, word="worse_by_at_most", limit=0.5)).pass_[0].bets
    assert spread.fractions[0] == pytest.approx(0.025) and np.ptp(spread.log_weights) == pytest.approx(0.0)
