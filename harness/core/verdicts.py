"""Gate results to a verdict, with its reasons. Worst wins; no path ends in a default success."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis.types import Gate, GateResult, Status
from harness.core.accounting import Counts
from harness.core.reading import microseconds, timestamp
from harness.core.rollout import Rollout

PROMOTE, HOLD, ROLLBACK = "promote", "hold", "rollback"
EXIT_CODES = {PROMOTE: 0, HOLD: 3, ROLLBACK: 4}
STALE_AFTER = 60_000_000  # microseconds since the analyst last looked

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Standpoint:
    """Where in its rollout a verdict stands.

    stage: index. since: record time, microseconds, after which events count for it; None from the first event. began: arrival of its
    first row. pairs: of it, folded so far. standing: as core.stages names it. percent: of units that the challenger serves.
    attempt: 0 for the first. waived: gates.
    """

    stage: int = 0
    since: int | None = None
    began: int | None = None
    pairs: int = 0
    standing: str = "running"
    percent: float = 0.0
    attempt: int = 0
    waived: frozenset[str] = frozenset()


_START = Standpoint()


def decide(gates: Sequence[Gate], results: Mapping[str, GateResult], waived: frozenset[str] = frozenset()) -> str:
    """Follow the worst counted gate. One without a result is undecided; no counted gate is no evidence, and holds. waived: not counted."""
    counted = [gate for gate in gates if gate.counted and gate.name not in waived]
    worst = max((_status(gate, results.get(gate.name)) for gate in counted), default=Status.UNDECIDED)
    return {Status.PASS: PROMOTE, Status.UNDECIDED: HOLD, Status.FAIL: ROLLBACK}[worst]


def reasons(
    gates: Sequence[Gate], rows: Sequence[GateResult], *, labelled_wait: str | None, waived: frozenset[str] = frozenset()
) -> list[str]:
    """Gate by gate: what failed and where, what is missing and until when it may take, or that every gate passed, and what is waived.

    labelled_wait: what labelled gates wait for, in words; None when all labels that are to come have come.
    """
    said: list[str] = []
    whole = {row.name: row for row in rows if row.segment is None}
    counted = [gate for gate in gates if gate.counted]
    for gate in (gate for gate in counted if gate.name not in waived):
        row = whole.get(gate.name)
        if row is None:
            said.append(f"{gate.name}: undecided, it has no result")
        elif row.status is not Status.PASS:
            said.append(_reason(gate, row, [r for r in rows if r.name == gate.name and r.segment is not None], labelled_wait))
    if all(gate.name in waived for gate in counted):
        said.append("no counted gate: without one there is no evidence")
    aside = [f"{gate.name}: waived by people, not counted" for gate in counted if gate.name in waived]
    return [*(said or ["every counted gate passed"]), *aside]


def _reason(gate: Gate, whole: GateResult, rows: Sequence[GateResult], labelled_wait: str | None) -> str:
    worst = [r for r in rows if r.status is whole.status] or [whole]
    if whole.status is Status.FAIL:
        then = {"rollback": "", "hold": " (holds)", "report": ""}[gate.on_fail]
        row = max(worst, key=lambda r: r.log_e_fail if r.log_e_fail is not None else -math.inf)
        alarms = [r.alarmed_at for r in worst if r.alarmed_at is not None]
        numbers = f"{_number(row.estimate)} [{_number(row.lower)}, {_number(row.upper)}], limit {_line(gate)}"
        alarm = f"; its change detector alarmed at {timestamp(min(alarms))}" if alarms else ""
        return f"{gate.name}: failed{_among(worst)}{then}: {numbers}{alarm}"
    reason = whole.reason or "insufficient"
    worst = [r for r in worst if r.reason == reason] or worst
    until = labelled_wait if gate.metric.labelled and reason in ("insufficient", "no_support") else None
    if whole.labels is not None and whole.labels.pending:
        waits = f"{whole.labels.pending} of {whole.labels.requested} labels asked for have not come and count as the worst"
        until = f"{waits}, {until}" if until else waits
    n = min(r.n_units for r in worst)
    return f"{gate.name}: undecided{_among(worst)}: {_WHY[reason]} ({n} units; {until or 'it is read again at each look'})"


def _among(rows: Sequence[GateResult]) -> str:
    """The segments of these rows, in words; empty for the whole gate."""
    places = ", ".join(" ".join(f"{k}={v}" for k, v in r.segment.items()) for r in rows if r.segment)
    return f" among {places}" if places else ""


def _line(gate: Gate) -> str:
    """The limit on the side of the numbers that are held against it: worse by at most 0.03 is not under -0.03."""
    sign = {"worse_by_at_most": "-", "within": "±"}.get(gate.word, "") if gate.limit else ""
    return f"{sign}{gate.limit:g}"


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


def requests_document(rollout: Rollout, counts: Counts) -> dict[str, int] | None:
    """The accounting of requests for labels as the verdict writes it; None where the rollout records none."""
    if rollout.outcomes is None or rollout.outcomes.requested is None:
        return None
    return {"joined": counts.requests, "waiting": counts.requests_waiting, "orphaned": counts.requests_orphaned}


def _stage_document(rollout: Rollout, at: Standpoint) -> dict[str, Any]:
    """Where it stands, as the verdict writes it."""
    return {
        "stage": rollout.stages[at.stage].kind,
        "stage_index": at.stage,
        "since": None if at.since is None else timestamp(at.since),
        "began": None if at.began is None else timestamp(at.began),
        "stage_pairs": at.pairs,
        "standing": at.standing,
        "percent": at.percent,
        "attempt": at.attempt,
        "waived": sorted(at.waived),
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
    at: Standpoint = _START,
    labels_behind: int = 0,
    against: Sequence[str] = (),
    arms: Mapping[str, Any] | None = None,
    served: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The object of verdict.json.

    as_of: the last look, microseconds; None before the first. labels_behind: labels that came and that the rows do not hold yet.
    against: what else forbids to promote, in words. arms: of a canary, None elsewhere. served: `exposed` and `exposed_harms`.
    """
    gates = rollout.gates_of(at.stage)
    said = decide(gates, {row.name: row for row in rows if row.segment is None}, at.waived)
    why = reasons(gates, rows, labelled_wait=labelled_wait, waived=at.waived)
    against = [*against, *([f"{labels_behind} late labels are being folded"] if labels_behind else [])]
    against += [f"{counts.overrun} records were lost before they were read (overrun)"] if counts.overrun else []
    if against:
        said, why = (HOLD if said == PROMOTE else said), [*against, *why]
    return {
        "rollout": rollout.name,
        "verdict": said,
        "reasons": why,
        **_stage_document(rollout, at),
        "counts": counts_document(counts, read=read, unsampled=unsampled, in_flight=in_flight),
        "lanes": {lane: {"answered": 0, **dict(sorted(counts.lanes.get(lane, {}).items()))} for lane in rollout.lanes},
        "versions": {lane: sorted(counts.versions.get(lane, {})) for lane in rollout.lanes},
        "outcomes": outcomes_document(counts),
        "requests": requests_document(rollout, counts),
        "gates": [row_document(row) for row in rows],
        "arms": None if arms is None else dict(arms),
        **({"exposed": None, "exposed_harms": {}} if served is None else served),
        "flips": {policy: dict(by) for policy, by in flips.items()},
        "config_sha256": rollout.sha256,
        "code_version": code_version,
        "watermark": dict(watermark),
        "as_of": None if as_of is None else timestamp(as_of),
        "expires": None if as_of is None else timestamp(as_of + int(rollout.expires_s * 1e6)),
    }


def damaged(document: Mapping[str, Any], why: str) -> dict[str, Any]:
    """A verdict while nobody can tell where its rollout stands: it holds, and nobody is served by the challenger."""
    return {**document, "verdict": HOLD, "standing": "damaged", "percent": 0.0, "reasons": [why, *document["reasons"]]}


def staleness(looked: int, expires: object, now: int) -> list[str]:
    """Why a verdict is too old to go forward on, in words; empty when it is not.

    looked: wall time, microseconds, at which the analyst last looked. expires: as the verdict says it. now: microseconds.
    """
    old = []
    if now - looked > STALE_AFTER:
        old.append(f"stale: the analyst last looked at {timestamp(looked)}")
    if looked - now > STALE_AFTER:
        old.append(f"stale: the analyst looked at {timestamp(looked)}, which is still to come; its clock or this one is wrong")
    until = microseconds(expires)
    if until is not None and now > until:
        old.append(f"stale: the evidence expired at {expires}")
    return old
