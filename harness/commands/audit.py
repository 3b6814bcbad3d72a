"""Audit: computes again what a chain of records says, from records.jsonl and the archives alone. No store, no bus.

Three levels: `chain` (hashes, and moves that may follow each other), `statistics` (the gates from the recorded sums), `pairs` (the gates
and every count from the sealed pairs, under the config of the first record).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from analysis.types import GateResult, InputError
from harness import config
from harness.commands.analyze import table_of
from harness.core import dossier
from harness.core.chain import from_line
from harness.core.errors import ConfigError, RecordError, UsageError
from harness.core.records import digest, parse
from harness.core.rollout import Rollout
from harness.core.sealed import Sealed
from harness.core.stages import Record, State, fold, still_wanted
from harness.core.verdicts import row_document
from harness.ports.archive import Archive
from harness.ports.journal import ROOT, Link
from harness.roles.sealing import from_sums, in_stage, refold

LEVELS = ("chain", "statistics", "pairs")
AGREES, NOT_CHECKED, DISAGREES = 0, 3, 4
DIGITS = 1e-12
FORWARD = ("entered", "promoted")
Differing = tuple[str, Any, Any]
"""What, what was found, what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One thing that is not as it must be. record: its number, from 0; None for the chain as a whole."""

    record: int | None
    what: str
    found: Any
    expected: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How far one decision was checked, and why no further. absent: its record names an archive that is not there."""

    record: int
    kind: str
    level: str
    why: str | None = None
    absent: bool = False


@dataclass(slots=True)
class Audit:
    """What an audit found. later: records behind the newest anchored head that was given; None without one."""

    rollout: str
    records: int
    head: str
    decisions: list[Checked] = field(default_factory=list)
    disagreements: list[Disagreement] = field(default_factory=list)
    later: int | None = None

    @property
    def level(self) -> str:
        """The level that every decision reached; the chain's where there is no decision."""
        return LEVELS[min((LEVELS.index(found.level) for found in self.decisions), default=0)]

    @property
    def exit_code(self) -> int:
        """0: all that could be checked agrees; 3: so it does, but an archive that a record names is not there; 4: something disagrees."""
        if self.disagreements:
            return DISAGREES
        return NOT_CHECKED if any(found.absent for found in self.decisions) else AGREES

    def document(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "rollout": self.rollout, "records": self.records, "head": self.head, "level": self.level, "later": self.later,
            "decisions": [{"record": d.record, "kind": d.kind, "level": d.level, "why": d.why} for d in self.decisions],
            "disagreements": [{"record": d.record, "what": d.what, "found": d.found, "expected": d.expected} for d in self.disagreements],
        }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------------- files
def read_lines(path: Path) -> list[Link]:
    """The chain of a records.jsonl, as it stands there: nothing is checked yet. Raises UsageError naming file and line."""
    try:
        lines = [text for text in path.read_bytes().splitlines() if text.strip()]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    found = []
    for number, text in enumerate(lines, 1):
        try:
            hash, previous, body = from_line(text)
        except RecordError as error:
            raise UsageError(f"{path}: line {number}: {error}") from None
        found.append(Link(hash=hash, previous=previous, body=body))
    if not found:
        raise UsageError(f"{path}: no record in it; `shadow audit records ROLLOUT -o FILE` writes them")
    return found


def readable(links: Sequence[Link]) -> tuple[list[tuple[Record, str]], list[Rollout | None]]:
    """(the (record, hash) pairs of a chain, the question that stood at each: the one registered or last amended), to show it.

    Of what cannot be read nothing is left.
    """
    ignored = Audit(rollout="?", records=len(links), head="")
    chain, asked = [], list[Rollout | None]()
    for number, link in enumerate(links):
        record = _record(number, link, ignored)
        asks = record.get("kind") in ("registered", "amended")
        asked.append(_config({**record, "kind": "registered"}, ignored) if asks else asked[-1] if asked else None)
        chain.append((record, link.hash))
    return chain, asked


# ------------------------------------------------------------------------------------------------------------------------ verify
def verify(links: Sequence[Link], archive: Archive | None, *, heads: Sequence[str] = (), level: str = "pairs") -> Audit:
    """Checks a chain, with at least one record, up to a level. heads: hashes that were anchored elsewhere: each must be in the chain."""
    audit = Audit(rollout="?", records=len(links), head=links[-1].hash)
    _hashes(links, heads, audit)
    records = [_record(number, link, audit) for number, link in enumerate(links)]
    rollout = _config(records[0], audit)
    if rollout is not None:
        audit.rollout = rollout.name
    state: State | None = State()
    chain: list[tuple[Record, str]] = []
    for number, (record, link) in enumerate(zip(records, links, strict=True)):
        if record.get("kind") == "amended":
            rollout = _config(record, audit, number) or rollout
        if record.get("evidence") is not None:
            _decision(_Deciding(number, record, rollout, state, chain, archive, level), audit)
        state = _moved(state, record, link.hash, number, audit)
        chain.append((record, link.hash))
    return audit


def _hashes(links: Sequence[Link], heads: Sequence[str], audit: Audit) -> None:
    before = ROOT
    for number, link in enumerate(links):
        if link.previous != before:
            what = "the hash before it: a record is missing, was put in or was moved"
            audit.disagreements.append(Disagreement(record=number, what=what, found=link.previous, expected=before))
        computed = digest(link.previous, link.body)
        if link.hash != computed:
            what = "its own hash: the record was changed after it was written"
            audit.disagreements.append(Disagreement(record=number, what=what, found=link.hash, expected=computed))
        before = link.hash
    there = {link.hash: number for number, link in enumerate(links)}
    for head in heads:
        if head not in there:
            what = "the anchored head: the chain was cut off or written anew"
            audit.disagreements.append(Disagreement(record=None, what=what, found=audit.head, expected=head))
    known = [there[head] for head in heads if head in there]
    audit.later = len(links) - 1 - max(known) if known else None


def _record(number: int, link: Link, audit: Audit) -> Record:
    try:
        return parse(link.body)
    except RecordError:
        audit.disagreements.append(Disagreement(record=number, what="a record", found="other bytes", expected="a JSON object"))
        return {}


def _config(first: Record, audit: Audit, number: int = 0) -> Rollout | None:
    """The rollout of the first record, or of the one that amended it; None when it has none that can be used."""

    def wrong(what: str, found: object, expected: object) -> None:
        audit.disagreements.append(Disagreement(record=number, what=what, found=found, expected=expected))

    document = first.get("config")
    if first.get("kind") != ("amended" if number else "registered") or not isinstance(document, dict):
        wrong("the first record", first.get("kind"), "registered, with the config")
        return None
    try:
        rollout = config.parse(document, source="the registered config", folder=Path(str(first.get("folder", "."))))
    except ConfigError as error:
        wrong("the registered config", str(error), "a config that can be read")
        return None
    if first.get("sha256") != rollout.sha256:
        wrong("sha256 of the registered config", first.get("sha256"), rollout.sha256)
    return rollout


def _moved(state: State | None, record: Record, head: str, number: int, audit: Audit) -> State | None:
    """The state after a record; None from the first that cannot follow."""
    if state is None:
        return None
    try:
        return fold(state, record, head=head)
    except (RecordError, KeyError, TypeError, AttributeError) as error:
        said = str(error) if isinstance(error, RecordError) else f"{record.get('kind')} without its {error}"
        audit.disagreements.append(Disagreement(record=number, what="the move", found=said, expected="one that may follow"))
        return None


# --------------------------------------------------------------------------------------------------------------- one decision
@dataclass(frozen=True, slots=True)
class _Deciding:
    """A decision with everything it is checked against: the state and the chain before it."""

    number: int
    record: Record
    rollout: Rollout | None
    state: State | None
    chain: Sequence[tuple[Record, str]]
    archive: Archive | None
    level: str


def _decision(at: _Deciding, audit: Audit) -> None:
    kind = str(at.record.get("kind"))
    why = "no config to compute with" if at.rollout is None else None if "reproduction" in at.record else "it says nothing to compute with"
    if at.rollout is None or why is not None:
        audit.decisions.append(Checked(record=at.number, kind=kind, level="chain", why=why))
        return
    try:
        found = _levels(at, at.rollout, audit)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"its parts ({type(error).__name__}: {error})"
        audit.disagreements.append(Disagreement(record=at.number, what=what, found="others", expected="those of this release"))
        found = "chain", "its parts cannot be read", False
    level, why, absent = found
    audit.decisions.append(Checked(record=at.number, kind=kind, level=level, why=why, absent=absent))


def _levels(at: _Deciding, rollout: Rollout, audit: Audit) -> tuple[str, str | None, bool]:
    """(level reached, why no further, whether an archive is absent) of one decision."""

    def differ(found: Iterable[Differing]) -> None:
        audit.disagreements += [Disagreement(record=at.number, what=what, found=a, expected=b) for what, a, b in found]

    differ(_question(at, rollout))
    if at.level == "chain":
        return "chain", "no further level was asked for", False
    evidence, proof = at.record["evidence"], at.record["reproduction"]
    if evidence["sums"] is None:
        return "chain", proof["no_archive"] or "it has no sums", False
    try:
        rows = from_sums(rollout, evidence["sums"], stage=at.record["population"]["stage_index"], attempt=_attempt(at))
    except RecordError as error:
        differ([("evidence.sums", str(error), "sums of the registered gates")])
        return "chain", str(error), False
    differ(_gates(rollout, evidence["gates"], rows, "from the recorded sums"))
    differ(_allowed(at, rollout, evidence["gates"]))
    if at.level == "statistics" or proof["archive"] is None:
        return "statistics", proof["no_archive"] or "no further level was asked for", False
    return _pairs(at, rollout, differ)


def _pairs(at: _Deciding, rollout: Rollout, differ: Callable[[Iterable[Differing]], None]) -> tuple[str, str | None, bool]:
    sha256 = at.record["reproduction"]["archive"]
    if at.archive is None:
        return "statistics", "no folder of archives was named", True
    try:
        columns, of = at.archive.open(sha256)
    except RecordError as error:
        differ([("the archive", str(error), sha256)])
        return "statistics", "its archive was changed", False
    except UsageError as error:
        return "statistics", str(error), True
    population = at.record["population"]
    wanted = Sealed(
        rollout=rollout.name, config_sha256=rollout.sha256, as_of=population["as_of"], stage_index=population["stage_index"],
        since=population["since"],
    )  # fmt: skip
    if of != wanted:
        differ(_paths(asdict(of), asdict(wanted), "what the archive is of: "))
        return "statistics", "its archive is that of another decision", False
    look = dossier.as_of(at.record)
    try:
        table = in_stage(table_of(rollout, columns, source="the archive"), of)
        again = refold(rollout, table, as_of=look if look is not None else -1, stage=of.stage_index, attempt=_attempt(at))
    except (UsageError, InputError) as error:
        differ([("the archive's pairs", str(error), "pairs of the registered config")])
        return "statistics", "its archive cannot be folded under the registered config", False
    differ(_gates(rollout, at.record["evidence"]["gates"], again.rows, "from the sealed pairs"))
    counted = dossier.facts(rollout, table, as_of=look if look is not None else -1)
    differ(_paths(dossier.compared(at.record), counted, "facts, from the sealed pairs: "))
    return "pairs", None, False


def _attempt(at: _Deciding) -> int:
    """Which attempt of the rollout a decision is of."""
    return at.state.attempt if at.state is not None else 0


def _question(at: _Deciding, rollout: Rollout) -> Iterator[Differing]:
    """That the question is the one that was registered, and that who approved and waived is what the chain says."""
    question = at.record["question"]
    if question["config_sha256"] != rollout.sha256:
        yield "question.config_sha256", question["config_sha256"], rollout.sha256
    if question["registered"] != at.chain[0][1]:
        yield "question.registered", question["registered"], at.chain[0][1]
    yield from _paths(at.record["authority"], dossier.authority(at.chain), "authority: ")


def _allowed(at: _Deciding, rollout: Rollout, gates: Sequence[Mapping[str, Any]]) -> Iterator[Differing]:
    """That a move forward had every gate, waived by two or passed, and its approvals."""
    if at.record["kind"] not in FORWARD or at.state is None:
        return
    look = dossier.as_of(at.record)
    waived = at.state.waived(-1 if look is None else look)
    passed = {row["name"]: row["status"] for row in gates if row["segment"] is None}
    for gate in rollout.gates_of(at.state.stage):
        if gate.counted and gate.name not in waived and passed.get(gate.name) != "pass":
            yield f"gate {gate.name} at a move forward", passed.get(gate.name), "pass"
    if at.record["kind"] == "entered" and at.state.stage + 1 < len(rollout.stages):
        wanted = still_wanted(rollout.stages[at.state.stage + 1], at.state)
        if wanted is not None:
            yield "approvals at a move forward", wanted, "all that the config asks for"


# ------------------------------------------------------------------------------------------------------------------- comparing
def _gates(
    rollout: Rollout, recorded: Sequence[Mapping[str, Any]], rows: Sequence[GateResult], how: str
) -> Iterator[Differing]:
    """Recorded rows that are not those computed again; rows of a canary's two arms do not come from pairs, and stand as recorded."""
    online = {gate.name for gate in rollout.gates if gate.metric.group == "online"}
    said = {(row["name"], _words(row["segment"])): row for row in recorded if row["name"] not in online}
    computed = {(row.name, _words(row.segment)): row_document(row) for row in rows if row.name not in online}
    for key in [*computed, *(key for key in said if key not in computed)]:
        place = f"gate {' '.join(filter(None, key))}, {how}: "
        if key not in said or key not in computed:
            yield f"{place}row", "none" if key not in said else "a row", "a row" if key in computed else "none"
        else:
            yield from _paths(said[key], computed[key], place)


def _words(segment: Mapping[str, str] | None) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted((segment or {}).items()))


def _paths(found: Any, expected: Any, place: str) -> Iterator[Differing]:
    """Every place at which two plain documents differ: counts and words exactly, other numbers at 12 digits."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for name in [*expected, *(name for name in found if name not in expected)]:
            yield from _paths(found.get(name), expected.get(name), f"{place}{'' if place.endswith(' ') else '.'}{name}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for number, (a, b) in enumerate(zip(found, expected, strict=True)):
            yield from _paths(a, b, f"{place}[{number}]")
    elif not _same(found, expected):
        yield place, found, expected


def _same(a: Any, b: Any) -> bool:
    if type(a) is type(b) is int or not (_number(a) and _number(b)):
        return type(a) is type(b) and bool(a == b)
    return math.isclose(a, b, rel_tol=DIGITS, abs_tol=DIGITS)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

