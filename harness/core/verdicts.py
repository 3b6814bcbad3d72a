"""Gate results to a verdict, with its reasons. Worst wins; no path ends in a default success."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from analysis.types import Gate, GateResult, Status
from harness.core.accounting import Counts
from harness.core.reading import timestamp
from harness.core.rollout import Rollout

PROMOTE, HOLD, ROLLBACK = "promote", "hold", "rollback"
EXIT_CODES = {PROMOTE: 0, HOLD: 3, ROLLBACK: 4}

_WHY = {
    "insufficient": "not enough evidence yet",
    "no_support": "a combination of decisions has events but not one label",
    "stale": "the evidence is old",
    "unpaired": "no event was answered by both models",
    "compute_error": "its number could not be computed",
    "noise_too_high": "the incumbent disagrees with itself too much",
    "sample_ratio": "the sample is not what was planned",
    "changed": "the gate or a model changed",
    "overrun": "events were lost before they were read",
}


def _status(gate: Gate, result: GateResult | None) -> Status:
    """What a gate counts as: one without a result is undecided, and so is the fail of one that may only hold."""
    if result is None:
        return Status.UNDECIDED
    if result.status is Status.FAIL and gate.on_fail != "rollback":
        return Status.UNDECIDED
    return result.status


def decide(gates: Sequence[Gate], results: Mapping[str, GateResult]) -> str:
    """Follow the worst counted gate. One without a result is undecided; no counted gate is no evidence, and holds."""
    worst = max((_status(gate, results.get(gate.name)) for gate in gates if gate.counted), default=Status.UNDECIDED)
    return {Status.PASS: PROMOTE, Status.UNDECIDED: HOLD, Status.FAIL: ROLLBACK}[worst]


def reasons(gates: Sequence[Gate], rows: Sequence[GateResult], *, labelled_wait: str | None) -> list[str]:
    """In words, gate by gate: what failed and where, what is missing and until when it may take, or that every gate passed.

    labelled_wait: what labelled gates wait for, in words; None when all labels that are to come have come.
    """
    said: list[str] = []
    whole = {row.name: row for row in rows if row.segment is None}
    for gate in (gate for gate in gates if gate.counted):
        row = whole.get(gate.name)
        if row is None:
            said.append(f"{gate.name}: undecided, it has no result")
        elif row.status is not Status.PASS:
            said.append(_reason(gate, row, [r for r in rows if r.name == gate.name and r.segment is not None], labelled_wait))
    if not any(gate.counted for gate in gates):
        said.append("no counted gate: without one there is no evidence")
    return said or ["every counted gate passed"]


def _reason(gate: Gate, whole: GateResult, rows: Sequence[GateResult], labelled_wait: str | None) -> str:
    worst = [r for r in rows if r.status is whole.status] or [whole]
    if whole.status is Status.FAIL:
        then = {"rollback": "", "hold": " (holds)", "report": ""}[gate.on_fail]
        row = max(worst, key=lambda r: r.log_e_fail if r.log_e_fail is not None else -math.inf)
        alarms = [r.alarmed_at for r in worst if r.alarmed_at is not None]
        numbers = f"{_number(row.estimate)} [{_number(row.lower)}, {_number(row.upper)}], limit {row.limit:g}"
        alarm = f"; its change detector alarmed at {timestamp(min(alarms))}" if alarms else ""
        return f"{gate.name}: failed{_among(worst)}{then}: {numbers}{alarm}"
    reason = whole.reason or "insufficient"
    worst = [r for r in worst if r.reason == reason] or worst
    until = labelled_wait if gate.metric.labelled and reason in ("insufficient", "no_support") else None
    n = min(r.n_units for r in worst)
    return f"{gate.name}: undecided{_among(worst)}: {_WHY[reason]} ({n} units; {until or 'it is read again at each look'})"


def _among(rows: Sequence[GateResult]) -> str:
    """The segments of these rows, in words; empty for the whole gate."""
    places = ", ".join(" ".join(f"{k}={v}" for k, v in r.segment.items()) for r in rows if r.segment)
    return f" among {places}" if places else ""


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.4g}"


def row_document(row: GateResult) -> dict[str, Any]:
    """A gate's row as the verdict writes it."""
    document = asdict(row)
    document["segment"] = dict(row.segment) if row.segment is not None else None
    document["status"] = row.status.name.lower()
    document["alarm"] = row.alarm
    document["alarmed_at"] = None if row.alarmed_at is None else timestamp(row.alarmed_at)
    return document


def counts_document(counts: Counts, *, read: int, unsampled: int, in_flight: int) -> dict[str, Any]:
    """The accounting of events as the verdict writes it."""
    return {
        "read": read,
        "duplicates": counts.duplicates,
        "unsampled": unsampled,
        "mirrored": counts.mirrored,
        "paired": counts.paired,
        "missing": {lane: dict(sorted(by.items())) for lane, by in sorted(counts.missing.items())},
        "shed": counts.shed,
        "invalid": counts.invalid,
        "in_flight": in_flight,
    }


def outcomes_document(counts: Counts) -> dict[str, int]:
    """The accounting of outcomes as the verdict writes it."""
    return {
        "joined": counts.joined,
        "waiting": counts.waiting,
        "orphaned": counts.orphaned,
        "revised": counts.revised,
        "invalid": counts.invalid_outcomes,
    }


def verdict_document(
    rollout: Rollout,
    *,
    rows: Sequence[GateResult],
    counts: Counts,
    read: int,
    unsampled: int,
    in_flight: int,
    flips: Mapping[str, Mapping[str, int]],
    watermark: Mapping[str, Any],
    as_of: int | None,
    labelled_wait: str | None,
    code_version: str,
    stage: int = 0,
    labels_behind: int = 0,
) -> dict[str, Any]:
    """The object of verdict.json.

    as_of: the last look, microseconds; None before the first. labels_behind: labels that came and that the rows do not hold yet.
    """
    said = decide(rollout.gates, {row.name: row for row in rows if row.segment is None})
    why = reasons(rollout.gates, rows, labelled_wait=labelled_wait)
    against = [f"{labels_behind} late labels are being folded"] if labels_behind else []
    against += [f"{counts.overrun} records were lost before they were read (overrun)"] if counts.overrun else []
    if against:
        said, why = (HOLD if said == PROMOTE else said), [*against, *why]
    return {
        "rollout": rollout.name,
        "verdict": said,
        "reasons": why,
        "stage": rollout.stages[stage].kind,
        "counts": counts_document(counts, read=read, unsampled=unsampled, in_flight=in_flight),
        "lanes": {lane: {"answered": 0, **dict(sorted(counts.lanes.get(lane, {}).items()))} for lane in rollout.lanes},
        "versions": {lane: sorted(counts.versions.get(lane, {})) for lane in rollout.lanes},
        "outcomes": outcomes_document(counts),
        "gates": [row_document(row) for row in rows],
        "flips": {policy: dict(by) for policy, by in flips.items()},
        "config_sha256": rollout.sha256,
        "code_version": code_version,
        "watermark": dict(watermark),
        "as_of": None if as_of is None else timestamp(as_of),
        "expires": None if as_of is None else timestamp(as_of + int(rollout.expires_s * 1e6)),
    }
