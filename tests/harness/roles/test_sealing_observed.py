"""What was observed of a canary is sealed: the gates on its arms and the people served are computed again, and every tampering is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.adapters.archive import FileArchive
from harness.commands.audit import Audit, verify
from harness.commands.recompute import AS_RECORDED
from harness.core.observations import Observation
from harness.core.reading import timestamp
from harness.core.records import CONTROLLER, body, canonical, digest
from harness.ports.journal import ROOT, Link
from harness.ports.observations import Observed
from harness.roles.sealing import Sealer
from harness.testing.doubles import MemoryJournal

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000
CONFIG: dict[str, Any] = {
    "events": {"topic": "small.events", "unit": "subject", "segments": {"region": {"field": "/region", "values": ["SE", "ES"]}}},
    "exposures": {"topic": "small.exposures", "unit": "subject", "arm": "/arm", "percent": "/percent", "segments": {"region": "/where"}},
    "online": {
        "complaints": {"topic": "small.complaints", "unit": "subject", "type": "binary", "window": "30m", "better": "lower"},
        "unread": {"topic": "small.unread", "unit": "subject", "type": "count", "window": "1h", "better": "lower"},
    },
    "gates": [
        {"name": "flips", "metric": {"flip": "adult"}, "below": 0.9},
        {"name": "no more complaints", "metric": {"online": "complaints"}, "worse_by_at_most": 0.1},
        {"name": "split", "metric": {"sample_ratio": "exposures"}, "within": 0.1, "on_fail": "hold"},
        {"name": "nowhere more complaints", "metric": {"online": "complaints"}, "worse_by_at_most": 0.2, "each": ["region"]},
        {"name": "complaints, later", "metric": {"online": "complaints"}, "worse_by_at_most": 0.1, "method": "asymptotic",
         "decide_at": 2_000, "burn_in": 200},
    ],
    "stages": [{"shadow": {}}, {"canary": {"percent": 50}}, {"promote": {"bake": "2h"}}],
}
LAST = -1
ONLINE = ("complaints, later", "no more complaints", "nowhere more complaints", "split")


def observed(one: Any, n: int = 4_000) -> None:
    """People of both arms over the hours 2 to 12, the canary from 4 on, in two partitions whose times often agree; some come again."""
    rng = np.random.default_rng(5)
    units = rng.integers(1, 2**63, n).astype(np.uint64)
    at = START + 2 * HOUR + np.sort(rng.integers(0, 10 * 3_600, n)) * SECOND
    arm, complains = (rng.random(n) < 0.5).astype(float), rng.random(n) < 0.2
    rows: dict[str, list[Observation]] = {"exposures/0": [], "exposures/1": [], "complaints/0": [], "unread/0": []}
    for k in range(n):
        source = f"exposures/{k % 2}"
        rows[source].append(Observation(b"x%013d" % k, int(units[k]), int(at[k]), arm[k], 50.0, k % 3))
        if k % 7 == 0:
            rows[source].append(Observation(b"y%013d" % k, int(units[k]), int(at[k]) + 600 * SECOND, arm[k - k % 2], np.nan))
        if complains[k]:
            rows["complaints/0"].append(Observation(b"c%013d" % k, int(units[k]), int(at[k]) + 60 * SECOND, 1.0, 1.0))
    for source, its in rows.items():
        its.sort(key=lambda row: row.arrived)
        one.observations.append(source, its, Observed(position=len(its), arrived=START + 13 * HOUR), after=Observed())


@pytest.fixture
def canary(crew: Callable[..., Any]) -> Any:
    """A rollout in its canary, with a verdict on it."""
    one = crew(**CONFIG)
    one.journal = MemoryJournal()
    one.say("registered", "author", config=dict(one.rollout.document), sha256=one.rollout.sha256)
    one.topology = replace(one.topology, observed={**one.topology.observed, "exposures/1": one.topology.observed["exposures/0"]})
    one.silent = {"controller"}
    one.clock.move_to(START + 100 * HOUR)
    one.send("events", [one.event(f"e{n}", n * 600 * SECOND + 1) for n in range(72)])
    one.send("events", [one.mark(13 * HOUR)])
    observed(one)
    one.say("entered", "controller", stage=1, since=timestamp(START + 4 * HOUR), percent=50.0)
    return one


@pytest.fixture
def decided(canary: Any, tmp_path: Path) -> tuple[list[Link], FileArchive]:
    """The chain of a rollout that was rolled back in its canary, and its archives."""
    archive = FileArchive(tmp_path)
    sealer = Sealer(canary.rollout, pair_logs=canary.logs, archive=archive, code_version="1", observations=canary.observations)
    links = canary.journal.read()
    verdict = canary.verdict()
    evident = sealer.evidence(verdict, [(json.loads(link.body), link.hash) for link in links])
    assert evident.agrees, evident.differs
    record = body("rolled_back", rollout="small", at=1, by=CONTROLLER, reason="it hurts", stage=1, **evident.parts)
    canary.journal.append(record, after=links[-1].hash)
    return list(canary.journal.read()), archive


def anew(links: list[Link], change: Callable[[dict[str, Any]], Any], which: int = LAST) -> list[Link]:
    """The chain with one record changed, and every hash written anew."""
    records = [json.loads(link.body) for link in links]
    change(records[which])
    found, before = [], ROOT
    for record in records:
        found.append(Link(hash=digest(before, canonical(record)), previous=before, body=canonical(record)))
        before = found[-1].hash
    return found


def whats(audit: Audit) -> str:
    return "\n".join(d.what for d in audit.disagreements)


def last(links: list[Link]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(links[-1].body)
    return found


def test_the_arms_and_the_people_served_are_computed_again_from_the_archive_alone(canary: Any, decided: tuple[list[Link], FileArchive]):
    """To the last digit what the analyst published, though nobody's hash is in the archive and units come in the same microsecond."""
    links, archive = decided
    record, verdict = last(links), canary.verdict()
    assert record["evidence"]["gates"] == verdict["gates"]
    assert (record["evidence"]["arms"], record["people"]["exposed"]) == (verdict["arms"], verdict["exposed"])
    by_name = {row["name"]: row for row in verdict["gates"]}
    assert by_name["no more complaints"]["n_units"] > 2_000
    assert by_name["split"]["status"] == "pass"
    assert [part["units"] > 300 for part in verdict["exposed"]["stages"]] == [True, True]
    audit = verify(links, archive)
    assert (audit.disagreements, audit.level, audit.exit_code) == ([], "pairs", 0)
    assert audit.decisions[0].why is None
    assert record["evidence"]["not_in_archive"] == []


def test_no_hash_of_anybody_is_in_the_archive_and_nothing_that_no_gate_read(
    canary: Any, decided: tuple[list[Link], FileArchive], tmp_path: Path
):
    """A sealed file cannot be taken back, so it holds numbers in place of units; of the stage before, one row a person served."""
    sha256 = last(decided[0])["reproduction"]["observations"]
    rows = pq.read_table(tmp_path / f"{sha256}.parquet").to_pydict()
    assert list(rows)[:5] == ["source", "unit", "arrived", "value", "of"]
    known = {int(unit) for source in canary.observations.sources() for unit in canary.observations.rows(source, 0)[0]["unit"]}
    assert known.isdisjoint(rows["unit"])
    assert set(rows["unit"]) == set(range(max(rows["unit"]) + 1))
    assert rows["of"].count(None) > 0
    since = START + 4 * HOUR
    assert all(
        value == 1.0
        for at, value, source in zip(rows["arrived"], rows["value"], rows["source"], strict=True)
        if source.startswith("exposures") and at.timestamp() * 1e6 <= since
    )


def estimate(record: dict[str, Any]) -> None:
    record["evidence"]["gates"][1]["estimate"] += 1e-6


def ratio(record: dict[str, Any]) -> None:
    record["evidence"]["gates"][2]["upper"] -= 1e-6


def split(record: dict[str, Any]) -> None:
    record["evidence"]["arms"]["split_fired_at"] = record["evidence"]["arms"]["as_of"]


def people(record: dict[str, Any]) -> None:
    record["people"]["exposed"]["units"] -= 1


def a_stage(record: dict[str, Any]) -> None:
    record["evidence"]["exposed"]["stages"][0]["units"] += 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (estimate, "gate no more complaints, from the sealed observations: estimate"),
        (ratio, "gate split, from the sealed observations: upper"),
        (split, "facts, from the sealed observations: arms.split_fired_at"),
        (people, "facts, from the sealed observations: people.exposed.units"),
        (a_stage, "facts, from the sealed observations: exposed.stages[0].units"),
    ],
)
def test_an_edited_number_is_found_though_all_hashes_were_written_anew(decided: tuple[list[Link], FileArchive], change: Any, what: str):
    """The sealed observations still give the old one."""
    links, archive = decided
    audit = verify(anew(links, change), archive)
    assert (audit.exit_code, whats(audit)) == (4, what)
    assert audit.decisions[0].level == "pairs"


def test_an_edited_or_dropped_or_swapped_archive_is_found(decided: tuple[list[Link], FileArchive], tmp_path: Path):
    """By its bytes; by its absence, which is no agreement; under its own name by its numbers, or by what it says of itself."""
    links, archive = decided
    proof = last(links)["reproduction"]
    rows, of = archive.open_observations(proof["observations"])
    fewer = {**rows, "complaints/0": rows["complaints/0"][:-1]}

    def named(sha256: str) -> Audit:
        return verify(anew(links, lambda record: record["reproduction"].update(observations=sha256)), archive)

    audit = named(archive.seal_observations(fewer, of))
    assert audit.exit_code == 4
    assert "gate no more complaints, from the sealed observations" in whats(audit)
    assert "people.exposed.units" in whats(named(archive.seal_observations({**rows, "exposures/1": rows["exposures/1"][9:]}, of)))
    audit = named(archive.seal_observations(rows, replace(of, stage_index=0)))
    assert (audit.exit_code, whats(audit)) == (4, "what the archive of observations is of: stage_index")
    audit = named(proof["archive"])
    assert (audit.exit_code, "expected observations: source" in audit.disagreements[0].found) == (4, True)
    path = tmp_path / f"{proof['observations']}.parquet"
    kept = path.read_bytes()
    shutil.copy(tmp_path / f"{archive.seal_observations(fewer, of)}.parquet", path)
    audit = verify(links, archive)
    assert (audit.exit_code, audit.level, whats(audit)) == (4, "statistics", "the archive of observations")
    path.unlink()
    audit = verify(links, archive)
    assert (audit.exit_code, audit.level) == (3, "statistics")
    path.write_bytes(kept)
    assert verify(links, archive).exit_code == 0


def test_a_record_that_lost_the_name_of_its_archive_is_found_and_one_of_an_older_release_keeps_its_level(
    decided: tuple[list[Link], FileArchive],
):
    """Older releases sealed no observations and said so in `not_in_archive`; their records agree as far as they did, and it is told."""
    links, archive = decided

    def lost(record: dict[str, Any]) -> None:
        del record["reproduction"]["observations"], record["reproduction"]["no_observations"]

    def older(record: dict[str, Any]) -> None:
        lost(record)
        record["evidence"]["not_in_archive"] = list(ONLINE)

    audit = verify(anew(links, lost), archive)
    assert (audit.exit_code, whats(audit)) == (4, "reproduction.observations")
    audit = verify(anew(links, older), archive)
    assert (audit.exit_code, audit.level, audit.decisions[0].why) == (0, "pairs", AS_RECORDED)
    audit = verify(anew(links, lambda record: record["reproduction"].update(observations=None, no_observations="no room")), archive)
    assert (audit.exit_code, audit.level, audit.decisions[0].why) == (0, "statistics", "no room")


def test_an_old_form_behind_a_record_that_names_its_archive_is_found(decided: tuple[list[Link], FileArchive]):
    """A release that seals observations does not stop doing so: `older` in the second decision of a chain is somebody's hand."""
    links, archive = decided
    records = [json.loads(link.body) for link in links]
    second = json.loads(canonical(records[-1]))
    second["evidence"]["not_in_archive"] = list(ONLINE)
    del second["reproduction"]["observations"], second["reproduction"]["no_observations"]
    first = {**records[-1], "kind": "expired"}
    found, before = [], ROOT
    for record in (*records[:-1], first, second):
        found.append(Link(hash=digest(before, canonical(record)), previous=before, body=canonical(record)))
        before = found[-1].hash
    assert "reproduction.observations" in whats(verify(found, archive))


def test_what_cannot_be_folded_again_stops_no_rollback_and_every_move_forward(canary: Any, tmp_path: Path):
    """The record keeps what the analyst published, and says why nothing of it was sealed."""
    verdict, links = canary.verdict(), canary.journal.read()
    chain = [(json.loads(link.body), link.hash) for link in links]
    broken = Sealer(canary.rollout, pair_logs=canary.logs, archive=FileArchive(tmp_path), code_version="1", observations=object())  # type: ignore[arg-type]
    evident = broken.evidence(verdict, chain)
    assert evident.differs == ("what was observed could not be folded again (AttributeError)",)
    assert evident.parts["evidence"]["gates"] == verdict["gates"]
    assert evident.parts["reproduction"]["archive"] is not None
    assert evident.parts["evidence"]["not_in_archive"] == list(ONLINE)
    away = Sealer(canary.rollout, pair_logs=canary.logs, archive=None, code_version="1", observations=canary.observations)
    evident = away.evidence(verdict, chain)
    assert (evident.agrees, evident.parts["reproduction"]["no_observations"]) == (True, "no folder for archives was named")


def test_a_unit_that_was_forgotten_after_the_look_is_not_sealed(canary: Any, tmp_path: Path):
    """The numbers of the record are those of what is sealed, not of rows that are gone."""
    verdict, links = canary.verdict(), canary.journal.read()
    chain = [(json.loads(link.body), link.hash) for link in links]
    rows, _ = canary.observations.rows("exposures/0", 0)
    unit = int(rows["unit"][(rows["value"] == 1.0) & (rows["arrived"] > START + 5 * HOUR)][0])
    assert canary.observations.forget(unit) > 0
    archive = FileArchive(tmp_path)
    sealer = Sealer(canary.rollout, pair_logs=canary.logs, archive=archive, code_version="1", observations=canary.observations)
    parts = sealer.evidence(verdict, chain).parts
    assert parts["people"]["exposed"]["units"] == verdict["exposed"]["units"] - 1
    record = body("rolled_back", rollout="small", at=1, by=CONTROLLER, reason="it hurts", stage=1, **parts)
    canary.journal.append(record, after=links[-1].hash)
    assert verify(canary.journal.read(), archive).exit_code == 0


def test_a_rollout_without_exposures_names_no_archive_of_them(crew: Callable[..., Any], tmp_path: Path):
    """There is nothing to seal, and the audit asks for nothing."""
    one = crew()
    one.clock.move_to(START + 100 * HOUR)
    one.send("events", [one.event(f"e{n}", n * SECOND + 1) for n in range(5)])
    one.send("events", [one.mark(2 * HOUR)])
    verdict = one.verdict()
    chain = [(json.loads(link.body), link.hash) for link in one.journal.read()]
    sealer = Sealer(one.rollout, pair_logs=one.logs, archive=FileArchive(tmp_path), code_version="1", observations=one.observations)
    proof = sealer.evidence(verdict, chain).parts["reproduction"]
    assert (proof["observations"], proof["no_observations"]) == (None, "the rollout reads no exposures")
    assert len(list(tmp_path.iterdir())) == 1
