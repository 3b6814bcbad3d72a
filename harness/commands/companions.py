"""What stands beside the rows of an analysis for people who check it with their own tools: fixed-sample numbers, one look, descriptive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from analysis.figures.companions import row_companions
from analysis.fixed import Companion
from analysis.types import PairTable
from harness.core.rollout import Rollout
from harness.pages.companions import folded
from harness.pages.equality import document as answer_document
from harness.pages.equality import equalities


def with_companions(rollout: Rollout, found: Mapping[str, Any], table: PairTable, *, look: int | None) -> dict[str, Any]:
    """The document of `analyze` with a `companion` in each row of `gates`, and the answers of `equality`; what stands there stays.

    Args:
        found: What `analyze` gave for this table.
        table: What was known at the look.
        look: The last look, microseconds; None where record time ran on until every wait was over.
    """
    named = [(row["name"], row["segment"]) for row in found["gates"]]
    companions = row_companions(rollout.gates, named, *folded(rollout, table, look))
    rows = [{**row, "companion": document(one)} for row, one in zip(found["gates"], companions, strict=True)]
    answers = [answer_document(one) for one in equalities(rollout, table, look=look)]
    return {**found, "gates": rows, "equality": answers}


def document(companion: Companion) -> dict[str, Any]:
    """A companion with the same keys in every row; what is not known is null."""
    facts = asdict(companion)
    interval = facts.pop("interval") or {"low": None, "high": None}
    return {"method": "fixed sample, one look, descriptive", **facts, "lower": interval["low"], "upper": interval["high"]}
