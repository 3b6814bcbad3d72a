"""What is sealed with a decision: the pair table of its stage as it was known, without anybody's id.

An archive cannot be changed without another hash, so it holds nothing that would have to be taken out of it: units are numbered in the
order in which they first came, and events in their order. The numbers of every gate stay the same, because a unit only has to be told
from the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.types import Column, PairTable
from harness.core.rollout import TRUE_FALSE, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What an archive says of itself.

    as_of: the look (RFC 3339): later rows are not in it. stage_index, since: the stage, and the record time after which its events
    came; None from the first event.
    """

    rollout: str
    config_sha256: str
    as_of: str
    stage_index: int = 0
    since: str | None = None


def without_ids(table: PairTable) -> PairTable:
    """The table with events and units numbered instead of hashed: `event_id` 0, 1, ... in order, `unit_id` in order of first sight."""
    _, first, inverse = np.unique(table["unit_id"], return_index=True, return_inverse=True)
    place = np.empty(len(first), np.uint64)
    place[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.uint64)
    columns: dict[str, Column] = dict(table.columns)
    columns["unit_id"] = place[inverse.reshape(-1)] if len(table) else np.empty(0, np.uint64)
    columns["event_id"] = np.array([number.to_bytes(8, "big") for number in range(len(table))], dtype="V8")
    return PairTable(columns, table.words)


def of_stage(table: PairTable, *, since: int, as_of: int) -> PairTable:
    """The rows of a stage up to a look: since < arrived <= as_of, microseconds; since is -1 from the first event."""
    arrived = table["arrived"]
    return table.take((arrived > since) & (arrived <= as_of))


def coded_columns(rollout: Rollout, table: PairTable) -> dict[str, tuple[str, ...]]:
    """Coded column -> its words."""
    found = {name: words for name, words in table.words.items() if name.startswith("segment.")}
    lanes = (*rollout.lanes, "truth")
    found |= {f"{policy}.{lane}": table.words[policy] for policy in rollout.policies for lane in lanes}
    found |= {f"{policy}.truth": TRUE_FALSE for policy in rollout.policies}
    found |= {f"missing.{lane}": table.words["missing"] for lane in rollout.lanes}
    labels = [output.name for output in rollout.outputs.values() if output.type == "label"]
    return found | {f"{name}.{lane}": table.words[name] for name in labels for lane in rollout.lanes}


def facts(of: Sealed) -> dict[str, str]:
    """The metadata of an archive as text, without what is not known."""
    known = {"rollout": of.rollout, "config_sha256": of.config_sha256, "as_of": of.as_of, "stage_index": str(of.stage_index)}
    return known | ({} if of.since is None else {"since": of.since})


def from_facts(known: Mapping[str, str]) -> Sealed | None:
    """The inverse of `facts`; None when something is missing or no number."""
    try:
        return Sealed(
            rollout=known["rollout"], config_sha256=known["config_sha256"], as_of=known["as_of"], stage_index=int(known["stage_index"]),
            since=known.get("since"),
        )  # fmt: skip
    except (KeyError, ValueError):
        return None
