"""A canary's arms and the people whom the challenger served, in words: of a verdict, a status, or a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.core.rollout import Rollout
from harness.pages.numbers import count
from harness.pages.words import humanised


def arms_lines(rollout: Rollout, verdict: Mapping[str, Any]) -> list[str]:
    """The arms, whom the challenger served, and how near the stage is to a count that ends it; nothing without exposures."""
    found, arms = [], verdict.get("arms")
    if arms:
        split = f"not as configured since {arms['split_fired_at']}" if arms["split_fired_at"] else "as configured"
        found.append(
            f"arms as of {arms['as_of']}: {count(arms['units'])} units, {count(arms['crossed'])} of them seen in both; "
            f"the split is {split}; {count(arms['strays'])} measurements of units that nobody exposed"
        )
    found += exposed_lines(verdict)
    stage = verdict.get("stage_index")
    most = rollout.stages[stage].stop_after if isinstance(stage, int) and stage < len(rollout.stages) else {}
    for harm, n in (verdict.get("exposed_harms") or {}).items():
        ends = f", {most[harm]:,} end the stage" if harm in most else ""
        found.append(f"{humanised(harm)}: {count(n)} among people whom the challenger served{ends}")
    return found


def exposed_lines(found: Mapping[str, Any]) -> list[str]:
    """How many units the challenger served, by stage; nothing where nobody says."""
    exposed = found.get("exposed")
    if not isinstance(exposed, Mapping):
        return []
    last = max((part["attempt"] for part in exposed["stages"]), default=0)
    parts = [
        f"{count(part['units'])} in stage {part['stage_index']} at {part['percent']:g} %"
        + (f" of attempt {part['attempt']}" if last else "")
        for part in exposed["stages"]
    ]  # fmt: skip
    by = f": {', '.join(parts)}" if parts else ""
    return [f"served by the challenger: {count(exposed['units'])} units{by}"]
