"""The chain of records in plain words: one section a record, for the terminal and for paper. Shows what is recorded, and checks nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.figures.gates import GateRow, gate_intervals
from analysis.types import Gate
from harness.core.rollout import Rollout
from harness.pages.arms import exposed_lines
from harness.pages.numbers import UNKNOWN, count, per_thousand, scale_of
from harness.pages.words import REASONS, RESULTS, asked_gates, gate_asks, humanised, listed, segment_words

if TYPE_CHECKING:
    from rich.console import RenderableType

Record = Mapping[str, Any]
MOST_PLACES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLine:
    """A gate, or one value of what it is split by, as it was recorded."""

    name: str
    asks: str
    estimate: str
    interval: str
    limit: str
    units: str
    status: str
    result: str
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One record: what happened, when, by whom and why; then facts under their headings; then gates."""

    number: int
    kind: str
    title: str
    when: str
    who: str
    reason: str
    facts: tuple[tuple[str, tuple[str, ...]], ...]
    gates: tuple[GateLine, ...]
    hash: str


def sections(chain: Sequence[tuple[Record, str]], asked: Sequence[Rollout | None]) -> list[Section]:
    """A section for each (record, hash), oldest first. Of a record that lacks a part, the part is left out.

    asked: the question that stood at each record; None when it cannot be read: gates are then left out.
    """
    found = enumerate(zip(chain, asked, strict=True))
    return [_section(number, record, hash, rollout) for number, ((record, hash), rollout) in found]


def _section(number: int, record: Record, hash: str, rollout: Rollout | None) -> Section:
    by = _part(record, "by")
    role = f" ({by['role']})" if by.get("role") else ""
    via = f", from {by['via']}" if by.get("via") else ""
    return Section(
        number=number, kind=str(record.get("kind")), title=_title(record, rollout), when=str(record.get("at") or UNKNOWN),
        who=f"{by.get('name') or 'nobody'}{role}{via}", reason=str(record.get("reason") or ""), hash=hash,
        facts=tuple((heading, tuple(lines)) for heading, lines in _readable(record, rollout) if lines),
        gates=tuple(_gates(record, rollout)) if rollout is not None else (),
    )  # fmt: skip


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def _title(record: Record, rollout: Rollout | None) -> str:
    """What happened, as a sentence without its end."""
    kind, stage = str(record.get("kind")), record.get("stage")
    words = {
        "registered": "The question was registered, before the first look",
        "amended": "The question was changed: a new attempt begins, with nothing of the one before",
        "approved": f"The next stage was approved: {_stage(stage, rollout)}",
        "waived": f"One word for waiving the gate “{record.get('gate')}” until {record.get('expires')}; it takes two people",
        "entered": f"The next stage was entered: {_stage(stage, rollout)}",
        "paused": "The rollout was paused",
        "resumed": "The rollout was resumed",
        "promoted": "The challenger was promoted: it decides from now on",
        "rolled_back": "The rollout was stopped: the incumbent decides",
        "expired": "The rollout expired without an answer",
        "yielded": "The seat among several challengers was given back: the stage for which it was taken was not entered",
        "sealed": "What a person had seen was sealed",
        "forgot": f"A unit was forgotten: {record.get('rows', 0)} rows were taken out of the store",
    }
    return words.get(kind, humanised(kind))


def _stage(stage: object, rollout: Rollout | None) -> str:
    if rollout is None or not isinstance(stage, int) or not 0 <= stage < len(rollout.stages):
        return f"stage {stage}" if stage is not None else "the one that follows"
    found = rollout.stages[stage]
    percent = f" at {found.percent:g} %" if found.kind == "canary" else ""
    return f"{found.kind}{percent} (stage {stage} of {len(rollout.stages) - 1})"


# --------------------------------------------------------------------------------------------------------------------------- facts
def _readable(record: Record, rollout: Rollout | None) -> Iterator[tuple[str, list[str]]]:
    """The facts; one that is not as this product writes it says so, because a chain may come from anybody's hand."""
    for heading, told in _facts(record, rollout).items():
        try:
            yield heading, told()
        except (KeyError, TypeError, AttributeError, ValueError):
            yield heading, ["cannot be read: it is not as this release writes it"]


def _facts(record: Record, rollout: Rollout | None) -> dict[str, Callable[[], list[str]]]:
    """Heading -> its lines."""
    found: dict[str, Callable[[], list[str]]] = {}
    if record.get("kind") in ("registered", "amended") and rollout is not None:
        counted = {True: "", False: " (not counted)"}
        found["The question"] = lambda: [f"{g.name}: {gate_asks(rollout, g)}{counted[g.counted]}" for g in rollout.gates]
        found["The stages"] = lambda: [_stage(number, rollout) for number in range(len(rollout.stages))]
        reads = f"alpha {rollout.alpha:g}, read every {rollout.looks_s:g} s of record time"
        found["The config"] = lambda: [f"SHA-256 {record.get('sha256')}; {reads}"]
    if isinstance(record.get("seen"), Mapping):
        found["What was seen"] = lambda: _seen(_part(record, "seen"))
    if record.get("kind") == "sealed":
        found["What was seen"] = lambda: _sealed(record)
    if isinstance(record.get("evidence"), Mapping):
        found["The question"] = lambda: _question(_part(record, "question"))
        found["The models"] = lambda: _models(_part(record, "models"))
        found["The population"] = lambda: _population(_part(record, "population"))
        found["The labels"] = lambda: _labels(_part(record, "evidence"))
        found["The people"] = lambda: _people(_part(record, "people"))
        found["Who said so"] = lambda: _authority(_part(record, "authority"))
        found["To compute it again"] = lambda: _reproduction(_part(record, "reproduction"))
    elif "people" in record:
        found["The people"] = lambda: _people(_part(record, "people"))
    return found


def _seen(part: Mapping[str, Any]) -> list[str]:
    """What a person had before the eyes who approved, waived or went back."""
    if part.get("as_of") is None:
        return ["no look yet"]
    return [f"{part.get('verdict')} in stage {part.get('stage_index')}, as of {part['as_of']}"]


def _sealed(record: Record) -> list[str]:
    """Whose view a record seals, and which of its numbers are others by now."""
    lines = [f"by whoever made the record {record.get('of')}"]
    lines += [str(record["why"])] if record.get("why") else []
    return lines + ([f"by now another number: {listed(record['unlike'])}"] if record.get("unlike") else [])


def _question(part: Mapping[str, Any]) -> list[str]:
    if not part:
        return []
    looks = part.get("looks")
    lines = [f"registered at {part.get('registered_at')}, config SHA-256 {part.get('config_sha256')}"]
    lines += [f"the gates were read {count(looks)} times before this; their error rates hold for any number of looks"] if looks else []
    lines += [f"waived: {listed(part['waivers'])}"] if part.get("waivers") else []
    for one in part.get("amendments", []):
        lines.append(f"changed at {one.get('at')} by {one.get('name')}: {one.get('reason')}")
    return lines + ([f"dry runs, not counted: {listed(part['dry_run'])}"] if part.get("dry_run") else [])


def _models(part: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{lane}: {'versions ' + listed(found['versions']) if found.get('versions') else 'named no version'}"
        for lane, found in _part(part, "lanes").items()
    ]
    for policy, found in _part(part, "thresholds").items():
        for lane, line in _part(found, "lines").items():
            by = ", ".join(f"{value} for {name}" for name, value in line.get("values", {}).items())
            lines.append(f"{policy}, {lane}: at least {line['default']:g}" + (f" ({line['by']}: {by})" if by else ""))
    return lines


def _population(part: Mapping[str, Any]) -> list[str]:
    if part.get("rows") is None:
        return ["the pairs had expired when this was recorded"] if part else []
    rows, pairs = part["rows"], part["pairs"]
    lines = [
        f"{part.get('since') or 'the first event'} to {part.get('as_of')}: {count(rows)} events of {count(part['units'])} units, "
        f"{part.get('sample_percent'):g} % sampled; both models answered {count(pairs)}, {count(part['labelled'])} have a label"
    ]
    for segment, values in _part(part, "missing").items():
        worst = sorted(((_lost(found), word) for word, found in values.items()), reverse=True)[:MOST_PLACES]
        said = [f"{word} {per_thousand(share)}" for share, word in worst if share]
        lines += [f"without an answer of both, of 1,000 by {humanised(segment)}: {', '.join(said)}"] if said else []
    return lines


def _lost(found: Mapping[str, Any]) -> float:
    """The share of rows that the incumbent or the challenger, whichever lost more, did not answer."""
    lost = [sum(by.values()) for lane, by in found.items() if lane in ("incumbent", "challenger")]
    return float(max(lost, default=0) / max(found.get("rows", 0), 1))


def _labels(part: Mapping[str, Any]) -> list[str]:
    labels, coverage = part.get("labels"), _part(part, "coverage")
    if not labels:
        return []
    lines = [f"from {labels['topic']}, after {labels['matures_s'] / 3_600:g} h; the numbers speak of {labels['speak_of']}"]
    for policy, cells in coverage.items():
        bare = [f"{cell['incumbent']}, then {cell['challenger']}" for cell in cells if not cell["labels"]]
        lines.append(f"{policy}: {count(sum(c['labels'] for c in cells))} of {count(sum(c['pairs'] for c in cells))} pairs have a label")
        lines += [f"{policy}: nobody has checked {listed([f'“{cell}”' for cell in bare])}"] if bare else []
    return lines + ([f"could not be judged: {listed(part['not_judged'])}"] if part.get("not_judged") else [])


def _people(part: Mapping[str, Any]) -> list[str]:
    lines = []
    for policy, flips in _part(part, "flips").items():
        changed = {word: n for word, n in flips.items() if word != "pairs" and n}
        said = ", ".join(f"{count(n)} {word.replace('->', ' → ')}" for word, n in changed.items()) or "none"
        lines.append(f"{policy}: of {count(flips['pairs'])} pairs these decisions change: {said}")
    for segment, values in _part(part, "flips_by_segment").items():
        for policy in _part(part, "flips"):
            where = [f"{word} {per_thousand(share)}" for share, word in _shares(values, policy)[:MOST_PLACES] if share]
            lines += [f"{policy}, changed of 1,000 by {humanised(segment)}: {', '.join(where)}"] if where else []
    lines += exposed_lines(part)
    return lines + [f"{humanised(harm)}: {count(n)} among them" for harm, n in _part(part, "exposed_harms").items()]


def _shares(values: Mapping[str, Any], policy: str) -> list[tuple[float, str]]:
    """(share of pairs whose decision changes, segment value), the largest first."""
    found = []
    for word in values:
        by = values[word].get(policy, {})
        found.append((sum(n for name, n in by.items() if name != "pairs") / max(by.get("pairs", 0), 1), word))
    return sorted(found, reverse=True)


def _authority(part: Mapping[str, Any]) -> list[str]:
    lines = [f"the config is by {part['author']}, whose approval does not count"] if part.get("author") else []
    for said, what in ((part.get("approvals", []), "approved"), (part.get("waivers", []), "waived")):
        for one in said:
            gate = f" “{one['gate']}”" if "gate" in one else ""
            role = f" ({one['role']})" if one.get("role") else ""
            lines.append(f"{one.get('name')}{role} {what}{gate} at {one.get('at')}, from {one.get('via')}: {one.get('reason')}")
    return lines


def _reproduction(part: Mapping[str, Any]) -> list[str]:
    if not part:
        return []
    archive = part.get("archive")
    sealed = f"pairs sealed as {archive}.parquet" if archive else f"no pairs were sealed: {part.get('no_archive')}"
    seen = [f"what was observed of the canary sealed as {part['observations']}.parquet"] if part.get("observations") else []
    return [f"shadow-harness {part.get('code_version')}", sealed, *seen]


# --------------------------------------------------------------------------------------------------------------------------- gates
def _gates(record: Record, rollout: Rollout) -> Iterator[GateLine]:
    evidence = _part(record, "evidence") or _part(record, "seen")
    rows = evidence.get("gates")
    for figure in gate_intervals(asked_gates(rollout, evidence), rows) if rows else ():
        yield _gate_line(rollout, figure.gate, figure.whole, whole=True)
        yield from (_gate_line(rollout, figure.gate, row, whole=False) for row in figure.rows if row.segment)


def _gate_line(rollout: Rollout, gate: Gate, row: GateRow | None, *, whole: bool) -> GateLine:
    scale = scale_of(rollout, gate)
    limit = f"{scale.show(-gate.limit if gate.word == 'worse_by_at_most' else gate.limit)} {scale.unit}".strip()
    status = "undecided" if row is None else row.status
    result = RESULTS[status][1] + (f": {REASONS.get(row.reason, humanised(row.reason))}" if row is not None and row.reason else "")
    return GateLine(
        name=gate.name if whole or row is None else segment_words(row.segment or {}), asks=gate_asks(rollout, gate) if whole else "",
        estimate=UNKNOWN if row is None else scale.show(row.estimate), limit=limit, status=status, whole=whole,
        interval=UNKNOWN if row is None else f"[{scale.show(row.lower)}, {scale.show(row.upper)}]",
        units=UNKNOWN if row is None else count(row.n_units), result=result if gate.counted else f"{result}, not counted",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------------ two views
def render(chain: Sequence[tuple[Record, str]], asked: Sequence[Rollout | None]) -> str:
    """The chain as one HTML page that needs nothing else, has no script, and prints."""
    page = _templates().get_template("records.html.j2")
    rollout = next((found for found in asked if found is not None), None)
    name = rollout.name if rollout is not None else "a rollout whose config cannot be read"
    return page.render(name=name, sections=sections(chain, asked), head=chain[-1][1] if chain else UNKNOWN)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("harness.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def shown(chain: Sequence[tuple[Record, str]], asked: Sequence[Rollout | None]) -> Iterator[RenderableType]:
    """The same for a terminal, piece by piece."""
    from rich.table import Table
    from rich.text import Text

    for section in sections(chain, asked):
        yield Text(f"{section.number}  {section.title}", style="bold")
        yield Text(f"   {section.when}  {section.who}: {section.reason}")
        for heading, lines in section.facts:
            yield Text(f"   {heading}", style="dim")
            for line in lines:
                yield Text(f"     {line}")
        if section.gates:
            table = Table(box=None, pad_edge=False, header_style="dim")
            for column in ("     gate", "estimate", "interval", "limit", "units", "result"):
                table.add_column(column)
            for gate in section.gates:
                cells = (f"     {'' if gate.whole else '  '}{gate.name}", gate.estimate, gate.interval, gate.limit, gate.units, gate.result)
                table.add_row(*map(Text, cells))
            yield table
        yield Text(f"   hash {section.hash}", style="dim")
        yield Text("")
