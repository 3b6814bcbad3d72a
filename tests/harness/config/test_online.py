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
        (("exposures", {**EXPOSURES, "segments": {"gender": "/g"}}), {"exposures.segments.gender": "events.segments.gender.values"}),
        (("exposures", {**EXPOSURES, "segments": {"true_age": "/a"}}), {"exposures.segments.true_age": "segment by truth"}),
        (("exposures", {**EXPOSURES, "segments": {"platfrom": "/p"}}), {"exposures.segments.platfrom": "did you mean `platform`"}),
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
    wide = {**gate, "method": "asymptotic", "decide_at": 20_000, "burn_in": 2_000}
    found = parse(put(*measured, "gates.5", wide), source="test", folder=Path()).gates[5]
    assert (found.method, found.decide_at, found.burn_in) == ("asymptotic", 20_000, 2_000)
    assert said(put(*measured, "gates.5", {**wide, "decide_at": 3_999})) == {
        "gates.5.decide_at": "got 3999, but nothing is said before 2000 units of each arm; expected at least 4000"
    }
    wrong = put(*measured, "gates.5", {**gate, "metric": {"online": "appeal"}})
    assert said(wrong) == {"gates.5.metric.online": "unknown measure `appeal`; expected appeals"}
    wrong = put(*measured, "gates.5", {"name": "few appeals", "metric": {"online": "appeals"}, "below": 0.1})
    assert said(wrong).keys() == {"gates.5.below"}
    wrong = put(*measured, "gates.5", {**gate, "each": ["gender"]})
    assert said(wrong).keys() == {"gates.5.each"} and "expected exposures.segments.gender" in said(wrong)["gates.5.each"]
    told = {**EXPOSURES, "segments": {"platform": "/device"}}
    found = parse(put("exposures", told, *measured[2:], "gates.5", {**gate, "each": ["platform"]}), source="test", folder=Path())
    assert (found.gates[5].each, found.exposures and found.exposures.segments) == ((("platform",),), {"platform": "/device"})


def test_a_gate_asks_whether_the_split_is_the_configured_one(put: Callable[..., Any], said: Callable[[object], dict[str, str]]) -> None:
    """`within` a difference of shares, with nothing else to choose; and only where production reports who served whom."""
    gate = {"name": "split", "metric": {"sample_ratio": "exposures"}, "within": 0.01, "on_fail": "hold"}
    found = parse(put("exposures", EXPOSURES, "gates.5", gate), source="test", folder=Path())
    (split,) = [each for each in found.gates if each.name == "split"]
    assert (split.metric.kind, split.metric.group, split.word, split.limit) == ("sample_ratio", "online", "within", 0.01)
    assert [split in found.gates_of(n) for n, _ in enumerate(found.stages)] == [False, True, False]
    assert said(put("gates.5", gate)).keys() == {"gates.5.metric.sample_ratio"}
    for more, path in (
        ({"below": 0.1, "within": ...}, "below"), ({"within": 1.0}, "within"), ({"each": ["gender"]}, "each"),
        ({"unit": "mean", "unit_window": "1d"}, "unit"), ({"method": "beta-binomial"}, "method"),
        ({"method": "asymptotic", "decide_at": 5_000}, "method"),
        ({"method": "group_sequential", "plan": {"maximum": 1_000, "looks": 2}}, "method"),
    ):  # fmt: skip
        wrong = {key: value for key, value in {**gate, **more}.items() if value is not ...}
        assert said(put("exposures", EXPOSURES, "gates.5", wrong)).keys() == {f"gates.5.{path}"}, more
