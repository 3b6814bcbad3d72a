"""What the record of a decision holds, from the verdict, the pairs of its stage, the config and the chain so far. Pure.

Seven parts: question, models, population, evidence, people, authority, reproduction. What comes from the pair table alone is `facts`,
so that whoever has the archive counts it again and finds the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.figures.decisions import decision_matrix
from analysis.types import GateResult, PairTable
from harness.core.reading import microseconds
from harness.core.rollout import Line, Policy, Rollout
from harness.core.stages import Record
from harness.core.table import flips
from harness.core.verdicts import row_document

DIGITS = 1e-12  # of numbers that are the same
MOST_VALUES = 50
THE_REST = "(all others)"
NO_VALUE = "(none)"
PARTS = ("question", "models", "population", "evidence", "people", "authority", "reproduction")


# ------------------------------------------------------------------------------------------------------------- from the pair table
def facts(rollout: Rollout, table: PairTable, *, as_of: int) -> dict[str, Any]:
    """Exact counts of a stage's pair table up to a look (microseconds): how many, what is missing, what flips, and for whom; labels.

    coverage: over events old enough for labelled gates, each combination of decisions with its pairs and how many have a label.
    """
    pairs = (table["missing.incumbent"] < 0) & (table["missing.challenger"] < 0)
    segments = [segment.name for segment in rollout.events.segments]
    matures = int(rollout.outcomes.matures_s * 1e6) if rollout.outcomes else 0
    by_segment = {name: _values(table, name) for name in segments}
    return {
        "rows": len(table),
        "pairs": int(pairs.sum()),
        "units": len(np.unique(table["unit_id"])),
        "labelled": int((table["label_time"] >= 0).sum()),
        "looks": _looks(rollout, table, as_of),
        "missing": {name: {word: _missing(rollout, table.take(rows)) for word, rows in found} for name, found in by_segment.items()},
        "flips": flips(table, rollout.policies),
        "flips_by_segment": {
            name: {word: _changed(flips(table.take(rows), rollout.policies)) for word, rows in found} for name, found in by_segment.items()
        },
        "coverage": _coverage(rollout, table.take(table["arrived"] <= as_of - matures)),
    }


def _looks(rollout: Rollout, table: PairTable, as_of: int) -> int:
    """How many times the gates have been read since the stage's first event: at each step of the grid."""
    grid = int(rollout.looks_s * 1e6)
    if not len(table):
        return 0
    first = -(-int(table["arrived"].min()) // grid) * grid
    return max((as_of - first) // grid + 1, 0)


def _values(table: PairTable, segment: str) -> list[tuple[str, NDArray[np.bool_]]]:
    """(value, its rows) of a segment, the largest first; beyond the 50 largest together, as those may be any number."""
    codes, words = table[f"segment.{segment}"], table.words[f"segment.{segment}"]
    seen, counts = np.unique(codes, return_counts=True)
    named = {int(code): words[code] if code >= 0 else NO_VALUE for code in seen}
    order = sorted(zip(seen.tolist(), counts.tolist(), strict=True), key=lambda found: (-found[1], named[found[0]]))
    found = [(named[code], codes == code) for code, _ in order[:MOST_VALUES]]
    rest = [code for code, _ in order[MOST_VALUES:]]
    return [*found, *([(THE_REST, np.isin(codes, rest))] if rest else [])]


def _missing(rollout: Rollout, table: PairTable) -> dict[str, Any]:
    """Rows, and of each lane the reasons of answers that are missing."""
    words = table.words["missing"]
    counted = {lane: np.bincount(table[f"missing.{lane}"] + 1, minlength=len(words) + 1)[1:] for lane in rollout.lanes}
    return {"rows": len(table)} | {
        lane: {word: int(n) for word, n in zip(words, counts, strict=False) if n} for lane, counts in counted.items()
    }


def _changed(found: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Without the directions that nobody took."""
    return {policy: {word: n for word, n in counts.items() if n or word == "pairs"} for policy, counts in found.items()}


def _coverage(rollout: Rollout, table: PairTable) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [
            {"incumbent": cell.incumbent, "challenger": cell.challenger, "pairs": cell.pairs, "labels": cell.labelled}
            for row in decision_matrix(table, name).cells for cell in row if cell.pairs
        ]
        for name in rollout.policies if f"{name}.truth" in table.columns
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- the seven parts
@dataclass(frozen=True, slots=True, kw_only=True)
class SealedArms:
    """What was observed of a canary, sealed. found: `arms` and `exposed` of the verdict, folded again from what is sealed. archive: its
    SHA-256; None, with the reason in `no_archive`, when nothing could be sealed or is observed."""

    found: Mapping[str, Any] | None = None
    archive: str | None = None
    no_archive: str | None = "the rollout reads no exposures"


def dossier(
    rollout: Rollout, verdict: Mapping[str, Any], *, chain: Sequence[tuple[Record, str]], counted: Mapping[str, Any] | None,
    rows: Sequence[GateResult] | None, sums: Mapping[str, str] | None, archive: str | None, no_archive: str | None, code_version: str,
    differs: Sequence[str] = (), observed: SealedArms | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The seven parts, each a key of the record.

    Args:
        verdict: The object of verdict.json that is acted on.
        chain: (record, hash) of the chain before this record, oldest first.
        counted: `facts` of the sealed pairs; None when there are none any more.
        rows: The gates folded again over what is sealed, which are the numbers of the record; None: those of the verdict stand.
        sums: What the rows are computed from, by group of gates.
        archive: SHA-256 of the sealed pairs; None, with the reason in `no_archive`, when nothing could be sealed.
        differs: Gates to which what is sealed gives another result than the verdict.
        observed: What was observed of a canary; None, and those of the verdict stand, when it could not be folded again.
    """
    observed = observed or SealedArms()
    again = {(row.name, _place(row.segment)): row_document(row) for row in rows or ()}
    gates = [again.get((row["name"], _place(row["segment"])), dict(row)) for row in verdict["gates"]]
    counted, seen = counted or {}, observed.found or {}
    return {
        "question": _question(rollout, chain, gates, counted),
        "models": _models(rollout, verdict),
        "population": {
            "since": verdict.get("since"), "as_of": verdict["as_of"], "stage_index": verdict.get("stage_index", 0),
            "sample_percent": rollout.sample_percent,
            **{name: counted.get(name) for name in ("rows", "pairs", "units", "labelled", "missing")},
        },
        "evidence": {
            **verdict, **seen, "gates": gates, "sums": None if sums is None else dict(sums),
            "labels": _labels(rollout), "coverage": counted.get("coverage"),
            "differs": list(differs),
            "not_judged": sorted({row["name"] for row in gates if row["status"] == "undecided"}),
            "not_in_archive": sorted({row["name"] for row in gates if (row["name"], _place(row["segment"])) not in again}),
        },
        "people": {
            "flips": counted.get("flips", verdict["flips"]), "flips_by_segment": counted.get("flips_by_segment"),
            "exposed": seen.get("exposed", verdict.get("exposed")), "exposed_harms": verdict.get("exposed_harms"),
        },
        "authority": authority(chain),
        "reproduction": {
            "code_version": code_version, "archive": archive, "no_archive": no_archive, "observations": observed.archive,
            "no_observations": observed.no_archive,
        },
    }  # fmt: skip


def _place(segment: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((segment or {}).items()))


def _of_this_stage(chain: Sequence[tuple[Record, str]], kind: str) -> list[Record]:
    """The records of a kind since the present stage was entered, or begun anew."""
    entered = [number for number, (record, _) in enumerate(chain) if record.get("kind") in ("entered", "amended")]
    return [record for record, _ in chain[entered[-1] + 1 if entered else 0 :] if record.get("kind") == kind]


def authority(chain: Sequence[tuple[Record, str]]) -> dict[str, Any]:
    """Who registered the question, and who has approved or waived what in the present stage, from where and why."""
    return {
        "author": (chain[0][0].get("by") or {}).get("name") if chain else None,
        "approvals": [_said(record) for record in _of_this_stage(chain, "approved")],
        "waivers": [_said(record) for record in _of_this_stage(chain, "waived")],
    }


def _question(
    rollout: Rollout, chain: Sequence[tuple[Record, str]], gates: Sequence[Mapping[str, Any]], counted: Mapping[str, Any]
) -> dict[str, Any]:
    """What was asked, and when it was written down. The config stands whole in the record `registered`."""
    return {
        "config_sha256": rollout.sha256,
        "registered": chain[0][1] if chain else None,
        "registered_at": chain[0][0].get("at") if chain else None,
        "alpha": rollout.alpha,
        "gates": [gate.name for gate in rollout.gates if gate.counted],
        "amendments": [{**_said(record), "sha256": record.get("sha256")} for record, _ in chain if record.get("kind") == "amended"],
        "waivers": sorted({record["gate"] for record in _of_this_stage(chain, "waived")}),
        "dry_run": [row["name"] for row in gates if row["dry_run"] and row["segment"] is None],
        "looks": counted.get("looks"),
        "looks_s": rollout.looks_s,
    }


def _said(record: Record) -> dict[str, Any]:
    """Who said what, why and from where."""
    return {"at": record.get("at"), **(record.get("by") or {}), "reason": record.get("reason")} | {
        name: record[name] for name in ("gate", "expires", "stage") if name in record
    }


def _models(rollout: Rollout, verdict: Mapping[str, Any]) -> dict[str, Any]:
    lanes = {lane: {"of": rollout.models[lane].of, "versions": verdict["versions"].get(lane, [])} for lane in rollout.lanes}
    return {"lanes": lanes, "thresholds": {policy.name: _thresholds(policy) for policy in rollout.policies.values()}}


def _thresholds(policy: Policy) -> dict[str, Any]:
    """The lines as they were applied: of each lane and of the truth, and those of the choices."""
    found: dict[str, Any] = {"output": policy.output, "lines": {name: _line(line) for name, line in policy.lines.items()}}
    if policy.choices:
        found["decide"] = [{"decision": c.decision, "at_least": None if c.at_least is None else _line(c.at_least)} for c in policy.choices]
    return found | ({"is": list(policy.is_one_of)} if policy.is_one_of else {})


def _line(line: Line) -> dict[str, Any]:
    return {name: value for name, value in asdict(line).items() if value not in (None, {})}


def _labels(rollout: Rollout) -> dict[str, Any] | None:
    """Where labels come from, and of whom they speak."""
    if rollout.outcomes is None:
        return None
    of = "labelled events" if rollout.outcomes.propensity is None else "all events"
    return {"topic": rollout.outcomes.topic, "matures_s": rollout.outcomes.matures_s, "speak_of": of}


def unlike(seen: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The gates of which a number is not that which a person saw, to 12 digits: labels came meanwhile, or somebody was forgotten."""
    before, after = ({(row["name"], _place(row["segment"])): row for row in rows} for rows in (seen, found))
    return sorted({name for name, place in before.keys() | after if not _alike(before.get((name, place)), after.get((name, place)))})


def _alike(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> bool:
    if a is None or b is None or a.keys() != b.keys():
        return False
    numbers = [(a[name], b[name]) for name in a if isinstance(a[name], float) and isinstance(b[name], float)]
    rest = all(a[name] == b[name] for name in a if not (isinstance(a[name], float) and isinstance(b[name], float)))
    return rest and all(math.isclose(x, y, rel_tol=DIGITS, abs_tol=DIGITS) for x, y in numbers)


def compared(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that a record states, in the form of `facts`, for a comparison with those counted again."""
    population, evidence, people = recorded["population"], recorded["evidence"], recorded["people"]
    return {
        **{name: population[name] for name in ("rows", "pairs", "units", "labelled", "missing")}, "looks": recorded["question"]["looks"],
        "flips": people["flips"], "flips_by_segment": people["flips_by_segment"], "coverage": evidence["coverage"],
    }  # fmt: skip


def as_of(recorded: Mapping[str, Any]) -> int | None:
    """The look of a decision, microseconds."""
    return microseconds(recorded["population"]["as_of"])
