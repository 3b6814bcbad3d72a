"""Explain: what is known of one event, from its stored pair and the chain.

Ids are kept as keyed hashes: whoever asks names the plain id, which is hashed again with the same secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.types import Column, PairTable
from harness.commands.audit import readable
from harness.core.held import Known
from harness.core.policies import thresholds
from harness.core.reading import microseconds, timestamp
from harness.core.rollout import Policy, Rollout
from harness.core.routing import KEY_BYTES, Hasher, shard_of
from harness.core.stages import Record
from harness.core.table import TableBuilder
from harness.ports.journal import Journal
from harness.ports.pairlog import PairLog
from harness.ports.plainids import PlainIds

FOUND, IN_FLIGHT, EXPIRED, LABEL_ONLY, UNSAMPLED, UNKNOWN = "found", "in_flight", "expired", "label_only", "unsampled", "unknown"


def explain(
    rollout: Rollout, event_id: str, *, hasher: Hasher, pair_logs: Sequence[PairLog], plain_ids: Sequence[PlainIds], journal: Journal,
    unit: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What is known of an event: `status` (found, in_flight, expired, label_only, unsampled, unknown), `says` in words, and a fact sheet
    for each event of this id (several sources may use one).

    unit: whose event it is, if the caller knows: only so it can be told whether it was sampled.
    """
    id = hasher.event_id(event_id)
    shard = shard_of(id + bytes(KEY_BYTES - len(id)), len(pair_logs))
    log, ids = pair_logs[shard], plain_ids[shard]
    known = log.find([id]).get(id, Known())
    resolved = log.snapshot().head.resolved
    found = [
        {**_event(rollout, ordinal, log, journal), "plain_id": ids.between(ordinal, ordinal + 1).get(id + source)}
        for source, ordinal in known.events
        if ordinal in known.rows
    ]
    status = FOUND if found else _without_row(rollout, known, resolved, hasher, unit)
    return {"rollout": rollout.name, "status": status, "says": _says(rollout, status), "config_sha256": rollout.sha256, "events": found}


def _without_row(rollout: Rollout, known: Known, resolved: int, hasher: Hasher, unit: str | None) -> str:
    if any(ordinal >= resolved for _, ordinal in known.events):
        return IN_FLIGHT
    if known.events:
        return EXPIRED
    if known.early:
        return LABEL_ONLY
    return UNSAMPLED if unit is not None and not hasher.sampled(unit, rollout.sample_percent) else UNKNOWN


def _says(rollout: Rollout, status: str) -> str:
    keep, percent = f"{rollout.keep.pairs_s / 86_400:g} days", f"{rollout.sample_percent:g} %"
    unsampled = "" if rollout.sample_percent >= 100.0 else f", its unit is not in the sample of {percent} (name it with --unit to be told)"
    return {
        FOUND: "its pair is stored",
        IN_FLIGHT: "it was read, and waits for the answers of its models or of those before it",
        EXPIRED: f"it was read; its pair has expired (keep.pairs is {keep})",
        LABEL_ONLY: "a label, or a request for one, came for it, and no event yet",
        UNSAMPLED: f"its unit is not in the sample of {percent}: nothing was asked and nothing is kept",
        UNKNOWN: f"nothing is kept of this id: it never came{unsampled}, its unit was forgotten, it expired (keep.pairs is {keep}), "
        "or SHADOW_SECRET is not that of the rollout",
    }[status]


def _event(rollout: Rollout, ordinal: int, log: PairLog, journal: Journal) -> dict[str, Any]:
    """The facts of one stored row."""
    builder = TableBuilder(rollout)
    table = builder.build([(builder.layout.records(log.rows(ordinal, ordinal + 1)), log.words())])
    versions = log.snapshot().head.counts.versions
    arrived = int(table["arrived"][0])
    return {
        "arrived": timestamp(arrived),
        "segments": {segment.name: _value(table, segment.name) for segment in rollout.events.segments},
        "lanes": {lane: _lane(rollout, table, lane, sorted(versions.get(lane, {}))) for lane in rollout.lanes},
        "policies": {policy.name: _policy(rollout, table, policy) for policy in rollout.policies.values()},
        "truth": {name: _number(table, f"truth.{name}") for name in rollout.truths},
        "label_time": timestamp(int(table["label_time"][0])) if table["label_time"][0] >= 0 else None,
        "propensity": _number(table, "propensity"),
        "stage": _stage_at(rollout, arrived, readable(journal.read())[0]),
    }


def _lane(rollout: Rollout, table: PairTable, lane: str, versions: Sequence[str]) -> dict[str, Any]:
    """One model's answer. versions: those its answers named in this shard; a row does not hold which was whose."""
    outputs: dict[str, Any] = {}
    for output in rollout.outputs.values():
        if output.type == "scores":
            outputs[output.name] = {label: _number(table, f"{output.name}.{label}.{lane}") for label in output.labels}
        elif output.type == "label":
            outputs[output.name] = _word(table, f"{output.name}.{lane}", output.name)
        else:
            outputs[output.name] = _number(table, f"{output.name}.{lane}")
    return {
        "missing": _word(table, f"missing.{lane}", "missing"), "latency_ms": _number(table, f"latency_ms.{lane}"), "outputs": outputs,
        "versions": list(versions),
    }  # fmt: skip


def _policy(rollout: Rollout, table: PairTable, policy: Policy) -> dict[str, Any]:
    """What a policy said of each lane, and the thresholds that it compared with, for the segment of this event."""

    def segment(name: str) -> tuple[Column, tuple[str, ...]]:
        return table[f"segment.{name}"], table.words[f"segment.{name}"]

    found: dict[str, Any] = {"output": policy.output, "decisions": {}, "thresholds": {}}
    for lane in rollout.lanes:
        found["decisions"][lane] = _word(table, f"{policy.name}.{lane}", policy.name)
        line = policy.lines.get(lane)
        if policy.choices:
            lines = [(choice.decision, choice.at_least) for choice in policy.choices if choice.at_least is not None]
            found["thresholds"][lane] = {word: float(thresholds(each, 1, segment)[0]) for word, each in lines}
        elif not policy.is_one_of and line is not None:
            found["thresholds"][lane] = float(thresholds(line, 1, segment)[0])
    by = {line.by for line in policy.lines.values() if line.by is not None}
    return found | ({"by": {name: _value(table, name) for name in sorted(by)}} if by else {})


def _value(table: PairTable, segment: str) -> str | None:
    return _word(table, f"segment.{segment}", f"segment.{segment}")


def _word(table: PairTable, column: str, words: str) -> str | None:
    code = int(table[column][0])
    return None if code < 0 else table.words[words][code]


def _number(table: PairTable, column: str) -> float | None:
    value = float(table[column][0])
    return None if np.isnan(value) else value


def _stage_at(rollout: Rollout, arrived: int, chain: Sequence[tuple[Record, str]]) -> dict[str, Any]:
    """In which stage the rollout was when an event arrived, the challenger's percent then, and the record that began it."""
    number, record = 0, chain[0] if chain else ({}, None)
    for one in chain:
        since = microseconds(one[0].get("since") or one[0].get("as_of"))
        if since is not None and arrived > since and one[0].get("kind") in ("entered", "amended", "promoted", "rolled_back", "expired"):
            number, record = 0 if one[0]["kind"] == "amended" else int(one[0].get("stage", number)), one
    kind = record[0].get("kind")
    stage = rollout.stages[number] if number < len(rollout.stages) else None
    served = {"shadow": 0.0, "promote": 100.0}.get(stage.kind, stage.percent) if stage is not None else 0.0
    percent = {"promoted": 100.0, "rolled_back": 0.0, "expired": 0.0}.get(str(kind), served)
    return {
        "index": number, "kind": stage.kind if stage is not None else None, "percent": percent, "record": record[1],
        "arm": "incumbent" if percent == 0.0 else "challenger" if percent == 100.0 else "as production reported its exposure",
    }  # fmt: skip


def lines(found: Mapping[str, Any]) -> list[str]:
    """An explanation in words, a line each."""
    said = [f"{found['rollout']}: {found['says']}"]
    for event in found["events"]:
        stage = event["stage"]
        where = ", ".join(f"{name} {value}" for name, value in event["segments"].items() if value is not None)
        said.append(f"arrived {event['arrived']}, {where or 'no segments'}")
        said.append(f"stage {stage['index']}, {stage['kind']}, challenger serves {stage['percent']:g} %: arm {stage['arm']}")
        for lane, answer in event["lanes"].items():
            versions = f", versions {', '.join(answer['versions'])}" if answer["versions"] else ""
            outputs = ", ".join(f"{name} {value}" for name, value in answer["outputs"].items())
            said.append(f"{lane}: {'no answer, ' + answer['missing'] if answer['missing'] else outputs}{versions}")
        for name, policy in event["policies"].items():
            by = "".join(f" for {segment} {value}" for segment, value in policy.get("by", {}).items())
            for lane, decision in policy["decisions"].items():
                line = policy["thresholds"].get(lane)
                against = f", line {line}{by}" if line is not None else ""
                said.append(f"{name}, {lane}: {decision if decision is not None else 'no decision'}{against}")
        if event["plain_id"] is not None:
            said.append("its plain id is kept beside its pair (keep.ids)")
        known = {name: value for name, value in event["truth"].items() if value is not None}
        if event["label_time"] is not None:
            said.append(f"label of {event['label_time']}: {', '.join(f'{name} {value}' for name, value in known.items()) or 'no truth'}")
        elif event["propensity"] is not None:
            said.append(f"a label was asked for, drawn with chance {event['propensity']:g}, and has not come")
    said.append(f"config {found['config_sha256']}")
    return said
