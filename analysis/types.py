"""What every part of the analysis speaks of: pair tables, metrics, gates and their results.

Nothing here computes. Import it freely: it needs the standard library and NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from numpy.typing import NDArray

Column = NDArray[Any]
Word = Literal["below", "above", "worse_by_at_most", "better_by_more_than", "within"]
OnFail = Literal["rollback", "hold", "report"]
Group = Literal["unlabelled", "labelled", "online"]
"""Gates that are read at one prefix: those of pairs, those of labels (older by `matures`), those of a canary's two arms."""
Option = str | float | bool
"""What a config may give a metric of another package."""
Reason = Literal[
    "insufficient",
    "no_support",
    "stale",
    "unpaired",
    "compute_error",
    "noise_too_high",
    "sample_ratio",
    "changed",
    "overrun",
]

LABELLED_KINDS = frozenset({"harm", "loss", "precision", "recall", "cost"})
ONLINE_KINDS = frozenset({"online", "sample_ratio"})
CLASS_KINDS = frozenset({"harm", "precision", "recall"})
"""Kinds that are a share of a class that only labels tell: with weights, a ratio of weighted sums."""


class InputError(ValueError):
    """A number or table that the analysis cannot take; the message names it and its value."""


class Status(IntEnum):
    """What a gate says; the worst of several is their maximum."""

    PASS = 0
    UNDECIDED = 1
    FAIL = 2


@dataclass(frozen=True, slots=True)
class PairTable:
    """The pair table: one row an event, columns of equal length, in the order (arrival time, event).

    Columns (see DESIGN: the pair table). Numbers are float64 with NaN for null; what has few values is coded as int32:
    an index into `words[...]`, -1 for null.

    - ``event_id`` (opaque), ``unit_id`` (uint64), ``arrived`` (int64, microseconds since 1970)
    - ``segment.<name>``            coded by ``words["segment.<name>"]``
    - ``<output>.<lane>``           float64 for a number; coded by ``words["<output>"]`` for a label
    - ``<policy>.<lane>``           the decision, coded by ``words["<policy>"]``; of two values: ``("false", "true")``
    - ``<policy>.truth``            the class of the truth under the policy's line: 0 false, 1 true, -1 unknown
    - ``missing.<lane>``            coded by ``words["missing"]``, -1 where the lane answered
    - ``latency_ms.<lane>``         float64, NaN where unknown
    - ``truth.<name>``              float64 (a boolean truth is 0 or 1), NaN without a label
    - ``label_time`` (int64 microseconds, -1 without a label), ``propensity`` (float64, NaN without)
    """

    columns: Mapping[str, Column]
    words: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"columns of a pair table must be of one length, got {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> Column:
        try:
            return self.columns[name]
        except KeyError:
            raise InputError(f"the pair table has no column {name!r}; it has {', '.join(self.columns)}") from None

    def take(self, rows: NDArray[Any] | slice) -> PairTable:
        """The rows that an index array, a boolean mask or a slice chooses."""
        return PairTable({name: column[rows] for name, column in self.columns.items()}, self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number defined before the start, resolved from the config: names of columns, never of YAML keys.

    kind and what it reads:
      flip        policy; `from_`/`to` (names of decisions, None = any change)
      harm        policy, truth (the class, denominator), decisions (the numerator); its generic forms are harms too
      precision   policy (of two values): truth true among decision true;  recall: decision true among truth true
      loss        loss = absolute_error | squared_error | log_loss: output, truth_name, bound (largest possible loss);
                  zero_one: policy
      missing, errors   lane
      latency     lane, quantile in (0, 1)
      action      policy, decisions: share of these decisions of `lane`, incumbent or challenger
      cost        costs: (policy, truth, decisions, weight) of each harm; bound (largest possible cost of an event)
      disagreement          output, tolerance (numbers, scores), labels (of scores): share of pairs whose outputs differ
      excess_disagreement   policy, share (of the events that the replica is asked about, in (0, 1])
      difference  output, bound (largest possible |challenger - incumbent|): mean of challenger - incumbent; its quantile, with one
      online      measure (what is measured of the units of a canary's two arms), type, window_us (a unit's value is fixed so long after its
                  first exposure), better; bound (the largest possible value of a unit, the smallest being 0), absent (the value of a unit
                  without a measurement, for a mean), covariate (a number known of each unit before its exposure, by name)
      sample_ratio   nothing: share of the units that the challenger serves, minus its configured share
      python      name of an installed package's metric, options (what the config gives it), version (of the package), bound, needs_labels
    A kind that is not known here gives an undecided row with the reason compute_error.

    least: labels are drawn with a recorded probability of at least this, in (0, 1], and are weighted by one over it; None: labels
    come as they come, and a labelled metric speaks of the labelled events only. requested: with `least`: a propensity also stands in the
    rows of which a label was asked for and has not come, and in none of which no label was asked for.
    """

    kind: str
    policy: str | None = None
    output: str | None = None
    lane: str = "challenger"
    truth: bool | None = None
    decisions: tuple[str, ...] = ()
    from_: str | None = None
    to: str | None = None
    loss: str | None = None
    truth_name: str | None = None
    bound: float | None = None
    quantile: float | None = None
    least: float | None = None
    requested: bool = False
    costs: tuple[tuple[str, bool, tuple[str, ...], float], ...] = ()
    tolerance: float | None = None
    labels: tuple[str, ...] = ()
    share: float | None = None
    measure: str | None = None
    type: Literal["binary", "mean", "count", "ratio"] | None = None
    window_us: int | None = None
    better: Literal["lower", "higher"] | None = None
    absent: float | None = None
    covariate: str | None = None

    name: str | None = None
    options: tuple[tuple[str, Option], ...] = ()
    version: str | None = None
    needs_labels: bool = False

    @property
    def weighted(self) -> bool:
        """Whether its labels are weighted, so that it speaks of all pairs."""
        return self.labelled and self.least is not None

    @property
    def labelled(self) -> bool:
        """Whether it needs outcomes, and so folds matured events only."""
        return self.kind in LABELLED_KINDS or self.needs_labels

    @property
    def group(self) -> Group:
        """The gates that it is read with."""
        return "online" if self.kind in ONLINE_KINDS else "labelled" if self.labelled else "unlabelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookPlan:
    """What a group sequential gate fixes at the start: when it looks, and how it spends its levels.

    maximum: units at the last look, >= 1: the information is the share of it. looks: how many, equally spaced in units, 1 to 50. spending:
    obrien_fleming and pocock of Lan and DeMets; power t^parameter; hwang_shih_decani with gamma = parameter; wang_tsiatis, the classical
    boundary with Delta = parameter (0 O'Brien-Fleming, 1/2 Pocock), spent between its looks in proportion.
    """

    maximum: int
    looks: int
    spending: Literal["obrien_fleming", "pocock", "power", "hwang_shih_decani", "wang_tsiatis"] = "obrien_fleming"
    parameter: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A metric with the value it must stay under or over, as STATISTICS section 3 defines pass and fail.

    `each` lists what to split by: a tuple of segment names for every item, of one name or of several that are crossed.
    `limit` is the number of the config (latencies in milliseconds). `alpha` None takes the rollout's. `unit`: the first event of a unit
    counts, or whether it was ever so, or its mean, over `unit_window_us` microseconds from that first event. `plan`: with the method
    group_sequential.
    """

    name: str
    metric: Metric
    word: Word
    limit: float
    each: tuple[tuple[str, ...], ...] = ()
    on_fail: OnFail = "rollback"
    dry_run: bool = False
    alpha: float | None = None
    expect: float | None = None
    discordance: float | None = None
    min_units: int = 0
    small: Literal["hold", "report"] = "hold"
    unit: Literal["first", "ever", "mean"] = "first"
    unit_window_us: int | None = None
    method: Literal["mixture", "beta-binomial", "group_sequential"] = "mixture"
    plan: LookPlan | None = None

    @property
    def counted(self) -> bool:
        """Whether the verdict follows it."""
        return not self.dry_run and self.on_fail != "report"

    @property
    def compared(self) -> bool:
        """Whether its numbers are incumbent minus challenger (positive = challenger better)."""
        return self.word in ("worse_by_at_most", "better_by_more_than")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence sequence at one look: it covers at every look at once."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """How many pairs a label was asked of, how many of these have one, and how many wait for theirs."""

    requested: int
    labelled: int
    pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One row of a verdict's `gates`: the whole gate (segment None) or one value of a segment that it lists.

    alarmed_at: the look, in microseconds, at which its change detector raised an alarm; None without one. An alarm is a fail.
    labels: those asked for, among the row's pairs; None where requests are not recorded.
    """

    name: str
    segment: Mapping[str, str] | None
    status: Status
    reason: Reason | None
    estimate: float | None
    lower: float | None
    upper: float | None
    limit: float
    n_units: int
    n_events: int
    estimate_events: float | None
    alpha: float
    method: str
    log_e_pass: float | None
    log_e_fail: float | None
    on_fail: OnFail
    dry_run: bool
    alarmed_at: int | None = None
    labels: Labels | None = None

    @property
    def alarm(self) -> bool:
        """Whether it fails because something changed for the worse."""
        return self.alarmed_at is not None
