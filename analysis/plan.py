"""What a stage tests, fixed before its first event: the gates, their levels, and the members of the closed test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from itertools import product
from math import log

from analysis.types import Gate, Group, InputError

Item = tuple[str, ...]
"""Names of segments that are crossed; () is the whole gate."""
Value = tuple[str, ...]
"""One word for each name of an item."""
WHOLE: Item = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The gates of a stage and how they share alpha.

    gates: in the order of the config, names unique. alpha: the rollout's chance of any false fail, in (0, 1). n_stages: how many
    stages share it, >= 1. listed: the values that the config lists for each segment, None where it lists none. window_us: a change
    detector counts a unit once in each such time, > 0. detect_units: contributions over which its false alarms are bounded, >= 1.

    Raises:
        InputError: alpha, n_stages, a gate's alpha or a repeated name cannot be taken.
    """

    gates: tuple[Gate, ...]
    _: KW_ONLY
    alpha: float
    n_stages: int
    listed: Mapping[str, tuple[str, ...] | None]
    window_us: int = 3 * 86_400_000_000
    detect_units: int = 100_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "gates", tuple(self.gates))
        for alpha in (self.alpha, *(g.alpha for g in self.gates if g.alpha is not None)):
            if not 0.0 < alpha < 1.0:
                raise InputError(f"alpha must lie in (0, 1), got {alpha}")
        if self.n_stages < 1:
            raise InputError(f"n_stages must be at least 1, got {self.n_stages}")
        if self.window_us < 1 or self.detect_units < 1:
            raise InputError(f"detectors need a window and units of at least 1, got {self.window_us} and {self.detect_units}")
        names = [gate.name for gate in self.gates]
        if len(set(names)) < len(names):
            raise InputError(f"names of gates must differ, got {names}")

    def values(self, item: Item) -> tuple[Value, ...] | None:
        """The values that the config lists for an item, crossed; None where a part lists none. The whole is one value."""
        parts = [self.listed.get(name) for name in item]
        return None if any(part is None for part in parts) else tuple(product(*(part for part in parts if part is not None)))

    def members(self, gate: Gate) -> int:
        """How many members of the closed test a gate is: one, or one for each listed value and one for all that are not listed."""
        if not gate.counted:
            return 0
        if not gate.each:
            return 1
        listed = [self.values(item) for item in gate.each]
        return sum(len(values) for values in listed if values is not None) + any(values is None for values in listed)

    def n_members(self, group: Group | None = None) -> int:
        """K, or that of one group of gates alone."""
        return sum(self.members(gate) for gate in self.gates if group is None or gate.metric.group == group)

    @property
    def alpha_stage(self) -> float:
        """The stage's part of alpha for false fails."""
        return self.alpha / self.n_stages

    def log_enough(self, group: Group) -> float:
        """ln of what an adjusted e-value of this group must reach to fail; the group must have members."""
        return log(self.n_members() / (self.alpha_stage * self.n_members(group)))

    @property
    def fail_level(self) -> float:
        """The level of one row's own fail: alpha of the stage shared by all members."""
        return self.alpha_stage / max(self.n_members(), 1)

    @property
    def alarm_level(self) -> float:
        """What a change detector must reach: K N / alpha of the stage, with N = `detect_units`."""
        return self.detect_units / self.fail_level

    def alpha_of(self, gate: Gate) -> float:
        """The level at which a gate passes."""
        return self.alpha if gate.alpha is None else gate.alpha

    def digest(self) -> str:
        """SHA-256 of everything that must not change while evidence is folded."""
        facts = {"gates": [asdict(gate) for gate in self.gates], "alpha": self.alpha, "n_stages": self.n_stages,
                 "window_us": self.window_us, "detect_units": self.detect_units,
                 "listed": {name: self.listed.get(name) for gate in self.gates for item in gate.each for name in item}}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
