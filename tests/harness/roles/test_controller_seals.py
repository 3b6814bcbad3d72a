"""The controller on a real Redis: what it decides on is sealed, anchored, and can be computed again from the files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from decided import Decided, chain, decide

from harness.adapters.archive import FileArchive
from harness.commands.audit import read_lines, verify
from harness.core.records import Author, body, evidence_of
from harness.core.stages import State
from harness.ports.clock import ManualClock
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
