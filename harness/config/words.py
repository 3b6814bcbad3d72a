"""The words of a rollout's YAML and their shape, as pydantic models; the JSON Schema for editors is made of them.

What needs more than one place of the config (names, ranges, orders) is in `meaning` and `gates`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from harness.config import durations, sizes


def _refuse(message: str) -> PydanticCustomError:
    return PydanticCustomError("said", "{said}", {"said": message})


def _matching(pattern: str, expected: str) -> Callable[[str], str]:
    shape = re.compile(pattern.replace("$", r"\Z"))

    def check(text: str) -> str:
        if not shape.match(text):
            raise _refuse(f"got {text[:60]!r}, expected {expected}")
        return text

    return check


def _seconds(value: object) -> float:
    try:
        return durations.seconds(value)
    except ValueError as error:
        raise _refuse(str(error)) from None


def _bytes(value: object) -> int:
    try:
        size = sizes.in_bytes(value)
    except ValueError as error:
        raise _refuse(str(error)) from None
    if size < LEAST_MEMORY:
        raise _refuse(f"got {value}, must be at least {sizes.written(LEAST_MEMORY)}")
    return size


def _above_zero(value: float) -> float:
    if value < 0.001:
        raise _refuse(f"got {value * 1_000:g}ms, must be at least 1ms")
    return value


def _word(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _value_word(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _word(value)


def _one_or_more(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _number_or_duration(value: object) -> object:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        return value
    raise _refuse(f"expected a number (or a duration for a latency), got {_kind(value)}")


def _kind(value: object) -> str:
    return {bool: "true or false", dict: "a mapping", list: "a list"}.get(type(value), type(value).__name__)


NAME = r"^[A-Za-z_][A-Za-z0-9_-]{0,99}$"
POINTER = r"^(/([^/~]|~[01])*)+$"
ANSWER_POINTER = r"^(/([^/~]|~[01])*)*$"
PLACE = r"^([a-z][a-z0-9]{0,99}|(/([^/~]|~[01])*)+)$"
ROLLOUT = r"^[a-z0-9][a-z0-9._-]{0,99}$"
TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
LEAST_MEMORY = 32 << 20  # bytes; a bare interpreter needs half of it


_NAME_IS = "a name of letters, digits, - and _, not starting with a digit"
Name = Annotated[str, AfterValidator(_matching(NAME, _NAME_IS))]
Pointer = Annotated[
    str, AfterValidator(_matching(POINTER, "a JSON pointer as in /age")), WithJsonSchema({"type": "string", "pattern": POINTER})
]
AnswerPointer = Annotated[
    str,
    AfterValidator(_matching(ANSWER_POINTER, "a JSON pointer as in /age, or an empty text for the whole answer")),
    WithJsonSchema({"type": "string", "pattern": ANSWER_POINTER}),
]
Place = Annotated[
    str,
    AfterValidator(_matching(PLACE, "a CloudEvents attribute as in subject, or a pointer into the data as in /region")),
    WithJsonSchema({"type": "string", "pattern": PLACE}),
]
RolloutName = Annotated[
    str,
    AfterValidator(_matching(ROLLOUT, "at most 100 small letters, digits, dots, - and _, starting with a letter or digit")),
    WithJsonSchema({"type": "string", "pattern": ROLLOUT}),
]
Topic = Annotated[
    str,
    AfterValidator(_matching(TOPIC, "a topic name of letters, digits, dots, - and _")),
    WithJsonSchema({"type": "string", "pattern": TOPIC}),
]
Duration = Annotated[
    float, BeforeValidator(_seconds), WithJsonSchema({"type": "string", "pattern": durations.PATTERN, "examples": ["30s", "14d"]})
]
LongerThanZero = Annotated[Duration, AfterValidator(_above_zero)]
Size = Annotated[int, BeforeValidator(_bytes), WithJsonSchema({"type": "string", "pattern": sizes.PATTERN, "examples": ["512MiB", "2GiB"]})]
Word = Annotated[str, BeforeValidator(_word), Field(min_length=1), WithJsonSchema({"type": ["string", "boolean"], "minLength": 1})]
ValueWord = Annotated[
    str, BeforeValidator(_value_word), Field(min_length=1), WithJsonSchema({"type": ["string", "boolean", "integer"], "minLength": 1})
]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Percent = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(gt=0, lt=1)]
Limit = Annotated[Any, AfterValidator(_number_or_duration), WithJsonSchema({"type": ["number", "string"]})]
LaneName = Literal["incumbent", "challenger", "replica"]


class Words(BaseModel):
    """Unknown keys are errors, nothing is coerced: true is no number and "5" neither."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, title=None)


# ------------------------------------------------------------------------------------------------------------------ events
class FieldSegment(Words):
    """A field of the event; values that are not listed are `other`, an absent one is `missing`."""

    field: Place
    values: Annotated[list[ValueWord], Field(min_length=1)] | None = None
    other: Text = "other"
    missing: Text = "unknown"


class TruthSegment(Words):
    """Bins of a truth: known with the label only, so for labelled gates only."""

    truth: str
    bins: Annotated[list[float], Field(min_length=2)]


def _segment_kind(value: object) -> str | None:
    if isinstance(value, dict):
        return "truth segment" if "truth" in value or "bins" in value else "field segment"
    return "place segment" if isinstance(value, str) else None


SegmentWords = Annotated[
    Annotated[Place, Tag("place segment")] | Annotated[FieldSegment, Tag("field segment")] | Annotated[TruthSegment, Tag("truth segment")],
    Discriminator(_segment_kind, "said", "expected an attribute, a /pointer, {field: ...} or {truth: ..., bins: [...]}"),
]


class EventsWords(Words):
    """Where events come from, and what is read from each."""

    topic: Topic
    unit: Place = Field(description="what is assigned and counted once: a CloudEvents attribute, or a /pointer into the data")
    segments: dict[Name, SegmentWords] = Field({})


class OutcomesWords(Words):
    """Where outcomes come from; pointers lead into the outcome's data."""

    class Propensity(Words):
        """The chance with which this event was labelled, and the smallest one that is trusted."""

        field: Pointer
        least: Annotated[float, Field(gt=0, le=1)]

    class Requested(Words):
        """What says that a label was asked for."""

        field: Pointer = Field(description="true, or when it was asked, in a record without a truth or in the label itself")

    topic: Topic
    event: Pointer = Field(description="the id of the event that the outcome is about")
    truth: Annotated[dict[Name, Pointer], Field(min_length=1)]
    matures: Duration = Field(description="labelled gates never fold an event younger than this")
    propensity: Propensity | None = None
    requested: Requested | None = Field(None, description="a label that was asked for and has not come counts as the worst")
    revised: Literal["last"] = "last"


class ExposuresWords(Words):
    """Where production says which arm served a unit; pointers lead into the record's data."""

    topic: Topic
    unit: Place
    arm: Pointer = Field(description="incumbent or challenger")
    percent: Pointer | None = Field(None, description="the challenger's share when the unit was assigned; without it that of the stage")
    segments: dict[Name, Place] = Field({}, description="where the unit's value of a segment stands; only of those that list their values")


class OnlineWords(Words):
    """What happens to a unit within a time from its exposure."""

    topic: Topic
    unit: Place
    type: Literal["binary", "count", "mean", "ratio"]
    window: LongerThanZero = Field(description="what comes later than this after the exposure does not count")
    better: Literal["lower", "higher"]
    value: Pointer | None = None
    of: Pointer | None = None


# ------------------------------------------------------------------------------------------------------- models and outputs
class ModelWords(Words):
    """A model and how it is called."""

    uri: Text = Field(examples=["python:package.module:function", "oip+http://host:8000/v2/models/age", "recorded:answers.jsonl"])
    timeout: LongerThanZero | None = None
    concurrency: Annotated[int, Field(ge=1, le=4_096)] = 1
    batch: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None, description="most events in one call; without it 1 for servers, 64 for what runs on this machine"
    )
    memory: Size | None = Field(None, description="most memory of one process of a function or ONNX file (Linux)")


class ReplicaWords(Words):
    """A second copy of the incumbent: the noise floor."""

    of: Literal["incumbent"]
    percent: Percent


class ModelsWords(Words):
    """The lanes."""

    incumbent: ModelWords
    challenger: ModelWords
    replica: ReplicaWords | None = None


class Bands(Words):
    """Band probabilities: n of them have n + 1 edges."""

    probabilities: AnswerPointer
    edges: Annotated[list[float], Field(min_length=3)]


class FieldReader(Words):
    """The number or word at a pointer into the answer."""

    field: AnswerPointer


class MedianReader(Words):
    """The median of a distribution over bands."""

    median: Bands


class ExpectationReader(Words):
    """The mean of a distribution over bands."""

    expectation: Bands


class TailReader(Words):
    """The probability of a value at or over `at`."""

    tail: Bands
    at: float


READERS = ("field", "median", "expectation", "tail")


def _reader_kind(value: object) -> str | None:
    kinds = [kind for kind in READERS if isinstance(value, dict) and kind in value]
    return f"{kinds[0]} reader" if kinds else None


ReaderWords = Annotated[
    Annotated[FieldReader, Tag("field reader")]
    | Annotated[MedianReader, Tag("median reader")]
    | Annotated[ExpectationReader, Tag("expectation reader")]
    | Annotated[TailReader, Tag("tail reader")],
    Discriminator(_reader_kind, "said", "expected {field: /pointer}, {median: ...}, {expectation: ...} or {tail: ..., at: ...}"),
]


class OutputWords(Words):
    """One meaning for answers of different shape; `range` is what a loss may use as its bound, outside it is bad_output."""

    type: Literal["number", "scores", "label"]
    unit: Text | None = None
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    labels: Annotated[list[ValueWord], Field(min_length=1)] | None = None
    incumbent: ReaderWords
    challenger: ReaderWords


# -------------------------------------------------------------------------------------------------------- policies and harms
class LineBySegment(Words):
    """A line for each value of a segment."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]
    by: str
    default: float


class LineByLane(Words):
    """A line for each model; truth takes the incumbent's unless it says otherwise."""

    incumbent: float
    challenger: float
    truth: float | None = None


def _line_kind(value: object) -> str | None:
    if isinstance(value, dict):
        return "line by lane" if not {"by", "default"} & value.keys() and {"incumbent", "challenger"} & value.keys() else "line by segment"
    return "plain line" if isinstance(value, (int, float)) and not isinstance(value, bool) else None


_LINE_IS = "expected a number, {by: SEGMENT, default: ..., VALUE: ...} or {incumbent: ..., challenger: ...}"
LineWords = Annotated[
    Annotated[float, Tag("plain line")] | Annotated[LineBySegment, Tag("line by segment")] | Annotated[LineByLane, Tag("line by lane")],
    Discriminator(_line_kind, "said", _LINE_IS),
]


class ChoiceLine(Words):
    """From which line upward a decision is taken."""

    at_least: LineWords


def _choice_kind(value: object) -> str | None:
    return "line choice" if isinstance(value, dict) else "last choice" if isinstance(value, str) else None


ChoiceWords = Annotated[
    Annotated[Annotated[dict[Text, ChoiceLine], Field(min_length=1, max_length=1)], Tag("line choice")]
    | Annotated[Text, Tag("last choice")],
    Discriminator(_choice_kind, "said", "expected {WORD: {at_least: ...}}, or a word for the rest"),
]


class Recorded(Words):
    """Where the decision that was really taken stands in the event's data."""

    decision: Pointer


class ClassWords(Words):
    """What pages call the units whose truth is true, and those whose truth is false: a plural, as in "harmless posts"."""

    if_true: Text
    if_false: Text


class PolicyWords(Words):
    """Where an output becomes a decision."""

    output: str
    at_least: LineWords | None = None
    decide: Annotated[list[ChoiceWords], Field(min_length=2)] | None = None
    of: ValueWord | None = None
    is_: Annotated[list[ValueWord], Field(min_length=1)] | None = Field(None, alias="is")
    incumbent: Recorded | None = None
    challenger: Recorded | None = None
    classes: ClassWords | None = None
    says: Annotated[dict[Text, Text], Field(min_length=1)] | None = None


_WORD = {"type": ["string", "boolean"]}


OneOrMoreWords = Annotated[
    list[Word],
    BeforeValidator(_one_or_more),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_WORD, {"type": "array", "items": _WORD, "minItems": 1}]}),
]


class HarmWords(Words):
    """An error with a name, a direction and a denominator."""

    policy: str
    truth: bool
    decision: OneOrMoreWords
