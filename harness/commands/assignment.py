"""What production is told: which share of the units the challenger serves now, by which record."""

from __future__ import annotations

from typing import Any

from harness.assign import secret_check
from harness.core.reading import timestamp
from harness.core.rollout import Rollout
from harness.core.routing import Hasher
from harness.core.stages import State, percent
from harness.ports.journal import ROOT


def document(rollout: Rollout, state: State, *, at: int, hasher: Hasher, asked: str | None = None) -> dict[str, Any]:
    """The assignment document of a state. at: wall time, microseconds, just before the state was read; a later document has a later one.

    asked: under which name, if that is the one of several challengers: then `arms` says whose hash decides.
    """
    name = asked or rollout.name
    return {
        "rollout": name,
        "percent": percent(rollout, state),
        "standing": state.standing.value,
        "stage": state.stage,
        "kind": rollout.stages[state.stage].kind,
        "config_sha256": rollout.sha256,
        "head": state.head or ROOT,
        "as_of": timestamp(at),
        "secret_check": secret_check(name, hasher.of(name)),
        **({} if name == rollout.name else {"arms": rollout.name}),
        **({} if rollout.family is None else {"challenger": rollout.family.challenger}),
    }
