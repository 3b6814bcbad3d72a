"""The controller on a real Redis: what it decides on is sealed, anchored, and can be computed again from the files alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from decided import Decided, chain, decide

from harness.adapters.archive import FileArchive
from harness.commands import moves
from harness.commands.audit import read_lines, verify
from harness.core.records import Author, body, digest, evidence_of
from harness.core.records import canonical as record_bytes
from harness.core.stages import State
from harness.ports.clock import ManualClock
from harness.ports.journal import ROOT, Link
from harness.ports.ledger import Published
from harness.roles.analyst import canonical
from harness.roles.controller import Controller
from harness.wiring import Wiring


@pytest.fixture
def decided(tmp_path: Path, redis_db: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Decided:
    """A rollout in its shadow stage, approved, with a verdict that promotes; its files go to the test's folder."""
    monkeypatch.setenv("SHADOW_DATA", str(tmp_path))
    monkeypatch.setenv("SHADOW_ANCHOR", str(tmp_path / "elsewhere" / "heads.jsonl"))
    found = decide(tmp_path, redis_url, moves=False)
    approval = body("approved", rollout=found.rollout.name, at=1, by=Author(name="bea", via="cli"), reason="yes", stage=1)
    found.journal.append(approval, after=found.links[-1].hash)
    return found


def controller(decided: Decided, verdict: Mapping[str, Any]) -> Controller:
    """A controller that has been told this verdict a moment ago."""
    clock = ManualClock(1_772_900_000_000_000)
    wiring = Wiring(decided.rollout, decided.wiring.bus_url, decided.wiring.store_url, 2, clock=clock)
    before = wiring.ledger.published()
    version = before.version + 1 if before is not None else 1
    wiring.ledger.publish(Published(verdict=canonical(verdict), looked=clock.now(), version=version), after=before)
    return wiring.controller()


def changed(verdict: Mapping[str, Any], status: str, word: str) -> dict[str, Any]:
    """The verdict as if labels that are stored by now had not been there at the look."""
    gates = [{**row, "status": status} if row["name"] == "flips" else row for row in verdict["gates"]]
    return {**verdict, "gates": gates, "verdict": word}


def test_what_the_controller_decides_on_is_sealed_anchored_and_can_be_computed_again(decided: Decided, tmp_path: Path):
    """The promise to the auditor, from the data folder alone."""
    acting = controller(decided, decided.verdict)
    while acting.step():
        pass
    assert [record["kind"] for record, _ in chain(decided.links)] == ["registered", "approved", "entered"]
    assert acting._outbox is not None and acting._outbox._anchor is not None and acting._outbox._anchor.settle(5)
    heads = [json.loads(line)["head"] for line in (tmp_path / "elsewhere/heads.jsonl").read_text().splitlines()]
    links = read_lines(tmp_path / "age-sealed.records.jsonl")
    audit = verify(links, FileArchive(tmp_path / "archive"), heads=heads)
    assert (audit.disagreements, audit.level, audit.later) == ([], "pairs", 0)
    assert verify(links[:2], None, heads=heads).exit_code == 4


def test_a_move_forward_waits_when_the_sealed_pairs_say_otherwise(decided: Decided):
    """A verdict that promotes on numbers that nobody can compute again is not acted on; the next one decides."""
    acting = controller(decided, changed(decided.verdict, "undecided", "promote"))
    for _ in range(3):
        acting.step()
    assert [found["kind"] for found, _ in chain(decided.links)] == ["registered", "approved"]
    acting = controller(decided, decided.verdict)
    acting.step()
    assert [found["kind"] for found, _ in chain(decided.links)][-1] == "entered"


def test_a_rollback_waits_for_nothing(decided: Decided, tmp_path: Path):
    """Neither for pairs that say otherwise nor for a folder that cannot be written; the record says both."""
    (tmp_path / "archive").write_text("in the way")
    acting = controller(decided, changed(decided.verdict, "fail", "rollback"))
    acting.step()
    record, _ = chain(decided.links)[-1]
    assert (record["kind"], record["evidence"]["differs"]) == ("rolled_back", ["flips"])
    assert "cannot be written" in record["reproduction"]["no_archive"]
    assert record["reproduction"]["archive"] is None


def test_an_error_of_ours_in_sealing_stops_no_rollback_and_every_move_forward(decided: Decided):
    """Fail closed: the record of the rollback says that the pairs could not be folded."""
    wiring = decided.wiring
    sealer = wiring.sealer()
    assert sealer.evidence(decided.verdict, chain(decided.links)).agrees
    sealer._pair_logs = [None, None]  # type: ignore[list-item]
    found = sealer.evidence(decided.verdict, chain(decided.links))
    assert not found.agrees
    assert "AttributeError" in found.parts["reproduction"]["no_archive"]
    assert found.parts["evidence"]["gates"] == decided.verdict["gates"]


def test_a_record_has_what_every_record_of_a_move_has(decided: Decided):
    """Whoever reads the chain finds the config's hash and the code where records without an archive have them."""
    acting = controller(decided, decided.verdict)
    acting.step()
    record, _ = chain(decided.links)[-1]
    assert set(evidence_of(decided.rollout, State(), decided.verdict, code_version="1")) <= set(record)
    assert record["evidence"]["reasons"] == decided.verdict["reasons"]


# ------------------------------------------------------------------------------------------------------------------- people's words
def said(decided: Decided, move: Callable[..., Any], who: str, **more: Any) -> None:
    """Somebody's command, with the verdict of this moment before the eyes."""
    seen = {**decided.verdict, "standing": "running"}
    by = Author(name=who, via="cli", role="policy")
    move(decided.rollout, decided.journal, ManualClock(2), by=by, reason="so", verdict=seen, **more)


def kinds(decided: Decided) -> list[str]:
    return [record["kind"] for record, _ in chain(decided.links)]


@pytest.fixture
def back(decided: Decided) -> Decided:
    """Somebody approved, and then went back."""
    said(decided, moves.approve, "cyd", roles=["policy"])
    said(decided, moves.rollback, "dan")
    acting = controller(decided, decided.verdict)
    while acting.step():
        pass
    return decided


def test_what_people_saw_is_sealed_after_their_move_which_waited_for_nothing(back: Decided, tmp_path: Path):
    """A person's record has the numbers; the controller's next ones name the archive that gives the same numbers to an auditor."""
    assert kinds(back) == ["registered", "approved", "approved", "rolled_back", "sealed", "sealed"]
    records = chain(back.links)
    assert [record["of"] for record, _ in records[4:]] == [records[2][1], records[3][1]]
    assert records[3][0]["seen"]["gates"] == back.verdict["gates"]
    assert records[4][0]["reason"] == "what was seen by whoever approved in stage 0 (shadow)"
    assert [one["name"] for one in records[4][0]["authority"]["approvals"]] == ["bea", "cyd"]
    audit = verify(read_lines(tmp_path / "age-sealed.records.jsonl"), FileArchive(tmp_path / "archive"))
    assert (audit.disagreements, audit.level, audit.unsealed) == ([], "pairs", [])
    assert [(found.record, found.kind) for found in audit.decisions] == [(4, "sealed"), (5, "sealed")]
    assert [record["unlike"] for record, _ in records[4:]] == [[], []]
    assert len(list((tmp_path / "archive").iterdir())) == 1, "both saw the same look"


def test_an_approval_that_lets_a_rollout_go_on_is_sealed_behind_the_move(decided: Decided):
    """The move first."""
    said(decided, moves.approve, "cyd", roles=["policy"])
    acting = controller(decided, decided.verdict)
    while acting.step():
        pass
    assert kinds(decided) == ["registered", "approved", "approved", "entered", "sealed"]


def other_number(records: list[dict[str, Any]]) -> None:
    records[3]["seen"]["gates"][0]["estimate"] += 1e-6


def other_look(records: list[dict[str, Any]]) -> None:
    records[3]["seen"]["as_of"] = "2026-03-02T00:00:00Z"


def a_name(records: list[dict[str, Any]]) -> None:
    records[2]["by"]["name"] = "eve"


def sealed_number(records: list[dict[str, Any]]) -> None:
    for row in (records[3]["seen"]["gates"][0], records[5]["evidence"]["gates"][0]):
        row["estimate"] += 1e-6


def nobodys(records: list[dict[str, Any]]) -> None:
    records[5]["of"] = "f" * 64


@pytest.mark.parametrize(
    ("change", "what"),
    [(other_number, "5: unlike"), (other_look, "5: what was seen: as_of"), (a_name, "4: authority: approvals[1].name"), (nobodys, "5: of"),
     (sealed_number, "5: gate minors, from the sealed pairs: estimate")],
)  # fmt: skip
def test_what_a_person_saw_cannot_be_changed_though_all_hashes_are_written_anew(back: Decided, tmp_path: Path, change: Any, what: str):
    """Neither the number, nor the look, nor who it was, nor what it speaks of."""
    records = [json.loads(link.body) for link in back.links]
    change(records)
    links, before, renamed = [], ROOT, dict[str, str]()
    for record, old in zip(records, back.links, strict=True):
        if "question" in record:
            record["question"]["registered"] = links[0].hash
        if "of" in record:
            record["of"] = renamed.get(record["of"], record["of"])
        links.append(Link(hash=digest(before, record_bytes(record)), previous=before, body=record_bytes(record)))
        before = renamed[old.hash] = links[-1].hash
    audit = verify(links, FileArchive(tmp_path / "archive"))
    assert what in [f"{found.record}: {found.what}" for found in audit.disagreements]


def test_words_that_were_not_sealed_are_named(back: Decided, tmp_path: Path):
    """So that a seal which somebody took off the end of a chain is missed."""
    audit = verify(back.links[:5], FileArchive(tmp_path / "archive"))
    assert (audit.exit_code, audit.unsealed, audit.document()["unsealed"]) == (0, [3], [3])


def test_numbers_that_are_others_by_now_are_named(decided: Decided):
    """A label came after the look: the record holds what is sealed, and says of which gates the person saw another number."""
    seen = json.loads(json.dumps(decided.verdict))
    seen["gates"][0]["estimate"] += 0.125
    by = Author(name="dan", via="cli", role="policy")
    moves.rollback(decided.rollout, decided.journal, ManualClock(2), by=by, reason="so", verdict=seen)
    controller(decided, decided.verdict).step()
    record, _ = chain(decided.links)[-1]
    assert (record["kind"], record["unlike"], record["evidence"]["gates"]) == ("sealed", ["minors"], decided.verdict["gates"])


def test_what_a_person_saw_and_nobody_can_read_stops_nothing(decided: Decided, tmp_path: Path):
    """Whoever can write to the store writes what he likes; it is told once, and the controller goes on."""
    record = body("rolled_back", rollout="age-sealed", at=1, by=Author(name="eve", via="cli"), reason="so", seen={"as_of": "soon"})
    decided.journal.append(record, after=decided.links[-1].hash)
    acting = controller(decided, decided.verdict)
    while acting.step():
        pass
    last, _ = chain(decided.links)[-1]
    assert (last["kind"], last["why"]) == ("sealed", "what was seen could not be folded again (KeyError)")
    audit = verify(decided.links, FileArchive(tmp_path / "archive"))
    assert (audit.exit_code, audit.unsealed) == (0, [2])
