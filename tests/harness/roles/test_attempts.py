"""Attempts on the doubles: a changed question or model begins anew in shadow, and evidence of two models promotes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.core.reading import timestamp

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000
FLIPS = [{"name": "flips", "metric": {"flip": "adult"}, "below": 0.5}]


def traffic(crew: Any, first: int, last: int) -> list[bytes]:
    """Twelve events an hour, on which both models agree."""
    return [crew.event(f"e{hour}-{n}", hour * HOUR + n * 300 * SECOND + SECOND) for hour in range(first, last) for n in range(12)]


def row(verdict: Any) -> Any:
    """The only gate's row."""
    return verdict["gates"][0]


@pytest.fixture
def one(crew: Callable[..., Any]) -> Any:
    """A rollout of one shard with one gate, whose controller is silent."""
    found = crew(shards=1, gates=FLIPS)
    found.silent = {"controller"}
    found.clock.move_to(START + 100 * HOUR)
    return found


def amended(crew: Any, hour: int, sha256: str) -> None:
    """As `shadow amend` would, on a verdict of that hour."""
    crew.say("amended", "bea", since=timestamp(START + hour * HOUR), sha256=sha256, stage=0, attempt=1)


def test_a_new_attempt_folds_only_what_arrives_after_it_and_at_its_part_of_alpha(one: Any):
    """What the old question had found does not count for the new one, and two attempts are one chance too many at full alpha."""
    one.send("events", [*traffic(one, 0, 4), one.mark(4 * HOUR)])
    before = one.verdict()
    assert (before["verdict"], before["attempt"], row(before)["n_units"], row(before)["alpha"]) == ("promote", 0, 48, 0.05)
    amended(one, 4, one.rollout.sha256)
    fresh = one.verdict()
    assert (fresh["verdict"], fresh["attempt"], row(fresh)["n_units"], row(fresh)["alpha"]) == ("hold", 1, 0, 0.05 / 2)
    one.send("events", [*traffic(one, 4, 6), one.mark(6 * HOUR)])
    later = one.verdict()
    assert (later["stage_pairs"], row(later)["n_units"], later["counts"]["paired"]) == (24, 24, 72)
    del one._made["analyst"]
    assert one.verdict() == later, "and a restarted analyst goes on with it"


def test_an_analyst_with_the_old_config_holds_until_it_is_started_with_the_new_one(one: Any):
    """It would answer yesterday's question; nothing is folded on."""
    one.send("events", [*traffic(one, 0, 4), one.mark(4 * HOUR)])
    assert one.verdict()["verdict"] == "promote"
    amended(one, 4, "f" * 64)
    one.send("events", [*traffic(one, 4, 8), one.mark(8 * HOUR)])
    verdict = one.verdict()
    assert (verdict["verdict"], row(verdict)["n_units"]) == ("hold", 0)
    assert verdict["reasons"][0].startswith("changed: the rollout was amended (config ffffffffffff...)")
    one.silent = set()
    one.walk(3)
    assert [record["kind"] for record in one.records()] == ["registered", "amended"], "the controller makes nothing of it"


def test_a_model_that_changes_behind_its_address_holds_until_a_new_attempt(one: Any):
    """Half of the evidence is of a model that is gone; the gates pass, and promote nobody knows what."""
    challenger = one.models["challenger"]
    challenger.version = "2026-03"
    one.send("events", [*traffic(one, 0, 4), one.mark(4 * HOUR)])
    assert one.verdict()["verdict"] == "promote"
    challenger.version = "2026-04"
    one.send("events", [*traffic(one, 4, 6), one.mark(6 * HOUR)])
    verdict = one.verdict()
    assert (verdict["verdict"], row(verdict)["status"]) == ("hold", "pass")
    assert "changed: the challenger answered as '2026-03', '2026-04' in one stage" in verdict["reasons"][0]
    del one._made["analyst"]
    assert one.verdict()["verdict"] == "hold", "also after a restart"
    amended(one, 6, one.rollout.sha256)
    one.verdict()
    one.send("events", [*traffic(one, 6, 10), one.mark(10 * HOUR)])
    verdict = one.verdict()
    assert (verdict["verdict"], verdict["versions"]["challenger"]) == ("promote", ["2026-03", "2026-04"])


@pytest.mark.parametrize("stage", [0, 1])
def test_a_model_that_changed_is_not_forgotten_when_the_statistics_must_be_folded_anew(stage: int, crew: Callable[..., Any]):
    """After an upgrade whose tests are others: the pairs are of both models still. An approval that came before makes no difference."""
    one = crew(shards=1, gates=FLIPS, stages=[{"shadow": {}}, {"canary": {"percent": 1}}, {"promote": {"bake": "1h"}}])
    one.silent = {"controller"}
    one.clock.move_to(START + 100 * HOUR)
    challenger = one.models["challenger"]
    challenger.version = "2026-03"
    one.send("events", [*traffic(one, 0, 2), one.mark(2 * HOUR)])
    one.settle()
    if stage:
        one.say("entered", "controller", stage=1, since=timestamp(START + 2 * HOUR), percent=1.0)
    else:
        one.say("approved", "bea", "policy", stage=1)
    one.verdict()
    one.send("events", [*traffic(one, 2, 4), one.mark(4 * HOUR)])
    assert one.verdict()["verdict"] == "promote"
    challenger.version = "2026-04"
    one.send("events", [*traffic(one, 4, 6), one.mark(6 * HOUR)])
    assert one.verdict()["verdict"] == "hold"
    one._made.pop("analyst").close()
    saved = one.ledger.load()
    head, _, blobs = saved.state.partition(b"\n")
    one.ledger.save(replace(saved, version=saved.version + 1, state=head + b"\n" + b"of another design" + blobs), after=saved)
    assert "changed: the challenger answered as '2026-03', '2026-04'" in one.verdict()["reasons"][0]


def test_a_version_that_is_said_for_the_first_time_changes_nothing(one: Any):
    """A server that begins to tell its version is the same model."""
    one.send("events", [*traffic(one, 0, 2), one.mark(2 * HOUR)])
    one.models["challenger"].version = "1"
    one.send("events", [*traffic(one, 2, 4), one.mark(4 * HOUR)])
    assert one.verdict()["verdict"] == "promote"


def test_an_analyst_of_a_config_with_fewer_stages_outlives_the_stages_of_the_new_one(one: Any):
    """It runs on with one stage after an amendment with more; when one of those is entered it holds and says why, and does not die."""
    one.send("events", [*traffic(one, 0, 4), one.mark(4 * HOUR)])
    assert one.verdict()["verdict"] == "promote"
    amended(one, 4, "f" * 64)
    one.say("entered", "controller", stage=1, since=timestamp(START + 5 * HOUR), percent=10.0)
    for _ in range(2):
        verdict = one.verdict()
        assert (verdict["verdict"], verdict["percent"]) == ("hold", 0.0)
        assert verdict["reasons"][0].startswith("changed: the rollout was amended")
        del one._made["analyst"]
