"""Exposures and what is measured online: read as written, and every mistake named by its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import parse
from harness.core.rollout import Exposures, Measure

EXPOSURES = {"topic": "age.exposures", "unit": "subject", "arm": "/arm", "percent": "/percent"}
APPEALS = {"topic": "age.appeals", "unit": "/user", "type": "count", "window": "3d", "better": "lower"}
SPEND = {"topic": "age.spend", "unit": "subject", "type": "ratio", "value": "/spent", "of": "/visits", "window": "1h", "better": "higher"}


def test_they_are_read_as_written(put: Callable[..., Any]) -> None:
    """Times in seconds, names in the config's order; a rollout without them has none."""
    found = parse(put("exposures", EXPOSURES, "online", {"appeals": APPEALS, "spend": SPEND}), source="test", folder=Path())
    assert found.exposures == Exposures(topic="age.exposures", unit="subject", arm="/arm", percent="/percent")
    assert list(found.online.values()) == [
        Measure(name="appeals", topic="age.appeals", unit="/user", type="count", window_s=3 * 86_400.0, better="lower"),
        Measure(
            name="spend", topic="age.spend", unit="subject", type="ratio", window_s=3_600.0, better="higher", value="/spent", of="/visits"
        ),
    ]
    without = parse(put(), source="test", folder=Path())
    assert (without.exposures, dict(without.online)) == (None, {})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("online", {"appeals": APPEALS}), {"exposures": "nobody knows which arm"}),
        (("exposures", EXPOSURES, "online", {"a": {**APPEALS, "type": "mean"}}), {"online.a.value": "a mean needs a pointer"}),
        (("exposures", EXPOSURES, "online", {"a": {**APPEALS, "of": "/n"}}), {"online.a.of": "is not for a count"}),
        (("exposures", {**EXPOSURES, "topic": "age.events"}), {"exposures.topic": "the topic of the events"}),
        (("exposures", EXPOSURES, "online", {"a": APPEALS, "b": APPEALS}), {"online.b.topic": "the topic of online.a"}),
        (("exposures", EXPOSURES, "online", {"a": {**APPEALS, "topic": "age-test.mirror"}}), {"online.a.topic": "writes itself"}),
        (("exposures", {**EXPOSURES, "arm": "arm"}), {"exposures.arm": "JSON pointer"}),
        (("stages.1.stop_after", {"let_in": 3}), {"stages.1.stop_after": "nobody knows whom the challenger served"}),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_place(
    changes: tuple[Any, ...], expected: dict[str, str], put: Callable[..., Any], said: Callable[[object], dict[str, str]]
) -> None:
    """And nothing that only follows from it."""
    found = said(put(*changes))
    assert found.keys() == expected.keys(), found
    for path, words in expected.items():
        assert words in found[path], found


def test_a_gate_compares_the_arms_of_what_is_measured(put: Callable[..., Any], said: Callable[[object], dict[str, str]]) -> None:
    """It takes everything from the measure; a name that is none, or a limit that speaks of one arm, is told where it stands."""
    gate = {"name": "fewer appeals", "metric": {"online": "appeals"}, "worse_by_at_most": 0.02}
    measured = ("exposures", EXPOSURES, "online", {"appeals": APPEALS})
    found = parse(put(*measured, "gates.5", gate), source="test", folder=Path()).gates[5]
    assert (found.metric.kind, found.metric.measure, found.metric.type, found.metric.better) == ("online", "appeals", "count", "lower")
    assert (found.metric.window_us, found.limit, found.metric.group) == (3 * 86_400 * 1_000_000, 0.02, "online")
    wrong = put(*measured, "gates.5", {**gate, "metric": {"online": "appeal"}})
    assert said(wrong) == {"gates.5.metric.online": "unknown measure `appeal`; expected appeals"}
    wrong = put(*measured, "gates.5", {"name": "few appeals", "metric": {"online": "appeals"}, "below": 0.1})
    assert said(wrong).keys() == {"gates.5.below"}
    wrong = put(*measured, "gates.5", {**gate, "each": ["gender"]})
    assert said(wrong).keys() == {"gates.5.each"}
