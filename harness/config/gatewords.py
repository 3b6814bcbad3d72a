"""The words of gates, stages and of the whole rollout: the second half of `words`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from harness.config.words import (
    Duration,
    EventsWords,
    ExposuresWords,
    HarmWords,
    LaneName,
    Limit,
    LongerThanZero,
    ModelsWords,
    Name,
    OneOrMoreWords,
    OnlineWords,
    OutcomesWords,
    OutputWords,
    Percent,
    PolicyWords,
    RolloutName,
    Share,
    Text,
    Word,
    Words,
)


# ----------------------------------------------------------------------------------------------------------------- metrics
class FlipMetric(Words):
    """Share of pairs whose decisions differ, or differ from one given decision to another."""

    flip: str
    from_: Word | None = Field(None, alias="from")
    to: Word | None = None


class HarmMetric(Words):
    """The rate of a harm."""

    harm: str


class FalsePositiveMetric(Words):
    """Share of `true` where the truth is false."""

    false_positive_rate: str


class FalseNegativeMetric(Words):
    """Share of `false` where the truth is true."""

    false_negative_rate: str


class PrecisionMetric(Words):
    """Share of true truths among `true`."""

    precision: str


class RecallMetric(Words):
    """Share of `true` where the truth is true."""

    recall: str


class LossMetric(Words):
    """How far off: of an output, or zero_one of a policy."""

    loss: Literal["absolute_error", "squared_error", "log_loss", "zero_one"]
    output: str | None = None
    policy: str | None = None


class MissingMetric(Words):
    """Share of events that a lane did not answer, whatever the reason."""

    missing: LaneName


class ErrorsMetric(Words):
    """Share of events on which a lane failed."""

    errors: LaneName


class LatencyMetric(Words):
    """A quantile of a lane's latency, as p99."""

    latency: str
    lane: LaneName = "challenger"


class DifferenceMetric(Words):
    """Mean of challenger minus incumbent, or a quantile of it, as p95."""

    difference: str
    output: str


class ActionMetric(Words):
    """Share of a decision, or of several together: the load of reviewers, say."""

    action: str
    decision: OneOrMoreWords
    lane: LaneName = "challenger"


class CostMetric(Words):
    """Mean cost of a labelled event: what each harm costs."""

    cost: Annotated[dict[Name, Annotated[float, Field(gt=0)]], Field(min_length=1)]


class DisagreementMetric(Words):
    """Share of pairs whose outputs differ; numbers and scores by more than the tolerance."""

    disagreement: str
    tolerance: Annotated[float, Field(ge=0)] | None = None


class PythonMetric(Words):
    """A metric of an installed package, by the name of its entry point, and what it is given."""

    python: Text
    with_: dict[Name, str | bool | float] = Field({}, alias="with")


class ExcessDisagreementMetric(Words):
    """How much more often the challenger decides otherwise than a second copy of the incumbent does."""

    excess_disagreement: str


class OnlineMetric(Words):
    """What happens to the units of a canary, by the name it has under `online`: the challenger's arm against the incumbent's."""

    online: str


class SampleRatioMetric(Words):
    """The share of a canary's units that the challenger serves, minus its configured share."""

    sample_ratio: Literal["exposures"]


METRICS: dict[str, type[Words]] = {
    "flip": FlipMetric,
    "harm": HarmMetric,
    "false_positive_rate": FalsePositiveMetric,
    "false_negative_rate": FalseNegativeMetric,
    "precision": PrecisionMetric,
    "recall": RecallMetric,
    "loss": LossMetric,
    "missing": MissingMetric,
    "errors": ErrorsMetric,
    "latency": LatencyMetric,
    "difference": DifferenceMetric,
    "action": ActionMetric,
    "cost": CostMetric,
    "disagreement": DisagreementMetric,
    "excess_disagreement": ExcessDisagreementMetric,
    "online": OnlineMetric,
    "sample_ratio": SampleRatioMetric,
    "python": PythonMetric,
}


def _metric_kind(value: object) -> str | None:
    kinds = [kind for kind in METRICS if isinstance(value, dict) and kind in value]
    return f"{kinds[0]} metric" if kinds else None


MetricWords = Annotated[
    Annotated[FlipMetric, Tag("flip metric")]
    | Annotated[HarmMetric, Tag("harm metric")]
    | Annotated[FalsePositiveMetric, Tag("false_positive_rate metric")]
    | Annotated[FalseNegativeMetric, Tag("false_negative_rate metric")]
    | Annotated[PrecisionMetric, Tag("precision metric")]
    | Annotated[RecallMetric, Tag("recall metric")]
    | Annotated[LossMetric, Tag("loss metric")]
    | Annotated[MissingMetric, Tag("missing metric")]
    | Annotated[ErrorsMetric, Tag("errors metric")]
    | Annotated[LatencyMetric, Tag("latency metric")]
    | Annotated[DifferenceMetric, Tag("difference metric")]
    | Annotated[ActionMetric, Tag("action metric")]
    | Annotated[CostMetric, Tag("cost metric")]
    | Annotated[DisagreementMetric, Tag("disagreement metric")]
    | Annotated[ExcessDisagreementMetric, Tag("excess_disagreement metric")]
    | Annotated[OnlineMetric, Tag("online metric")]
    | Annotated[SampleRatioMetric, Tag("sample_ratio metric")]
    | Annotated[PythonMetric, Tag("python metric")],
    Discriminator(_metric_kind, "no_metric", "unknown metric"),
]


# ------------------------------------------------------------------------------------------------------------------- gates
def _crossed(value: object) -> object:
    return [value] if isinstance(value, str) else value


LIMITS = ("below", "above", "worse_by_at_most", "better_by_more_than", "within")
Slice = Annotated[
    list[str],
    BeforeValidator(_crossed),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class PlanWords(Words):
    """When a group sequential gate looks, and how it spends its levels; fixed at the start."""

    maximum: Annotated[int, Field(ge=100, le=10**12)]
    looks: Annotated[int, Field(ge=1, le=50)]
    spending: Literal["obrien_fleming", "pocock", "power", "hwang_shih_decani", "wang_tsiatis"] = "obrien_fleming"
    parameter: Annotated[float, Field(ge=-40, le=40)] | None = None


class GateWords(Words):
    """A metric with the value it must stay under or over: exactly one of below, above, worse_by_at_most, better_by_more_than, within."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [word]} for word in LIMITS]})

    name: Text
    metric: MetricWords
    below: Limit = None
    above: Limit = None
    worse_by_at_most: Limit = None
    better_by_more_than: Limit = None
    within: Limit = None
    each: Annotated[list[Slice], Field(min_length=1)] | None = None
    on_fail: Literal["rollback", "hold", "report"] = "rollback"
    dry_run: bool = False
    alpha: Share | None = None
    expect: Limit = None
    discordance: Annotated[float, Field(gt=0)] | None = None
    min_units: Annotated[int, Field(ge=0)] = 0
    small: Literal["hold", "report"] = "hold"
    unit: Literal["first", "ever", "mean"] = "first"
    unit_window: LongerThanZero | None = None
    method: Literal["mixture", "beta-binomial", "group_sequential", "asymptotic"] = "mixture"
    plan: PlanWords | None = None
    decide_at: Annotated[int, Field(ge=1, le=10**12)] | None = None
    burn_in: Annotated[int, Field(ge=100, le=10**12)] = 1_000

    @property
    def limits(self) -> dict[str, Any]:
        """The limit words that the gate says, with their values."""
        return {word: value for word in LIMITS if (value := getattr(self, word)) is not None}


# ------------------------------------------------------------------------------------------------------------------ stages
class ShadowWords(Words):
    """Scored and recorded, never acted on."""

    percent: Percent = 100.0


class CanaryWords(Words):
    """The challenger serves this share of the units."""

    percent: Percent


class PromoteWords(Words):
    """The challenger serves; the old model keeps shadowing while it bakes."""

    bake: Duration


class ApprovalWords(Words):
    """How many people must approve before the stage begins, and in which roles."""

    people: Annotated[int, Field(ge=1, le=100)]
    roles: Annotated[list[Text], Field(min_length=1)] | None = None


STAGES = ("shadow", "canary", "promote")


class StageWords(Words):
    """One step: exactly one of shadow, canary, promote, with what must be true before the next."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [word]} for word in STAGES]})

    shadow: ShadowWords | None = None
    canary: CanaryWords | None = None
    promote: PromoteWords | None = None
    at_least: Duration | None = None
    pairs: Annotated[int, Field(ge=1)] | None = None
    approval: ApprovalWords | None = None
    stop_after: Annotated[dict[Name, Annotated[int, Field(ge=1)]], Field(min_length=1)] | None = None


# ----------------------------------------------------------------------------------------------------------------- the rest
class SampleWords(Words):
    """The share of units that is mirrored; stated, never a silent 100 %."""

    percent: Percent


class PairingWords(Words):
    """How long answers of one event are waited for."""

    window: LongerThanZero


class DetectWords(Words):
    """The change detectors: a unit counts once a window; false alarms are bounded over so many units."""

    window: LongerThanZero | None = None
    units: Annotated[int, Field(ge=1)] | None = None


class KeepWords(Words):
    """How long pairs and records are kept, and which plain ids."""

    pairs: LongerThanZero | None = None
    records: LongerThanZero | None = None
    ids: Literal["none", "disagreements", "all"] | None = None


class RolloutWords(Words):
    """One challenger's way from shadow to live."""

    rollout: RolloutName
    events: EventsWords
    models: ModelsWords
    outputs: Annotated[dict[Name, OutputWords], Field(min_length=1)]
    policies: dict[Name, PolicyWords] = Field({})
    harms: dict[Name, HarmWords] = Field({})
    outcomes: OutcomesWords | None = None
    exposures: ExposuresWords | None = None
    online: dict[Name, OnlineWords] = Field({})
    sample: SampleWords
    pairing: PairingWords
    gates: list[GateWords]
    alpha: Share = 0.05
    looks: Annotated[LongerThanZero, Field(json_schema_extra={"default": "1h"})] = 3_600.0
    detect: DetectWords | None = None
    stages: Annotated[list[StageWords], Field(min_length=1)] | None = None
    keep: KeepWords | None = None
    expires: Annotated[LongerThanZero, Field(json_schema_extra={"default": "30d"})] = 30 * 86_400.0
