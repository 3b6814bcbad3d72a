"""The controller: lets a rollout walk its stages. It reads where the rollout stands and what the analyst says, and appends the next record.

The journal is the only thing it changes, and refuses a record that does not follow the one it was made for: two controllers may both act,
and one of them finds that it has done nothing. What comes after, the records on the bus and in a file, repeats at most and never skips.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from harness.core.errors import HeadMoved, RecordError
from harness.core.reading import microseconds, timestamp
from harness.core.records import CONTROLLER, body, evidence_of
from harness.core.rollout import Rollout
from harness.core.stages import FORWARD, MOVES, State, Wait, Word, named, next_move, percent, serves, to_seal
from harness.core.verdicts import staleness
from harness.ports.clock import Clock
from harness.ports.journal import Journal
from harness.ports.ledger import Ledger
from harness.roles.frontier import Frontier
from harness.roles.outbox import Outbox
from harness.roles.seating import Seating
from harness.roles.standing import Follower

LOOK_EVERY = 200_000  # microseconds between two steps of a worker that found nothing to do

Evidence = Callable[[State, Mapping[str, Any]], Mapping[str, Any]]
"""The state and the verdict of a move to the keys of its record that say what it rests on."""
Words = Callable[[State, Word], Mapping[str, Any]]
"""The state and a person's word to the keys of a record that seals what was seen."""


class Controller:
    """One rollout's controller. outbox, frontier: opened when they are first needed, so that a bus that is away stops no rollback.

    frontier: which events a new stage must not count; without, those after the look count. evidence: what a record says of what it rests
    on; `core.records.evidence_of` without. words: what people saw; without, nothing is sealed for their words. seating: where it is one of
    several challengers, of which one at a time serves.
    """

    def __init__(
        self, rollout: Rollout, *, journal: Journal, ledger: Ledger, clock: Clock, outbox: Callable[[], Outbox], code_version: str,
        evidence: Evidence | None = None, frontier: Callable[[], Frontier] | None = None, words: Words | None = None,
        seating: Seating | None = None,
    ) -> None:  # fmt: skip
        self.rollout, self._journal, self._ledger, self._clock = rollout, journal, ledger, clock
        self._open_outbox, self._code_version = outbox, code_version
        self._evidence = evidence or (lambda state, verdict: evidence_of(rollout, state, verdict, code_version=code_version))
        self._words = words
        self._follower = Follower(journal)
        self._outbox: Outbox | None = None
        self._open_frontier = frontier
        self._frontier: Frontier | None = None
        self._seating = seating
        self._log = structlog.get_logger().bind(role="controller", rollout=rollout.name)
        self._damage = self._unsettled = ""
        self._waits: tuple[str, ...] = ()

    def step(self, wait_s: float = 0.0) -> int:
        """Returns how many records it made or told. `wait_s` is not used: the caller paces a controller.

        1 read the state (of several challengers: the seat before it)   2 read the verdict published, and how old it is   3 find the next
        move; for one that begins to serve ask whether the seat can be had, seal what the move rests on, and take the seat   4 append one
        record behind the head that the state was read from (somebody was faster: nothing was done, and the next step reads again); where
        there is no move, seal what a person's word rests on, in a record of its own   5 tell what was appended. A crash before 4 has done
        nothing, one after it is told the next time.
        """
        if self._seating is not None:
            self._seating.look()
        try:
            state = self._follower.now()
        except RecordError as error:
            self._say_damage(str(error))
            return 0
        n = self._move(state) or self._seal(state)
        if self._outbox is None:
            self._outbox = self._open_outbox()
        return n + self._outbox.tell()

    def _move(self, state: State) -> int:
        published = self._ledger.published()
        if published is None or not state.n_records:  # a chain that was lost has no question; nothing can follow
            return 0
        verdict: dict[str, Any] = json.loads(published.verdict)
        old = staleness(published.looked, verdict["expires"], self._clock.now())
        move = next_move(self.rollout, state, verdict, stale=old)
        if isinstance(move, Wait):
            self._frontier = None
            return self._tidy(state)
        stage = state.stage if move.stage is None else move.stage
        after = replace(state, standing=MOVES[state.standing][move.kind], stage=stage)
        seating = self._seating if not serves(state) and percent(self.rollout, after) else None
        if seating is not None and self._refused(seating.refused()):
            self._frontier = None
            return 0
        since = self._since(move.kind, verdict)
        if since is None:
            return 0
        rests = self._evidence(state, verdict) if move.kind not in FORWARD else self._settled(state, verdict)
        if rests is None:
            self._frontier = None
            return 0
        record = body(
            move.kind, rollout=self.rollout.name, at=self._clock.now(), by=CONTROLLER, reason="; ".join(move.reasons), stage=stage,
            since=since, percent=percent(self.rollout, after), **rests,
        )  # fmt: skip
        if seating is not None and self._refused(seating.take(state)):
            return 0
        try:
            self._journal.append(record, after=state.head)
        except HeadMoved:
            self._frontier = None
            return 1  # by a person or another controller: what is right now is found at the next step
        self._frontier = None
        was, now = self.rollout.stages[state.stage].kind, self.rollout.stages[stage].kind
        self._log.info(f"rollout.{move.kind}", before=was, now=now, percent=percent(self.rollout, after), reason=move.reasons[0])
        return 1

    def _seal(self, state: State) -> int:
        """Seals what a person had in view who approved, waived or went back. The move itself has waited for nothing."""
        word = to_seal(self.rollout, state)
        if word is None or self._words is None:
            return 0
        reason = f"what was seen by whoever {word.kind.replace('_', ' ')} in {named(self.rollout, word.stage)}"
        rests = self._words(state, word)
        record = body("sealed", rollout=self.rollout.name, at=self._clock.now(), by=CONTROLLER, reason=reason, stage=word.stage, **rests)
        with suppress(HeadMoved):  # by a person or another controller: the next step finds what is right then
            self._journal.append(record, after=state.head)
            self._log.info("rollout.sealed", of=word.hash, kind=word.kind)
        return 1

    def _refused(self, waits: tuple[str, ...]) -> bool:
        """Whether the seat of the family, without which no move may begin to serve, cannot be had; why is said once."""
        if waits and waits != self._waits:
            self._log.info("move.waits", reason=waits[0])
        self._waits = waits
        return bool(waits)

    def _tidy(self, state: State) -> int:
        """Gives back a seat that is not needed; returns how many records that took."""
        if self._seating is None or not self._seating.tidy(state):
            return 0
        record = body(
            "yielded", rollout=self.rollout.name, at=self._clock.now(), by=CONTROLLER,
            reason="the canary for which the seat was taken was not entered; another challenger may have it",
        )  # fmt: skip
        with suppress(HeadMoved):
            self._journal.append(record, after=state.head)
        return 1

    def _since(self, kind: str, verdict: Mapping[str, Any]) -> str | None:
        """The record time after which events count for what follows; None while that cannot be said.

        A stage counts no event that was there before it began: neither one that the look has not reached, nor, after a downtime, the
        hours that wait in the topic. So it begins when the router has read all that was there when the move was found.
        """
        look: str | None = verdict["as_of"]
        if kind != "entered" or self._open_frontier is None:
            return look
        self._frontier = self._frontier or self._open_frontier()
        passed = self._frontier.passed()
        return None if passed is None or look is None else timestamp(max(passed, microseconds(look) or 0))

    def _settled(self, state: State, verdict: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What a move forward rests on; None when the pairs, folded again, give a gate another result than the verdict does: labels came
        since the look. The next verdict decides; one that was found so is not folded again."""
        looked = json.dumps([verdict["as_of"], verdict["gates"]])
        if looked == self._unsettled:
            return None
        rests = self._evidence(state, verdict)
        differs = rests["evidence"].get("differs")
        if differs:
            self._unsettled = looked
            self._log.info("move.waits", differs=list(differs), as_of=verdict["as_of"])
            return None
        return rests

    def _say_damage(self, why: str) -> None:
        if why != self._damage:
            self._damage = why
            self._log.error("chain.damaged", reason=why)


class Controllers:
    """The controller of a rollout while this worker holds it; another one stands by. `make` opens it, from what is stored."""

    def __init__(self, make: Callable[[], Controller], clock: Clock) -> None:
        self._make, self._clock = make, clock
        self._held: Controller | None = None
        self._idle_at = 0

    def hold(self, parts: tuple[str, ...]) -> None:
        """Takes up or lays down the stage."""
        self._held = (self._held or self._make()) if parts else None

    def step(self, wait_s: float = 0.0) -> int:
        """One step, if it is this worker's, and not at once again when there was nothing to do."""
        now = self._clock.now()
        if self._held is None or 0 <= now - self._idle_at < LOOK_EVERY:
            return 0
        n = self._held.step(wait_s)
        self._idle_at = 0 if n else now
        return n

    def close(self) -> None:
        """Lays down the stage."""
        self._held = None
