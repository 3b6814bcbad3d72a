"""The promotion decision of this moment: nothing that is old, missing or unlooked at promotes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import config
from harness.commands import decide
from harness.core.errors import RecordError
from harness.core.reading import timestamp
from harness.core.rollout import Rollout
from harness.core.stages import NOT_BEGUN, Latest, Standing, State
from harness.core.verdicts import STALE_AFTER
from harness.ports.clock import ManualClock
from harness.ports.ledger import Published
from harness.testing.doubles import MemoryLedger

RUNNING = State(n_records=1)
NOW = 1_767_571_200_000_000
SECOND = 1_000_000
ROLLOUT = {
    "rollout": "small",
    "events": {"topic": "t", "unit": "subject"},
    "models": {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:event:/new"}},
    "outputs": {"age": {"type": "number", "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
    "policies": {"adult": {"output": "age", "at_least": 18}},
    "sample": {"percent": 100},
    "pairing": {"window": "30s"},
    "gates": [{"name": "answers", "metric": {"missing": "challenger"}, "below": 0.1}],
    "stages": [{"shadow": {"percent": 100}}],
}


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    """One gate, no labels."""
    return config.parse(ROLLOUT, source="test", folder=Path())


def ledger(said: str, *, looked: int = NOW, expires: int = NOW + 3_600 * SECOND) -> MemoryLedger:
    """A store in which an analyst wrote this."""
    found = MemoryLedger()
    document = {"stage_index": 0, "since": None, "attempt": 0, "verdict": said, "reasons": ["why"], "expires": timestamp(expires)}
    found.publish(Published(verdict=json.dumps(document).encode(), looked=looked), after=None)
    return found


def now(rollout: Rollout, stored: MemoryLedger, at: int = NOW, *, state: State = RUNNING) -> dict[str, Any]:
    return decide.verdict(rollout, stored, lambda: state, ManualClock(at), code_version="1")


@pytest.mark.parametrize("said", ["promote", "hold", "rollback"])
def test_a_fresh_verdict_is_given_as_it_was_written(said: str, rollout: Rollout):
    """Nothing is decided here that the analyst has not decided."""
    found = now(rollout, ledger(said))
    assert (found["verdict"], found["reasons"]) == (said, ["why"])


@pytest.mark.parametrize(("said", "then"), [("promote", "hold"), ("hold", "hold"), ("rollback", "rollback")])
@pytest.mark.parametrize("age_s", [60.000001, 86_400])
def test_a_verdict_that_nobody_renewed_for_a_minute_does_not_promote(said: str, then: str, age_s: float, rollout: Rollout):
    """A dead analyst must not leave a promote behind; a rollback stays one, because going back is the safe side."""
    found = now(rollout, ledger(said, looked=NOW - int(age_s * SECOND)))
    assert found["verdict"] == then
    assert found["reasons"][0].startswith("stale: the analyst last looked at ")
    assert found["reasons"][-1] == "why"


def test_a_verdict_of_a_minute_ago_is_fresh(rollout: Rollout):
    """The limit itself still counts."""
    assert now(rollout, ledger("promote", looked=NOW - 60 * SECOND))["verdict"] == "promote"


@pytest.mark.parametrize(("late", "then"), [(0, "promote"), (1, "hold")])
def test_evidence_that_has_expired_does_not_promote(late: int, then: str, rollout: Rollout):
    """The analyst may be alive and traffic gone: last month's evidence says nothing of today."""
    found = now(rollout, ledger("promote", expires=NOW - late))
    assert found["verdict"] == then
    assert any("expired" in reason for reason in found["reasons"]) is bool(late)


def test_a_clock_that_jumped_back_does_not_make_a_verdict_old(rollout: Rollout):
    """Machines' clocks differ by some seconds."""
    assert now(rollout, ledger("promote", looked=NOW + 5 * SECOND))["verdict"] == "promote"


def test_before_the_first_look_it_is_a_hold_with_every_key(rollout: Rollout):
    """Who asks early gets the same document, not an error: nothing read, every gate undecided."""
    found = now(rollout, MemoryLedger())
    assert found["verdict"] == "hold"
    assert found["reasons"][0].startswith("no look yet")
    assert [(row["name"], row["status"], row["n_events"]) for row in found["gates"]] == [("answers", "undecided", 0)]
    assert found["counts"]["read"] == found["counts"]["in_flight"] == 0
    assert found["as_of"] is None


def looks(*said: str) -> Any:
    """A look that says one thing after the other, and the last one for ever."""
    rest = list(said)
    return lambda: {"verdict": rest.pop(0) if len(rest) > 1 else rest[0], "reasons": ["why"]}


def test_waiting_ends_with_the_first_verdict_that_is_no_hold():
    """A pipeline asks once and is told when there is something to do."""
    seen: list[dict[str, Any]] = []
    found = decide.wait_for(looks("hold", "rollback"), timeout_s=60, progress=seen.append)
    assert found["verdict"] == "rollback"
    assert [each["verdict"] for each in seen] == ["hold"]


def test_waiting_ends_with_a_hold_when_the_time_is_over():
    """It is a hold then, not an error and never a pass."""
    assert decide.wait_for(looks("hold"), timeout_s=0.05, progress=lambda _: None)["verdict"] == "hold"


def test_not_waiting_is_one_look():
    """Without --wait the answer comes at once."""
    seen: list[object] = []
    assert decide.wait_for(looks("hold", "promote"), timeout_s=0.0, progress=seen.append)["verdict"] == "hold"
    assert seen == []


def test_a_verdict_from_the_future_promotes_nothing(rollout: Rollout):
    """Two clocks disagree by more than a verdict may be old, so nobody can tell how old it is."""
    found = now(rollout, ledger("promote", looked=NOW + STALE_AFTER + SECOND, expires=NOW + 7_200 * SECOND))
    assert found["verdict"] == "hold" and "clock" in found["reasons"][0]
    assert now(rollout, ledger("promote", looked=NOW + SECOND))["verdict"] == "promote"


def standing(which: str, **more: Any) -> State:
    """A rollout of which a person's record said this."""
    latest = Latest(kind=which, by="ada", at="2026-01-05T00:00:00Z", reason="it hurts")
    return State(standing=Standing(which), latest=latest, n_records=2, **more)


@pytest.mark.parametrize(
    ("which", "said", "then"),
    [
        ("paused", "promote", "hold"), ("paused", "rollback", "rollback"), ("rolled_back", "promote", "rollback"),
        ("rolled_back", "hold", "rollback"), ("expired", "promote", "hold"), ("expired", "rollback", "hold"),
        ("promoted", "hold", "promote"), ("promoted", "rollback", "promote"),
    ],
)  # fmt: skip
def test_what_was_recorded_outweighs_what_the_gates_say_since(which: str, said: str, then: str, rollout: Rollout):
    """A pipeline that asks tomorrow must get the answer that was given, with who gave it and why."""
    found = now(rollout, ledger(said), state=standing(which))
    assert (found["verdict"], found["standing"]) == (then, which)
    assert found["reasons"][0] == f"{which.replace('_', ' ')} by ada at 2026-01-05T00:00:00Z: it hurts"


@pytest.mark.parametrize(("which", "then"), [("promoted", "promote"), ("rolled_back", "rollback"), ("expired", "hold")])
def test_an_end_stays_one_when_nobody_looks_any_more(which: str, then: str, rollout: Rollout):
    """The roles of a rollout that is over are stopped one day; its record does not grow old."""
    assert now(rollout, ledger("hold", looked=NOW - 86_400 * SECOND), state=standing(which))["verdict"] == then
    assert now(rollout, MemoryLedger(), state=standing(which))["verdict"] == then


@pytest.mark.parametrize("said", ["promote", "rollback"])
def test_the_verdict_of_another_stage_is_a_hold_without_its_numbers(said: str, rollout: Rollout):
    """What passed in shadow says nothing of the canary that began a second ago."""
    found = now(rollout, ledger(said), state=State(since=NOW - SECOND, n_records=2))
    assert (found["verdict"], found["reasons"], found["since"]) == ("hold", [NOT_BEGUN], timestamp(NOW - SECOND))
    assert [(row["name"], row["status"], row["n_events"]) for row in found["gates"]] == [("answers", "undecided", 0)]


@pytest.mark.parametrize("said", ["promote", "hold", "rollback"])
def test_a_chain_that_cannot_be_followed_is_a_hold(said: str, rollout: Rollout):
    """Nobody can tell whether it was paused or rolled back."""

    def damaged() -> State:
        raise RecordError("record 3 is not what its hash says; the chain is damaged")

    for stored in (ledger(said), MemoryLedger()):
        found = decide.verdict(rollout, stored, damaged, ManualClock(NOW), code_version="1")
        assert (found["verdict"], found["standing"], found["percent"]) == ("hold", "damaged", 0.0)
        assert "the chain is damaged" in found["reasons"][0]
    (waits,) = decide.waits_for(rollout, ledger(said), damaged, ManualClock(NOW))
    assert waits == "record 3 is not what its hash says; the chain is damaged"


@pytest.mark.parametrize(
    ("standing", "said", "over"),
    [("running", "hold", False), ("paused", "hold", False), ("promoted", "promote", True), ("rolled_back", "rollback", True),
     ("expired", "hold", True), ("damaged", "hold", False)],
)  # fmt: skip
@pytest.mark.parametrize("verdict", ["promote", "hold", "rollback"])
def test_the_end_of_a_rollout_is_what_its_records_say_and_never_what_a_stage_says(verdict: str, standing: str, said: str, over: bool):
    """A stage whose gates pass while approvals are missing is not the end, and neither is a fail that nobody has acted on."""
    found = {"verdict": verdict, "standing": standing}
    assert (decide.ended(found), decide.is_over(found)) == (said, over)


def test_waiting_for_the_end_goes_on_through_stages_that_pass():
    """Also to an expiry, after which nothing would come."""
    rest = ["running", "running", "expired", "promoted"]
    seen: list[dict[str, Any]] = []

    def look() -> dict[str, Any]:
        return {"verdict": "promote", "reasons": ["why"], "standing": rest.pop(0)}

    assert decide.wait_for(look, timeout_s=60, progress=seen.append, until=decide.is_over)["standing"] == "expired"
    assert len(seen) == 2
