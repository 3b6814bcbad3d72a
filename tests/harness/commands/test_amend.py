"""A new attempt: what begins anew, at which part of alpha, what may change and what may not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.commands import amend as amending
from harness.commands import registry
from harness.core.errors import HeadMoved, UsageError
from harness.core.records import Author, body
from harness.core.rollout import Stage
from harness.core.stages import Standing, alpha_share, still_wanted, superseded
from harness.ports.clock import ManualClock
from harness.roles.analyst import plan_of
from harness.roles.standing import Follower
from harness.testing.doubles import MemoryDirectory, MemoryJournal
from harness.testing.samples import rollout

ADA, BEA = Author(name="ada", via="cli"), Author(name="bea", via="cli", role="policy")
DOCUMENT = {"rollout": "one", "events": {"topic": "a"}, "models": {"incumbent": {}, "challenger": {}}, "gates": [1], "alpha": 0.05}
FIRST = replace(rollout(), name="one", sha256="1" * 64, document=DOCUMENT, folder=Path("/somewhere"), alpha=0.05)
SECOND = replace(FIRST, sha256="2" * 64, document={**DOCUMENT, "gates": [2]})
LOOKED = {"as_of": "2026-03-02T06:00:00Z", "since": None, "verdict": "hold"}
UNLOOKED = {**LOOKED, "as_of": None}


class Here:
    """A rollout in memory."""

    def __init__(self) -> None:
        self.directory, self.journal, self.clock = MemoryDirectory(), MemoryJournal(), ManualClock(1)
        self.register(FIRST)

    def register(self, config: Any) -> registry.Registered:
        return registry.register(
            config, shards=2, default_shards=1, directory=self.directory, journal=self.journal, by=ADA, clock=self.clock, code_version="1"
        )

    def amend(self, config: Any = SECOND, verdict: Any = LOOKED, by: Author = BEA) -> Any:
        return amending.amend(config, self.journal, self.directory, self.clock, by=by, reason="a new model", verdict=verdict)

    def add(self, kind: str, **more: Any) -> None:
        state = Follower(self.journal).now()
        self.journal.append(body(kind, rollout="one", at=1, by=BEA, reason="because", **more), after=state.head)

    def state(self) -> Any:
        return Follower(self.journal).now()


def test_it_begins_in_shadow_with_no_evidence_and_the_record_says_what_changed():
    """Only what arrives after the last look counts; approvals of the attempt before are gone; the shards stay."""
    here = Here()
    here.add("approved", stage=1)
    moved = here.amend()
    state = here.state()
    assert moved.added
    assert (state.stage, state.attempt, state.approvals, state.config_sha256) == (0, 1, (), "2" * 64)
    record = json.loads(here.journal.read()[-1].body)
    assert (record["changed"], record["since"], record["alpha"], record["shards"]) == (["gates"], "2026-03-02T06:00:00Z", 0.025, 2)
    assert here.register(SECOND).document == SECOND.document
    with pytest.raises(UsageError, match="started with another config"):
        here.register(FIRST)


@pytest.mark.parametrize(("look", "since"), [("2026-03-02T06:00:00Z", "2026-03-02T06:41:07.5Z"), (None, "2026-03-02T06:41:07.5Z")])
def test_pairs_that_the_old_models_have_answered_are_none_of_the_new_attempt(look: str | None, since: str):
    """Also those that came since the last look, up to a whole step of the grid; they would speak for a model that never saw them."""
    here = Here()
    here.amend(verdict={**LOOKED, "as_of": look, "watermark": {"resolved": "2026-03-02T06:41:07.5Z", "shards": [9]}})
    assert json.loads(here.journal.read()[-1].body)["since"] == since


def test_retries_share_alpha_so_that_any_number_of_them_costs_at_most_twice():
    """1, 1/2, 1/6, 1/12, ...: whoever changes gates until one passes has no better chance of a false promotion than that."""
    assert [round(1 / alpha_share(attempt)) for attempt in range(5)] == [1, 2, 6, 12, 20]
    assert sum(alpha_share(attempt) for attempt in range(100_000)) == pytest.approx(2.0, abs=1e-4)
    plans = [plan_of(replace(rollout(), stages=(Stage(kind="shadow"),)), 0, attempt) for attempt in range(3)]
    assert [plan.alpha / plans[0].alpha for plan in plans] == pytest.approx([1, 1 / 2, 1 / 6])
    assert len({plan.digest() for plan in plans}) == 3, "evidence of one attempt is never continued by another"


def test_whoever_amends_is_an_author_whose_approval_does_not_count():
    """Nor does that of whoever registered it."""
    here = Here()
    here.amend()
    state = here.state()
    following = Stage(kind="canary", people=1)
    for name, counts in (("ada", False), ("bea", False), ("cyd", True)):
        here.add("approved", stage=1)
        said = replace(here.state().approvals[-1], by=name)
        assert (still_wanted(following, replace(state, approvals=(said,))) is None) is counts


@pytest.mark.parametrize("kind", ["rolled_back", "expired", "paused"])
def test_it_begins_anew_after_what_had_ended_or_paused(kind: str):
    """A challenger that was mended gets its next attempt under the same name."""
    here = Here()
    here.add(kind)
    here.amend()
    assert (here.state().standing, here.state().attempt) == (Standing.RUNNING, 1)


def test_after_a_promotion_nothing_begins_anew():
    """It serves everybody; the next question has another name."""
    here = Here()
    here.add("promoted")
    with pytest.raises(UsageError, match="promoted, which is for good"):
        here.amend()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"events": {"topic": "b"}}, "events"),
        ({"models": {"incumbent": {}, "challenger": {}, "replica": {}}}, "models"),
        ({"looks": "2h"}, "looks"),
    ],
)
def test_what_shapes_what_is_stored_cannot_change(changes: dict[str, Any], named: str):
    """Old rows and new ones would not be of one table; nothing is recorded."""
    here = Here()
    with pytest.raises(UsageError, match=f"{named}.* changed, which shapes"):
        here.amend(replace(SECOND, document={**DOCUMENT, **changes}))
    assert len(here.journal.read()) == 1


def test_the_same_config_is_an_attempt_only_when_it_was_looked_at():
    """A model that changed behind its address asks the same question of another model."""
    here = Here()
    assert not here.amend(FIRST, UNLOOKED).added
    assert here.amend(FIRST, LOOKED).added
    assert here.state().attempt == 1


def test_a_crash_after_the_record_is_mended_by_the_next_start():
    """The journal says which config is asked; whoever starts with it puts the directory right."""
    here = Here()
    here.amend()
    registry.replaced(FIRST, shards=2, directory=here.directory)  # as if it had died between the two
    assert here.register(SECOND).sha256 == "2" * 64
    assert registry.find("one", here.directory).sha256 == "2" * 64


def test_roles_with_the_old_config_know_that_they_are_of_yesterday():
    """They hold and say so, rather than answer the question of before."""
    here = Here()
    here.amend()
    assert "start it with the new config" in str(superseded(FIRST, here.state()))
    assert superseded(SECOND, here.state()) is None


def test_a_record_that_comes_between_refuses_it_whole():
    """Whoever amended had not seen it."""
    here = Here()

    class Late(MemoryJournal):
        def append(self, body: bytes, *, after: str) -> Any:
            raise HeadMoved("moved")

    late = Late()
    late._links = list(here.journal._links)
    with pytest.raises(UsageError, match="another record came between"):
        amending.amend(SECOND, late, here.directory, here.clock, by=BEA, reason="x", verdict=LOOKED)
    assert registry.find("one", here.directory).sha256 == "1" * 64


def test_the_shape_of_frames_does_not_change_with_the_question():
    """Events on their way when an attempt begins are folded under it, not lost."""
    assert FIRST.version == SECOND.version
    assert FIRST.version != replace(FIRST, document={**DOCUMENT, "events": {"topic": "b"}}).version
