"""A first rollout config, written from a table of scores: valid as it stands, with a comment at everything that was assumed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.pages.words import humanised

MARGIN = 0.01
MOST_FLIPS = 0.05
NO_KEYS = frozenset({"yes", "no", "on", "off", "true", "false", "null"})  # YAML reads these words as something else


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a draft says, in the words of the table.

    output: its name. span: what the score can be. truth: the column of the truth, None without one; is_class: whether it is true or
    false. groups: column -> values to tell apart. loss: (kind, margin), None without one. flips: name of a policy -> its line.
    """

    name: str
    output: str
    unit: str | None
    span: tuple[float, float]
    lines: Mapping[str, float]
    old: str
    new: str
    truth: str | None
    is_class: bool
    user: str | None
    groups: Mapping[str, tuple[str, ...]]
    closed: frozenset[str]
    loss: tuple[str, float] | None


def key(text: str, taken: frozenset[str] = frozenset()) -> str:
    """A name that a config takes, from any text.

    >>> key("Toxicity score (new)"), key("13"), key("")
    ('toxicity_score_new', 'n13', 'score')
    """
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60]
    plain = f"n{plain}" if plain[:1].isdigit() else plain or "score"
    while plain in taken or plain in NO_KEYS:
        plain += "_"
    return plain


def shown(number: float) -> str:
    """A line as it stands in a name: 13, 0_5.

    >>> shown(13.0), shown(0.5), shown(-2.5)
    ('13', '0_5', 'minus_2_5')
    """
    return f"{number:g}".replace("-", "minus_").replace(".", "_").replace("+", "")


def quoted(text: str) -> str:
    """Text as YAML takes it anywhere: JSON strings are YAML."""
    return json.dumps(text, ensure_ascii=True)


def pointer(column: str) -> str:
    """The pointer to a field of the event's data that has the column's name."""
    return quoted("/" + column.replace("~", "~0").replace("/", "~1"))


def segments(draft: Draft) -> dict[str, str]:
    """Column -> the name of its segment."""
    found: dict[str, str] = {}
    for column in draft.groups:
        found[column] = key(column, frozenset(found.values()))
    return found


def free_word(word: str, values: tuple[str, ...]) -> str:
    """`other`, or something like it that no value says."""
    while word in values:
        word = f"({word})"
    return word


def harm_names(draft: Draft, policy: str) -> tuple[str, str]:
    """(where the truth is false and the decision true, the other way round)."""
    line = shown(draft.lines[policy])
    if draft.is_class:
        return f"wrongly_flagged_at_{line}", f"missed_at_{line}"
    return f"under_{line}_let_in", f"over_{line}_stopped"


def write(draft: Draft) -> str:
    """The config as YAML text."""
    return "\n".join([*_head(draft), *_meaning(draft), *_labels(draft), *_gates(draft), *_tail()]) + "\n"


def _head(draft: Draft) -> list[str]:
    unit = pointer(draft.user) if draft.user else "subject"
    lines = [
        f"# A draft, made from a table of scores: {quoted(draft.old)} against {quoted(draft.new)}. `shadow validate` accepts it.",
        "# Each comment says what was assumed. The models' addresses and the topics are yours to fill in.",
        f"rollout: {draft.name}",
        "",
        "events:",
        "  topic: events                    # the topic with what your models score, as CloudEvents",
        f"  unit: {unit}   # who is counted once: an attribute of the event, or a pointer into its data",
    ]
    if draft.groups:
        lines.append("  segments:")
    for column, name in segments(draft).items():
        values = draft.groups[column]
        listed = ", ".join(map(quoted, values))
        words = f"other: {quoted(free_word('other', values))}, missing: {quoted(free_word('unknown', values))}"
        lines.append(f"    {name}: {{field: {pointer(column)}, values: [{listed}], {words}}}")
        if column not in draft.closed:
            lines[-1] += "   # the largest; all others are one"
    return lines


def _meaning(draft: Draft) -> list[str]:
    low, high = draft.span
    unit = f"unit: {draft.unit}, " if draft.unit else ""
    readers = f"incumbent: {{field: {pointer(draft.old)}}}, challenger: {{field: {pointer(draft.new)}}}"
    found = [
        "",
        "models:",
        '  incumbent: {uri: "http://old-model:8000/predict", timeout: 300ms}    # or python:module:function, or recorded:FILE.jsonl',
        '  challenger: {uri: "http://new-model:8000/predict", timeout: 300ms}',
        "",
        "outputs:                           # range: what the score can be, here from the table; outside is a bad answer",
        f"  {draft.output}: {{type: number, {unit}range: [{low:g}, {high:g}], {readers}}}",
        "",
        "policies:                          # true at or over the line",
    ]
    return found + [f"  {policy}: {{output: {draft.output}, at_least: {line:g}}}" for policy, line in draft.lines.items()]


def _labels(draft: Draft) -> list[str]:
    if draft.truth is None:
        return ["", "# no column of truth was named: without outcomes no gate can say which model is right, only where they differ"]
    found = ["", "harms:                             # among events of this truth, the share that gets this decision"]
    for policy in draft.lines:
        false_true, true_false = harm_names(draft, policy)
        found.append(f"  {false_true}: {{policy: {policy}, truth: false, decision: true}}")
        found.append(f"  {true_false}: {{policy: {policy}, truth: true, decision: false}}")
    truth = f"truth: {{{draft.output}: {pointer(draft.truth)}}}"
    return [*found, "", "outcomes:                          # matures: longer than your slowest label takes",
            f"  {{topic: outcomes, event: /event_id, {truth}, matures: 14d}}"]  # fmt: skip


def _gates(draft: Draft) -> list[str]:
    head = f"gates:                             # the margin of {MARGIN:g} (10 of 1,000 people) is a guess: say what you can bear"
    found = ["", "sample: {percent: 100}", "pairing: {window: 30s}", "", head]
    each = f", each: [{', '.join(segments(draft).values())}]" if draft.groups else ""
    for policy, line in draft.lines.items():
        if draft.truth is not None:
            first, second = harm_names(draft, policy)
            if draft.is_class:
                first, second = second, first
            for harm, then in ((first, ""), (second, ", on_fail: hold")):
                found.append(f"  - {{name: {gate_name(harm)}, metric: {{harm: {harm}}}, worse_by_at_most: {MARGIN:g}{each}{then}}}")
        found.append(f"  - {{name: few decisions change at {line:g}, metric: {{flip: {policy}}}, below: {MOST_FLIPS:g}, on_fail: hold}}")
    if draft.loss is not None:
        kind, margin = draft.loss
        metric = f"{{loss: {kind}, output: {draft.output}}}"
        found.append(f"  - {{name: guesses no worse, metric: {metric}, worse_by_at_most: {margin:g}}}   # a twentieth of the old model's")
    found.append("  - {name: it answers, metric: {missing: challenger}, below: 0.01}")
    return [
        *found,
        "  # - {name: it is fast, metric: {latency: p99, lane: challenger}, below: 250ms}   # a table of scores has no latencies",
    ]


def gate_name(harm: str) -> str:
    """The name of the gate of a harm."""
    return f"no more {humanised(harm)}"


def _tail() -> list[str]:
    return ["", "alpha: 0.05                        # chance of any false alarm", "stages:", "  - {shadow: {percent: 100}, at_least: 24h}",
            "  - {promote: {bake: 7d}}"]  # fmt: skip
