"""What a rollout's config says, once it is valid: frozen, with every name resolved. `harness.config` makes it from YAML.

Times are seconds (`_s`), lines and ranges are in the output's own unit, percents are 0 to 100.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from analysis.types import Gate

AMENDABLE = ("models", "policies", "harms", "gates", "alpha", "detect", "stages", "keep", "expires")
"""What a new attempt may change: the question, never what is read and stored."""
LAYOUT = 2
"""How frames and rows are laid out: 2 is by names; before, it was in the order of the config's keys, which nothing that is stored tells,
and observations had no segments."""
CHALLENGER = "challenger"
LANES = ("incumbent", CHALLENGER, "replica")
MISSING_REASONS = ("timeout", "error", "bad_output", "shed", "no_answer")
TRUE_FALSE = ("false", "true")
SERVERS = ("http://", "https://", "oip+http://", "oip+https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A slice fixed before the start: a field of the event, or bins of a truth (known only with the label).

    `field` is a CloudEvents attribute or a /pointer into the data. `values` are those the config lists, empty for free ones;
    a value not listed is `other`, an absent one is `missing`.
    """

    name: str
    field: str | None = None
    values: tuple[str, ...] = ()
    other: str = "other"
    missing: str = "unknown"
    truth: str | None = None
    bins: tuple[float, ...] = ()

    @property
    def listed(self) -> tuple[str, ...] | None:
        """The values that the config lists; None if any value may come."""
        return self.bin_names if self.truth else (self.values or None)

    @property
    def words(self) -> tuple[str, ...]:
        """Every value that there can be where the config lists them: those listed, and after them the words for all others."""
        return tuple(dict.fromkeys((*self.values, self.other, self.missing)))

    @property
    def bin_names(self) -> tuple[str, ...]:
        """One name a bin, as in [13, 16)."""
        return tuple(f"[{low:g}, {high:g})" for low, high in zip(self.bins, self.bins[1:], strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Where events come from, and what is read from each."""

    topic: str
    unit: str
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A lane's model: how it is called. `batch` is what the config says, None when it says nothing: use `events_a_call`.

    memory: most bytes of one process of a model that runs in processes; None: no limit.
    """

    lane: str
    uri: str
    timeout_s: float = 1.0
    concurrency: int = 1
    batch: int | None = None
    memory: int | None = None
    of: str | None = None
    percent: float = 100.0

    @property
    def events_a_call(self) -> int:
        """`batch`; without one a server is asked as production asks it, one event a call, and what runs on this machine 64."""
        return self.batch or (1 if self.uri.startswith(SERVERS) else 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How one lane's answer becomes an output.

    how: field (`pointer`), or of the band probabilities at `pointer` with n + 1 `edges`: median, expectation, tail (P(value >= at)).
    """

    how: Literal["field", "median", "expectation", "tail"]
    pointer: str
    edges: tuple[float, ...] = ()
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One meaning for answers of different shape.

    number: a float inside `range`. label: one word of `labels` (any word when empty). scores: a number for each of `labels`.
    """

    name: str
    type: Literal["number", "scores", "label"]
    readers: Mapping[str, Reader]
    unit: str | None = None
    range: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A threshold: one number, or one for each value of the segment `by`, with a default for the others."""

    default: float
    by: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several decisions of a policy: taken from its line upward; the last one has none and takes the rest."""

    decision: str
    at_least: Line | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Where an output becomes a decision.

    lines: the line of each lane, and of `truth`. choices: empty for the two decisions false and true. `label` chooses the score
    of a `scores` output; `is_one_of` the words of a `label` output that mean true. recorded: lane -> pointer into the event's
    data where the decision that production really took stands. For pages: `classes` are what is counted, of false and of true
    ("harmless posts", "violating posts"); says: decision -> what happens then ("be removed").
    """

    name: str
    output: str
    lines: Mapping[str, Line]
    choices: tuple[Choice, ...] = ()
    label: str | None = None
    is_one_of: tuple[str, ...] = ()
    recorded: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, str] | None = None
    says: Mapping[str, str] = field(default_factory=dict)

    @property
    def decisions(self) -> tuple[str, ...]:
        """Every word the policy can say; false before true."""
        return tuple(choice.decision for choice in self.choices) or TRUE_FALSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """An error with a name, a direction and a denominator."""

    name: str
    policy: str
    truth: bool
    decisions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Where outcomes come from, and what a label is. Pointers lead into the outcome's data.

    requested: what says that a label was asked for, with its propensity; None where only labels are recorded, no requests.
    """

    topic: str
    event: str
    truth: Mapping[str, str]
    matures_s: float
    propensity: str | None = None
    least: float | None = None
    requested: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposures:
    """Where production says which arm served a unit. Pointers lead into the record's data.

    arm: "incumbent" or "challenger". percent: the challenger's share when the unit was assigned; None: that of the stage. segments: of
    these, which list their values, the unit's value: attributes or pointers, by name.
    """

    topic: str
    unit: str
    arm: str
    percent: str | None = None
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What happened later to a unit that an arm served, summed over `window_s` from its exposure.

    type: binary (whether any record came), count (how many), mean (sum of `value`), ratio (sum of `value` over sum of `of`).
    """

    name: str
    topic: str
    unit: str
    type: Literal["binary", "count", "mean", "ratio"]
    window_s: float
    better: Literal["lower", "higher"]
    value: str | None = None
    of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the rollout's way: shadow, canary at a percent, or promote with its bake time.

    It ends no sooner than `at_least_s` and with so many `pairs`; `people` in one of `roles` must approve before it begins. stop_after:
    harm -> how many of them, among people whom the challenger served, end the rollout at once.
    """

    kind: Literal["shadow", "canary", "promote"]
    percent: float = 100.0
    at_least_s: float = 0.0
    bake_s: float = 0.0
    people: int = 0
    roles: tuple[str, ...] = ()
    pairs: int = 0
    stop_after: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detect:
    """What bounds the change detectors: a unit counts once a window; false alarms are bounded over `units`."""

    window_s: float = 3 * 86_400.0
    units: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long pairs and records are kept, and which plain ids."""

    pairs_s: float = 30 * 86_400.0
    records_s: float = 6 * 365 * 86_400.0
    ids: Literal["none", "disagreements", "all"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Several challengers under one incumbent: a rollout each, on one mirror.

    name: as the config writes it; topics and hashes that they share carry it. challengers: all of them, in the config's order.
    challenger: the one of this rollout, as its lane is called on the bus.
    """

    name: str
    challengers: tuple[str, ...]
    challenger: str

    def rollout_of(self, challenger: str) -> str:
        """The name of one challenger's rollout."""
        return f"{self.name}.{challenger}"

    @property
    def siblings(self) -> tuple[str, ...]:
        """The other challengers."""
        return tuple(name for name in self.challengers if name != self.challenger)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One challenger's way from shadow to live.

    sha256: of the config's canonical JSON, 64 hex digits. folder: where relative paths of `recorded:` models start.
    document: the config as plain values, for records and reports. family: None where the config has one challenger of that name.
    """

    name: str
    events: Events
    models: Mapping[str, Model]
    outputs: Mapping[str, Output]
    policies: Mapping[str, Policy]
    harms: Mapping[str, Harm]
    outcomes: Outcomes | None
    sample_percent: float
    window_s: float
    gates: tuple[Gate, ...]
    stages: tuple[Stage, ...]
    sha256: str
    folder: Path
    document: Mapping[str, object]
    alpha: float = 0.05
    looks_s: float = 3_600.0
    detect: Detect = field(default_factory=Detect)
    keep: Keep = field(default_factory=Keep)
    expires_s: float = 30 * 86_400.0
    exposures: Exposures | None = None
    online: Mapping[str, Measure] = field(default_factory=dict)
    family: Family | None = None

    @property
    def version(self) -> str:
        """What frames carry of the config: 16 hex digits of a hash over the layout and all that shapes what is read and stored, which no
        amendment may change. Gates, lines, stages and the models' addresses are no part of it; the challengers of a family have one, as
        they have one mirror."""
        shape = {key: value for key, value in self.document.items() if key not in AMENDABLE}
        recorded = {name: dict(policy.recorded) for name, policy in self.policies.items() if policy.recorded}
        shape["models"] = {lane: model.percent for lane, model in self.models.items()}
        if self.family is not None:
            shape |= {"rollout": self.family.name, "challengers": sorted(self.family.challengers)}
            outputs: Any = self.document["outputs"]
            shape["outputs"] = {name: {k: v for k, v in words.items() if k != CHALLENGER} for name, words in outputs.items()}
        return sha256(json.dumps([LAYOUT, shape, recorded], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def mirror(self) -> str:
        """Whose mirror it reads: the name in shared topics, positions, leases and hashes."""
        return self.name if self.family is None else self.family.name

    def spoken(self, lane: str) -> str:
        """How a lane is called on the bus, beside those of other challengers."""
        return self.family.challenger if self.family is not None and lane == CHALLENGER else lane

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes that are called, incumbent first."""
        return tuple(lane for lane in LANES if lane in self.models)

    @property
    def truths(self) -> tuple[str, ...]:
        """Names of the truths an outcome may carry, by which frames and rows are laid out."""
        return tuple(self.outcomes.truth) if self.outcomes else ()

    def gates_of(self, stage: int) -> tuple[Gate, ...]:
        """The gates of a stage, by its index. Those on what is measured online are the canaries': elsewhere nobody, or everybody, is
        served by the challenger, and there are no two arms."""
        canary = self.stages[stage].kind == "canary"
        return tuple(gate for gate in self.gates if canary or gate.metric.group != "online")

    def truth_of(self, output: str) -> str | None:
        """An output is judged by the truth of its own name, or by the only one there is."""
        if output in self.truths:
            return output
        return self.truths[0] if len(self.truths) == 1 else None

    @property
    def event_segments(self) -> tuple[Segment, ...]:
        """The segments known with the event, by which frames and rows are laid out."""
        return tuple(segment for segment in self.events.segments if segment.truth is None)
