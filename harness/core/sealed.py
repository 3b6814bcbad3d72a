"""What is sealed with a decision: the pair table of its stage and what was observed of a canary, as they were known, without anybody's id.

An archive cannot be changed without another hash, so it holds nothing that would have to be taken out of it: units are numbered in the
order in which they first came, and events in their order. The numbers of every gate stay the same, because a unit only has to be told
from the others. The numbers of one archive are not those of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def numbered(rows: Mapping[str, NDArray[Any]], *, exposed: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[Any]]:
    """Rows of observations by source with units numbered instead of hashed, 0, 1, ...

    Two arms are folded in the order of first exposures, and of units exposed in the same microsecond in that of their hashes: the numbers
    have that order, so the fold gives the same to the last bit. Whoever was not exposed follows, by first sight.

    Args:
        rows: Each with the fields `unit` and `arrived`, microseconds.
        exposed: Of a source, which of its rows are exposures of the stage.
    """
    if not rows:
        return {}
    unit, arrived = (np.concatenate([each[name] for each in rows.values()]) for name in ("unit", "arrived"))
    counts = np.concatenate([exposed.get(source, np.zeros(len(each), np.bool_)) for source, each in rows.items()])
    units, place = np.unique(unit, return_inverse=True)
    place = place.reshape(-1)
    first, seen = (np.full(len(units), np.iinfo(np.int64).max) for _ in range(2))
    np.minimum.at(first, place[counts], arrived[counts])
    np.minimum.at(seen, place, arrived)
    seen[first < np.iinfo(np.int64).max] = 0
    number = np.empty(len(units), np.uint64)
    number[np.lexsort((units, seen, first))] = np.arange(len(units), dtype=np.uint64)
    found = {}
    for source, each in rows.items():
        found[source] = each.copy()
        found[source]["unit"] = number[np.searchsorted(units, each["unit"])]
    return found


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
