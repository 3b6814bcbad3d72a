"""`shadow audit verify` on real Parquet and records of a real Redis: what was recorded is computed again, and every tampering is found.

Somebody who changes a record may also write all hashes anew; what is not found by the hashes is found by the sums, by the pairs, or by
the head that was anchored elsewhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from decided import Decided, chain, decide

from harness import config
from harness.adapters import parquet, recordsfile
from harness.adapters.archive import FileArchive
from harness.commands.analyze import table_of
from harness.commands.audit import Audit, read_lines, verify
from harness.core.errors import Overrun, UsageError
from harness.core.records import canonical, digest
from harness.core.sealed import facts, without_ids
from harness.core.verdicts import row_document
from harness.ports.journal import ROOT, Link
from harness.roles.outbox import event
from harness.roles.sealing import Sealer, refold, stage_table

Change = Callable[[list[dict[str, Any]]], None]
DECISION = 2


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Decided:
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    return decide(tmp_path_factory.mktemp("decided"), redis_url)


@pytest.fixture
def elsewhere(decided: Decided, tmp_path: Path) -> Path:
    """The records and the archive on another machine: copied, and nothing else there."""
    shutil.copytree(decided.folder, tmp_path / "copy")
    return tmp_path / "copy"


def audited(folder: Path, **words: Any) -> Audit:
    return verify(read_lines(folder / "records.jsonl"), FileArchive(folder / "archive"), **words)


def tampered(folder: Path, change: Change, *, rehash: bool) -> list[Link]:
    """Changes records in place; `rehash` writes every hash anew, as somebody would who owns the store."""
    links = read_lines(folder / "records.jsonl")
    records = [json.loads(link.body) for link in links]
    change(records)
    bodies = [canonical(record) for record in records]
    found = [Link(hash=link.hash, previous=link.previous, body=body) for link, body in zip(links, bodies, strict=False)]
    if rehash:
        found, before = [], ROOT
        for body in bodies:
            found.append(Link(hash=digest(before, body), previous=before, body=body))
            before = found[-1].hash
    (folder / "records.jsonl").write_bytes(b"".join(map(recordsfile.line, found)))
    return found


def whats(audit: Audit) -> str:
    return "\n".join(f"{d.record}: {d.what}" for d in audit.disagreements)


def test_a_decision_is_computed_again_from_its_records_and_archive_alone(elsewhere: Path):
    """Level pairs: hashes, moves, gates from the sums, gates and counts from the sealed pairs; no store, no bus."""
    audit = audited(elsewhere)
    assert (audit.disagreements, audit.level, audit.exit_code, audit.records) == ([], "pairs", 0, 5)
    assert [(d.record, d.kind, d.level) for d in audit.decisions] == [(DECISION, "entered", "pairs")]


def test_the_record_holds_the_numbers_of_the_verdict(decided: Decided):
    """Sealing folds the pairs again; what stands in the record is what the analyst published."""
    (record, _) = chain(decided.links)[DECISION]
    assert record["evidence"]["gates"] == decided.verdict["gates"]
    assert record["people"]["flips"] == decided.verdict["flips"]
    assert record["population"]["pairs"] == decided.verdict["counts"]["paired"]


def test_the_record_says_who_what_and_for_whom(decided: Decided):
    """The seven parts of the record, in plain values."""
    record, _ = chain(decided.links)[DECISION]
    rows = record["population"]["missing"]["region"]
    assert {word: sum(found["challenger"].values()) for word, found in rows.items()}.keys() == {"SE", "ES", "other"}
    assert sum(found["rows"] for found in rows.values()) == record["population"]["rows"] == 400
    by = record["people"]["flips_by_segment"]["gender"]
    assert sum(by[word]["over_18"]["false->true"] for word in by) == record["people"]["flips"]["over_18"]["false->true"]
    assert all(0 < cell["labels"] <= cell["pairs"] for cell in record["evidence"]["coverage"]["over_18"])
    assert record["question"]["registered"] == decided.links[0].hash
    assert (record["question"]["dry_run"], record["question"]["looks"] > 50) == (["fast"], True)
    assert record["models"]["thresholds"]["over_18"]["lines"]["challenger"] == {"default": 18.0, "by": "region", "values": {"ES": 16.0}}
    assert [said["name"] for said in record["authority"]["approvals"]] == ["bea"]
    assert record["authority"]["author"] == "ada"
    assert record["reproduction"]["archive"] == next(decided.archive.iterdir()).stem


def test_two_runs_seal_the_same_bytes(decided: Decided, tmp_path: Path):
    """The hash in the record is that of the pairs, not of the moment."""
    logs = [decided.wiring.pair_log(shard) for shard in range(2)]
    again = Sealer(decided.rollout, pair_logs=logs, archive=FileArchive(tmp_path), code_version="1.0")
    parts = again.evidence(decided.verdict, chain(decided.links)[:DECISION]).parts
    (first,) = decided.archive.iterdir()
    (second,) = tmp_path.iterdir()
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())
    assert json.loads(canonical(parts)) == {name: chain(decided.links)[DECISION][0][name] for name in parts}


# ------------------------------------------------------------------------------------------------------------------- tampering
def number(records: list[dict[str, Any]]) -> None:
    records[DECISION]["evidence"]["gates"][0]["estimate"] += 1e-9


def a_count(records: list[dict[str, Any]]) -> None:
    records[DECISION]["people"]["flips"]["over_18"]["false->true"] += 1


def a_label(records: list[dict[str, Any]]) -> None:
    records[DECISION]["evidence"]["coverage"]["over_18"][0]["labels"] -= 1


def a_status(records: list[dict[str, Any]]) -> None:
    records[DECISION]["evidence"]["gates"][0]["status"] = "undecided"


def a_row(records: list[dict[str, Any]]) -> None:
    del records[DECISION]["evidence"]["gates"][1]


def an_approval(records: list[dict[str, Any]]) -> None:
    records[DECISION]["authority"]["approvals"][0]["name"] = "cyd"


@pytest.mark.parametrize("change", [number, a_count, a_label, a_status, a_row, an_approval])
def test_an_edited_record_is_found_by_its_hash(elsewhere: Path, change: Change):
    """Whatever was edited: the record no longer has the hash that the next one names."""
    tampered(elsewhere, change, rehash=False)
    audit = audited(elsewhere, level="chain")
    assert audit.exit_code == 4
    assert f"{DECISION}: its own hash" in whats(audit)


@pytest.mark.parametrize(
    ("change", "what", "level"),
    [
        (number, "gate minors, from the recorded sums: estimate", "statistics"),
        (a_status, "gate minors at a move forward", "statistics"),
        (a_row, "from the recorded sums: row", "statistics"),
        (a_count, "flips.over_18.false->true", "pairs"),
        (a_label, "coverage.over_18[0].labels", "pairs"),
        (an_approval, "approvals[0].name", "chain"),
    ],
)
def test_an_edited_number_is_found_though_all_hashes_were_written_anew(elsewhere: Path, change: Change, what: str, level: str):
    """The sums and the sealed pairs still give the old one."""
    tampered(elsewhere, change, rehash=True)
    audit = audited(elsewhere, level=level)
    assert audit.exit_code == 4
    assert what in whats(audit), whats(audit)
    assert {d.record for d in audit.disagreements} == {DECISION}


def test_a_disagreement_says_what_was_found_and_what_was_expected(elsewhere: Path):
    """The number in the record, and the one that the sums give."""
    before = json.loads(read_lines(elsewhere / "records.jsonl")[DECISION].body)["evidence"]["gates"][0]["estimate"]
    tampered(elsewhere, number, rehash=True)
    first = audited(elsewhere).disagreements[0]
    assert (first.expected, first.found) == (pytest.approx(before, abs=1e-14), before + 1e-9)


def test_a_number_edited_together_with_its_sums_is_found_by_the_pairs(elsewhere: Path, decided: Decided):
    """Sums of other pairs are sums of a plausible rollout; the archive is that of this one."""

    def other_sums(records: list[dict[str, Any]]) -> None:
        sealed, of = FileArchive(elsewhere / "archive").open(records[DECISION]["reproduction"]["archive"])
        columns = dict(sealed)
        columns["age.challenger"] = columns["age.challenger"] * 0.97
        columns = {name: column for name, column in columns.items() if name not in ("over_18.challenger", "adult.challenger")}
        table = table_of(decided.rollout, columns, source="test")
        again = refold(decided.rollout, table, as_of=int(table["arrived"].max()) // 10**9 * 10**9 + 10**13, stage=0, attempt=0)
        records[DECISION]["evidence"]["sums"] = dict(again.sums)
        records[DECISION]["evidence"]["gates"] = [row_document(row) for row in again.rows]
        assert of.rollout == decided.rollout.name

    tampered(elsewhere, other_sums, rehash=True)
    assert audited(elsewhere, level="statistics").exit_code == 0
    audit = audited(elsewhere)
    assert audit.exit_code == 4
    assert "from the sealed pairs" in whats(audit)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_dropped_record_is_found(elsewhere: Path, number: int):
    """The record behind it names a hash that is not there."""
    path = elsewhere / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
    audit = audited(elsewhere)
    assert audit.exit_code == 4
    assert f"{number}: the hash before it" in whats(audit)


def test_a_dropped_approval_is_found_though_all_hashes_were_written_anew(elsewhere: Path):
    """The decision names an approval that the chain does not have, and the config asked for one."""
    tampered(elsewhere, lambda records: records.pop(1), rehash=True)
    audit = audited(elsewhere)
    assert audit.exit_code == 4
    assert "1: authority: approvals" in whats(audit)
    assert "1: approvals at a move forward" in whats(audit)


def test_a_swapped_archive_is_found(elsewhere: Path, decided: Decided):
    """Under the same name by its bytes; under its own name, in a record written anew, by its numbers or by what it says of itself."""
    (path,) = (elsewhere / "archive").iterdir()
    columns, said = parquet.read(path)
    table = table_of(decided.rollout, columns, source="test")
    assert len(table) == 400
    fewer = FileArchive(elsewhere / "archive")
    columns, of = fewer.open(path.stem)
    other = fewer.seal(decided.rollout, _coded(decided, np.arange(390)), of)
    assert facts(of) == said
    tampered(elsewhere, lambda records: records[DECISION]["reproduction"].update(archive=other), rehash=True)
    audit = audited(elsewhere)
    assert (audit.exit_code, "facts, from the sealed pairs: rows" in whats(audit)) == (4, True)
    shutil.copy(elsewhere / "archive" / f"{other}.parquet", path)
    tampered(elsewhere, lambda records: records[DECISION]["reproduction"].update(archive=path.stem), rehash=True)
    audit = audited(elsewhere)
    assert (audit.exit_code, audit.level, f"{DECISION}: the archive" in whats(audit)) == (4, "statistics", True)


def _coded(decided: Decided, rows: Any) -> Any:
    logs = [decided.wiring.pair_log(shard) for shard in range(2)]
    return without_ids(stage_table(decided.rollout, logs, since=-1, as_of=1 << 62)).take(rows)


def test_an_archive_of_another_look_or_stage_is_found(elsewhere: Path, decided: Decided):
    """The pairs may be the same; what they were sealed for is not."""
    archive = FileArchive(elsewhere / "archive")
    (path,) = (elsewhere / "archive").iterdir()
    _, of = archive.open(path.stem)
    other = archive.seal(decided.rollout, _coded(decided, np.arange(400)), replace(of, stage_index=1))
    tampered(elsewhere, lambda records: records[DECISION]["reproduction"].update(archive=other), rehash=True)
    audit = audited(elsewhere)
    assert (audit.exit_code, whats(audit)) == (4, f"{DECISION}: what the archive is of: stage_index")


def test_a_changed_config_is_found(elsewhere: Path):
    """A limit that was eased after looking: by its digest, and when that is written anew too, by what the decision names and its sums."""

    def ease(records: list[dict[str, Any]]) -> None:
        records[0]["config"]["gates"][2]["below"] = 0.9

    def ease_whole(records: list[dict[str, Any]]) -> None:
        ease(records)
        records[0]["sha256"] = config.digest(records[0]["config"])

    def ease_everywhere(records: list[dict[str, Any]]) -> None:
        ease_whole(records)
        asked_first(records)

    tampered(elsewhere, ease, rehash=True)
    assert "0: sha256 of the registered config" in whats(audited(elsewhere, level="chain"))
    tampered(elsewhere, ease_whole, rehash=True)
    assert f"{DECISION}: question.config_sha256" in whats(audited(elsewhere, level="chain"))
    tampered(elsewhere, ease_everywhere, rehash=True)
    assert audited(elsewhere, level="chain").exit_code == 0
    audit = audited(elsewhere)
    assert (audit.exit_code, whats(audit)) == (4, f"{DECISION}: evidence.sums")


def asked_first(records: list[dict[str, Any]]) -> None:
    """As if this had been the question from the start."""
    question = records[DECISION]["question"]
    question.update(config_sha256=records[0]["sha256"], registered=digest(ROOT, canonical(records[0])))


def test_a_line_that_was_moved_after_looking_is_found_by_the_archive(elsewhere: Path):
    """It stands in no sum; the archive names the config whose decisions are in it."""

    def move(records: list[dict[str, Any]]) -> None:
        records[0]["config"]["policies"]["over_18"]["at_least"]["default"] = 17
        records[0]["sha256"] = config.digest(records[0]["config"])
        asked_first(records)

    tampered(elsewhere, move, rehash=True)
    assert audited(elsewhere, level="statistics").exit_code == 0
    audit = audited(elsewhere)
    assert (audit.exit_code, whats(audit)) == (4, f"{DECISION}: what the archive is of: config_sha256")


def test_a_chain_that_was_cut_off_is_found_by_an_anchored_head(elsewhere: Path):
    """A shorter chain is a good chain; only the head that stands elsewhere tells."""
    path = elsewhere / "records.jsonl"
    links = read_lines(path)
    path.write_bytes(b"".join(map(recordsfile.line, links[:3])))
    assert audited(elsewhere).exit_code == 0
    audit = audited(elsewhere, heads=[links[-1].hash])
    assert (audit.exit_code, audit.disagreements[0].what) == (4, "the anchored head: the chain was cut off or written anew")
    path.write_bytes(b"".join(map(recordsfile.line, links)))
    audit = audited(elsewhere, heads=[links[2].hash])
    assert (audit.exit_code, audit.later) == (0, 2)


def test_a_move_that_cannot_follow_is_found(elsewhere: Path):
    """Whoever writes hashes anew may also leave out a stage."""
    tampered(elsewhere, lambda records: records[DECISION].update(stage=2), rehash=True)
    assert f"{DECISION}: the move" in whats(audited(elsewhere, level="chain"))


def test_an_absent_archive_is_no_agreement(elsewhere: Path):
    """Exit 3: nothing disagrees, but what could have been checked was not; asking for less is exit 0."""
    shutil.rmtree(elsewhere / "archive")
    audit = audited(elsewhere)
    assert (audit.exit_code, audit.level, audit.disagreements) == (3, "statistics", [])
    assert audited(elsewhere, level="statistics").exit_code == 0


@pytest.mark.parametrize("line", [b"", b"{}", b'{"hash": 1, "previous": "", "record": {}}', b'["a"]', b"\xff"])
def test_a_file_that_is_no_chain_is_refused_with_its_line(tmp_path: Path, line: bytes):
    """Wrong use, never a disagreement."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(line)
    with pytest.raises(UsageError, match="records"):
        read_lines(path)


@pytest.mark.parametrize("part", ["question", "population", "people", "authority", "reproduction"])
def test_a_record_without_a_part_disagrees_and_never_crashes(elsewhere: Path, part: str):
    """A chain is read from anybody's hand."""

    def empty(records: list[dict[str, Any]]) -> None:
        records[DECISION][part] = {}

    tampered(elsewhere, empty, rehash=True)
    assert audited(elsewhere).exit_code == 4


def test_pairs_that_expired_leave_a_record_that_says_so(decided: Decided, tmp_path: Path):
    """A rollback must not wait for an archive; the record then says why there is none."""
    class Expired:
        def __init__(self, log: Any) -> None:
            self._log = log

        def __getattr__(self, name: str) -> Any:
            return getattr(self._log, name)

        def rows(self, start: int, stop: int) -> bytes:
            if start < 100:
                raise Overrun("rows have expired")
            return self._log.rows(start, stop)

    logs = [Expired(decided.wiring.pair_log(shard)) for shard in range(2)]
    sealer = Sealer(decided.rollout, pair_logs=logs, archive=FileArchive(tmp_path), code_version="1.0")
    evident = sealer.evidence(decided.verdict, chain(decided.links)[:DECISION])
    assert evident.parts["reproduction"]["archive"] is None
    assert "expired" in evident.parts["reproduction"]["no_archive"]
    assert evident.parts["evidence"]["gates"] == decided.verdict["gates"]
    assert (evident.parts["evidence"]["sums"], list(tmp_path.iterdir())) == (None, [])


def test_a_chain_is_read_from_its_events_on_the_bus_too(decided: Decided, tmp_path: Path):
    """Who has listened to the topic NAME.records needs no file of ours."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"\n".join(event(decided.rollout.name, link, number) for number, link in enumerate(decided.links)))
    assert read_lines(path) == list(decided.links)
