"""The state machine of a rollout: every move there is, and none besides, whatever records and verdicts come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import RecordError
from harness.core.reading import timestamp
from harness.core.rollout import Stage
from harness.core.stages import MOVES, Move, Standing, State, Wait, Word, fold, folded, next_move, percent, since_text, to_seal
from harness.testing.samples import rollout

HOUR = 3_600_000_000
ROLLOUT = replace(
    rollout(),
    stages=(
        Stage(kind="shadow", at_least_s=2 * 3_600.0, pairs=10),
        Stage(kind="canary", percent=1.0, at_least_s=3_600.0, people=2, roles=("policy",), stop_after={"harm": 3}),
        Stage(kind="canary", percent=10.0),
        Stage(kind="promote", bake_s=4 * 3_600.0),
    ),
    expires_s=100 * 3_600.0,
)


def record(kind: str, who: str = "ada", role: str | None = "policy", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "by": {"name": who, "role": role, "via": "cli"}, **more}


def after(*records: dict[str, Any]) -> State:
    return folded([(each, f"{n}") for n, each in enumerate([record("registered", "author"), *records])])


def verdict(state: State, look: int | None = 10 * HOUR, said: str = "promote", pairs: int = 50, **more: Any) -> dict[str, Any]:
    return {
        "verdict": said, "reasons": [f"it says {said}"], "as_of": None if look is None else timestamp(look), "stage_index": state.stage,
        "attempt": state.attempt,        "since": since_text(state), "began": timestamp(HOUR), "stage_pairs": pairs, **more,
    }  # fmt: skip


def approval(who: str, role: str | None = "policy", stage: int = 1) -> dict[str, Any]:
    return record("approved", who, role, stage=stage)


APPROVED = (approval("bea"), approval("cyd"))
CANARY = after(*APPROVED, record("entered", stage=1, since=timestamp(10 * HOUR)))


def test_a_stage_ends_when_time_and_pairs_and_gates_and_approvals_say_so():
    """All four; each one alone keeps it where it is, and is named."""
    state = after(*APPROVED)
    assert next_move(ROLLOUT, state, verdict(state)) == Move(kind="entered", stage=1, reasons=("it says promote",))
    for lacking, short in (
        (verdict(state, look=2 * HOUR), "lasted 3600 s"),
        (verdict(state, pairs=9), "9 pairs"),
        (verdict(state, said="hold"), "it says hold"),
    ):
        waits = next_move(ROLLOUT, state, lacking)
        assert isinstance(waits, Wait)
        assert short in waits.reasons[0]
    waits = next_move(ROLLOUT, after(APPROVED[0]), verdict(state))
    assert waits == Wait(reasons=("approval: 1 of 2 people in the role policy approved the next stage",))


def test_the_author_a_stranger_to_the_role_and_the_same_person_twice_do_not_count():
    """Two people are two people, in the role the config names, and neither wrote the config."""
    given_ = [approval("author"), approval("Author"), approval("bea", "sales"), approval("cyd"), approval("Cyd")]
    state = after(*given_)
    assert isinstance(next_move(ROLLOUT, state, verdict(state)), Wait)
    assert isinstance(next_move(ROLLOUT, after(*given_, approval("bea")), verdict(state)), Move)


def test_an_approval_is_of_the_next_stage_and_of_no_other():
    """A record that approves a stage which has begun, or one further on, cannot stand in a chain."""
    for stage in (0, 2, None):
        with pytest.raises(RecordError, match="only the next one can be approved"):
            after(approval("bea", stage=stage))
    with pytest.raises(RecordError, match="approves stage 1 during stage 1"):
        fold(CANARY, approval("bea"), head="late")


def test_what_hurts_stops_at_once_also_while_paused_and_before_any_time_is_over():
    """A fail needs no minimum time, and a pause does not protect a bad challenger."""
    for state in (CANARY, fold(CANARY, record("paused"), head="p")):
        said = next_move(ROLLOUT, state, verdict(state, look=10 * HOUR + 1, said="rollback"))
        assert said == Move(kind="rolled_back", reasons=("it says rollback",))
        said = next_move(ROLLOUT, state, verdict(state, look=None, exposed_harms={"harm": 3}))
        assert isinstance(said, Move)
        assert (said.kind, "3 end the stage" in said.reasons[0]) == ("rolled_back", True)
    assert isinstance(next_move(ROLLOUT, CANARY, verdict(CANARY, look=10 * HOUR + 1, exposed_harms={"harm": 2})), Wait)


def test_a_verdict_of_another_stage_moves_nothing():
    """The analyst that has not begun the stage yet still speaks of the one before: its promote, and its rollback, are old news."""
    for said in ("promote", "rollback"):
        assert isinstance(next_move(ROLLOUT, CANARY, verdict(after(), said=said)), Wait)
        assert isinstance(next_move(ROLLOUT, CANARY, {**verdict(CANARY, said=said), "since": None}), Wait)


@pytest.mark.parametrize("kind", ["promoted", "rolled_back", "expired"])
def test_after_an_end_it_says_what_could_still_move_it(kind):
    """A promotion is for good; from the other two a new attempt begins."""
    waits = next_move(ROLLOUT, after(record(kind)), verdict(after()))
    what = "nothing" if kind == "promoted" else "a new attempt (`shadow amend`)"
    assert waits == Wait(reasons=(f"{what}: the rollout is {kind.replace('_', ' ')}",))


def test_a_pause_holds_what_would_go_on_and_resuming_lets_it():
    """Everything is ready, a person says wait."""
    state = fold(after(*APPROVED), record("paused"), head="p")
    assert next_move(ROLLOUT, state, verdict(state)) == Wait(reasons=("paused by a person",))
    state = fold(state, record("resumed"), head="r")
    assert isinstance(next_move(ROLLOUT, state, verdict(state)), Move)


def test_a_stage_without_an_answer_expires_but_a_bake_does_not():
    """Back to the incumbent rather than a canary for ever; what serves everybody is not taken away for want of evidence."""
    said = next_move(ROLLOUT, CANARY, verdict(CANARY, look=110 * HOUR, said="hold"))
    assert isinstance(said, Move)
    assert said.kind == "expired"
    bakes = replace(CANARY, stage=3)
    assert isinstance(next_move(ROLLOUT, bakes, verdict(bakes, look=500 * HOUR, said="hold")), Wait)
    assert next_move(ROLLOUT, bakes, verdict(bakes, look=500 * HOUR)) == Move(kind="promoted", reasons=("it says promote",))


def test_the_challenger_serves_nobody_but_in_canary_and_after_promotion():
    """Percent by standing: every end but promotion is the incumbent's."""
    shares = {standing: percent(ROLLOUT, replace(CANARY, standing=standing)) for standing in Standing}
    assert shares == {
        Standing.RUNNING: 1.0, Standing.PAUSED: 1.0, Standing.PROMOTED: 100.0, Standing.ROLLED_BACK: 0.0, Standing.EXPIRED: 0.0,
    }  # fmt: skip
    assert [percent(ROLLOUT, replace(CANARY, stage=stage)) for stage in range(4)] == [0.0, 1.0, 10.0, 100.0]


def test_a_waiver_is_two_peoples_word_until_it_expires():
    """One person, or one twice, waives nothing; and a new stage begins without it."""
    one = record("waived", "bea", gate="g", expires=timestamp(20 * HOUR))
    state = after(one, one)
    assert state.waived(10 * HOUR) == frozenset()
    state = fold(state, record("waived", "cyd", gate="g", expires=timestamp(15 * HOUR)), head="w")
    assert (state.waived(15 * HOUR), state.waived(15 * HOUR + 1)) == ({"g"}, frozenset())
    assert fold(state, record("entered", stage=1, since=timestamp(HOUR)), head="e").waived(HOUR) == frozenset()


def test_whoever_still_has_the_config_before_an_amendment_serves_nobody_with_the_challenger():
    """Its second stage may be another percent than that of the question that is asked now."""
    asked = [record("amended", sha256="f" * 64, since=None), record("entered", stage=1, since=timestamp(HOUR), percent=1.0)]
    state = after(*asked)
    old = replace(ROLLOUT, sha256="a" * 64, stages=(ROLLOUT.stages[0], replace(ROLLOUT.stages[1], percent=50.0), ROLLOUT.stages[3]))
    assert percent(replace(old, sha256="f" * 64), state) == 50.0
    assert percent(old, state) == 0.0


def test_an_authors_word_waives_no_gate():
    """Whoever wrote the question must not take a part of it back; also not under another spelling, and also not who amended it."""
    said = [record("waived", who, gate="g", expires=timestamp(20 * HOUR)) for who in ("bea", "Author ", "cyd")]
    state = after(*said[:2])
    assert state.waived(10 * HOUR) == frozenset()
    assert fold(state, said[2], head="w").waived(10 * HOUR) == {"g"}
    amended = after(record("amended", "cyd", sha256="1", since=timestamp(HOUR)), *said)
    assert amended.waived(10 * HOUR) == frozenset()


KINDS = ["registered", *sorted({kind for moves in MOVES.values() for kind in moves}), "unknown"]


@given(kinds=st.lists(st.sampled_from(KINDS), max_size=30))
def test_no_chain_of_records_leaves_an_end_or_skips_a_stage(kinds: list[str]):
    """Records that do not fit are refused, all others lead where the table says, one stage at a time."""
    state = after()
    for n, kind in enumerate(kinds):
        allowed = MOVES[state.standing].get(kind)
        what = record(kind, stage=state.stage + 1, since=timestamp(n * HOUR), gate="g", expires=timestamp(HOUR), sha256="2")
        if allowed is None:
            with pytest.raises(RecordError, match="cannot follow"):
                fold(state, what, head="h")
            continue
        before, state = state, fold(state, what, head=f"{n}")
        assert (state.standing, state.stage) == (allowed, 0 if kind == "amended" else before.stage + (kind == "entered"))
        assert state.attempt - before.attempt == int(kind == "amended")
    assert state.final is (state.standing not in (Standing.RUNNING, Standing.PAUSED))


@given(data=st.data())
def test_nothing_is_promoted_without_all_gates_passed_and_all_approvals_given(data: st.DataObject):
    """Whatever people and verdicts say, in any order: each stage was entered on a passing verdict, after its time, with its people."""
    state, look = after(), 0
    for n in range(data.draw(st.integers(1, 40))):
        look += data.draw(st.integers(0, 3)) * HOUR
        kind = data.draw(st.sampled_from(["look", "look", "look", "approved", "paused", "resumed", "sealed"]))
        if kind != "look":
            if kind in MOVES[state.standing]:
                who = data.draw(st.sampled_from(["author", "bea", "cyd"]))
                state = fold(state, record(kind, who, stage=state.stage + 1), head=f"{n}")
            continue
        said = data.draw(st.sampled_from(["promote", "promote", "hold"]))
        seen = verdict(state, look=look, said=said, pairs=data.draw(st.integers(8, 12)))
        move = next_move(ROLLOUT, state, seen)
        if isinstance(move, Wait):
            continue
        stage = ROLLOUT.stages[state.stage]
        if move.kind in ("entered", "promoted"):
            began = HOUR if state.since < 0 else state.since
            assert seen["verdict"] == "promote"
            assert seen["stage_pairs"] >= stage.pairs
            assert look - began >= (stage.bake_s or stage.at_least_s) * 1e6
            assert state.standing is Standing.RUNNING
            if move.stage == 1:
                assert {said.by for said in state.approvals} >= {"bea", "cyd"}
        state = fold(state, record(move.kind, stage=move.stage, since=timestamp(look)), head=f"{n}")


@pytest.mark.parametrize("before", [(), ("paused",), ("rolled_back",), ("expired",)])
def test_somebody_can_be_forgotten_at_any_time_and_nothing_moves(before: tuple[str, ...]):
    """A right that does not end with a rollout; it changes neither stage nor standing, nor what was approved."""
    records = [*APPROVED, *map(record, before)]
    state, found = after(*records), after(*records, record("forgot", rows=3))
    assert replace(found, head=state.head, n_records=state.n_records) == state
    assert found.n_records == state.n_records + 1


def word(kind: str, who: str = "bea", as_of: object = timestamp(9 * HOUR), **more: Any) -> dict[str, Any]:
    return record(kind, who, seen={"as_of": as_of}, **more)


def test_what_people_saw_is_to_be_sealed_once_each_and_the_oldest_first():
    """In the shadow at once, as nobody can be hurt while it takes its time."""
    state = after(word("approved", stage=1), word("approved", "cyd", stage=1))
    assert to_seal(ROLLOUT, state) == Word(hash="1", kind="approved", stage=0)
    state = fold(state, record("sealed", "controller", of="1"), head="s")
    assert to_seal(ROLLOUT, state) == Word(hash="2", kind="approved", stage=0)
    state = fold(state, record("sealed", "controller", of="2"), head="t")
    assert (to_seal(ROLLOUT, state), state.latest) == (None, None)
    assert len(state.approvals) == 2, "to seal them changes nothing that they said"


def test_while_people_are_served_nothing_is_sealed_of_their_stage():
    """A rollback never waits for the seal of a word: it comes when the stage is over, in whichever way."""
    said = word("waived", gate="g", expires=timestamp(20 * HOUR))
    state = fold(CANARY, said, head="w")
    assert to_seal(ROLLOUT, state) is None
    over = [record("entered", stage=2, since=timestamp(11 * HOUR)), record("rolled_back"), record("expired")]
    assert [to_seal(ROLLOUT, fold(state, each, head="o")) for each in over] == [Word(hash="w", kind="waived", stage=1)] * 3
    back = fold(CANARY, word("rolled_back"), head="b")
    assert to_seal(ROLLOUT, back) == Word(hash="b", kind="rolled_back", stage=1)


@pytest.mark.parametrize("seen", [{}, {"seen": {"as_of": None}}, {"seen": "nothing"}])
def test_who_saw_no_look_saw_nothing_to_seal(seen: dict[str, Any]):
    """Also whoever spoke with an older release, which did not say."""
    assert to_seal(ROLLOUT, after(record("approved", "bea", stage=1, **seen))) is None


def test_with_a_new_attempt_old_words_are_left_as_they_are():
    """They were of another question, and the pairs are counted under the new one; nor does an old config seal them."""
    state = fold(after(word("approved", stage=1)), record("amended", sha256="b" * 64, since=None), head="a")
    assert to_seal(replace(ROLLOUT, sha256="b" * 64), state) is None
    state = fold(state, word("approved", stage=1), head="n")
    assert to_seal(replace(ROLLOUT, sha256="b" * 64), state) == Word(hash="n", kind="approved", stage=0)
    assert to_seal(ROLLOUT, state) is None


@pytest.mark.parametrize("standing", list(Standing))
def test_a_seal_may_follow_whatever_happened_and_moves_nothing(standing: Standing):
    """A word may be the last thing before an end."""
    state = replace(after(*APPROVED), standing=standing)
    found = fold(state, record("sealed", "controller", of="0"), head="s")
    assert replace(found, head=state.head, n_records=state.n_records) == state
