"""A production week on real processes: a good challenger walks to the end, a bad one goes back by itself, a wrong split holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.adapters.redis.journal import RedisJournal
from harness.config import load
from harness.core.stages import Standing
from harness.roles.standing import Follower

PERCENTS = (10.0, 50.0)  # `make week` has 1, 10 and 50
UNITS = 600


@pytest.fixture
def week(
    production: ModuleType, up: Any, processes: ModuleType, redis_url: str, redis_db: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Any]]:
    """A rollout that runs on the session's Redis, or on Kafka with its store there, and its production."""
    with ExitStack() as producers:

        def start(percents: Sequence[float] = PERCENTS, units: int = UNITS, bus: str = "redis", **traffic: Any) -> Any:
            files, options, send = production.written(tmp_path / "config", percents), [], production.to_redis(redis_db)
            if bus == "kafka":
                address = request.getfixturevalue("kafka_broker").address
                options, send = ["--bus", f"kafka://{address}"], producers.enter_context(production.to_kafka(address))
            running = up(files, url=redis_url, options=options, roles=production.ROLES)
            producers.callback(running.close)  # before its topics go
            running.name = "week"
            running.start()
            rollout = load(files.config)
            follower = Follower(RedisJournal(redis_url, "week", keep_s=3_600.0))
            return production.Week(running, production.Production(send, units, **traffic), rollout, follower, processes)

        yield start


def test_a_good_challenger_walks_shadow_canary_and_bake_and_never_skips_a_stage(week: Callable[..., Any]):
    """It waits for the approval, then for nobody; every stage is entered once, in order, and at the end it serves everybody."""
    found = week()
    ready = found.live(lambda state: found.production.steps >= 3, most=3)
    assert ready.stage == 0, "time, pairs and gates say so, and nobody approved yet"
    assert "approval: 0 of 1 people" in found.waits()[0]
    found.approve_by_hand("bea", "policy")
    state = found.live(lambda state: state.final, most=40)
    assert state.standing is Standing.PROMOTED
    assert [stage for n, (_, stage) in enumerate(found.history) if n == 0 or found.history[n - 1][1] != stage] == [0, 1, 2, 3]
    audit = found.audited()
    assert (audit.disagreements, audit.level, audit.unsealed) == ([], "pairs", [])
    assert sorted(decision.kind for decision in audit.decisions) == ["entered", "entered", "entered", "promoted", "sealed"]


@pytest.mark.parametrize("bus", ["redis", pytest.param("kafka", marks=pytest.mark.slow)])
def test_one_that_turns_bad_in_canary_is_rolled_back_by_itself(week: Callable[..., Any], bus: str):
    """Nobody watches: the gate on minors fails within the stage, and nobody is served by the challenger any more."""
    found = week(bad_from=50.0, bus=bus)
    found.approve("bea", "policy")
    state = found.live(lambda state: state.final, most=40)
    assert (state.standing, state.stage) == (Standing.ROLLED_BACK, 2)
    assert "fewer minors let in: failed" in state.latest.reason
    audit = found.audited()
    assert (audit.disagreements, audit.level) == ([], "pairs")


def test_one_whose_old_model_is_better_in_the_bake_goes_back(week: Callable[..., Any]):
    """After promotion the old model keeps shadowing, and the same gates judge."""
    found = week(percents=(50.0,), bad_from=101.0)
    found.approve("bea", "policy")
    state = found.live(lambda state: state.final, most=40)
    assert (state.standing, state.stage) == (Standing.ROLLED_BACK, 2)


def test_a_split_that_production_got_wrong_holds_and_says_so(week: Callable[..., Any]):
    """Of the challenger's exposures every other one is not reported: the online gate compares the wrong people, and goes nowhere."""
    found = week(percents=(50.0,), lost=0.5)
    found.approve("bea", "policy")
    state = found.live(lambda state: found.production.steps >= 6, most=6)
    assert (state.standing, state.stage) == (Standing.RUNNING, 1)
    verdict = found.running.verdict()
    assert verdict["verdict"] == "hold"
    assert any("sample is not what was planned" in reason for reason in verdict["reasons"])
    assert verdict["arms"]["split_fired_at"] is not None
