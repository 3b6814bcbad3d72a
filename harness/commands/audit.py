"""Audit: computes again what a chain of records says, from records.jsonl and the archives alone. No store, no bus.

Three levels: `chain` (hashes, and moves that may follow each other), `statistics` (the gates from the recorded sums), `pairs` (the gates
and every count from the sealed pairs and observations, under the config of the first record). One decision: `commands.recompute`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import config
from harness.commands.recompute import LEVELS, Deciding, Differing, Reached, levels
from harness.core.chain import from_line
from harness.core.errors import ConfigError, RecordError, UsageError
from harness.core.records import digest, parse
from harness.core.rollout import Rollout
from harness.core.stages import Record, State, fold
from harness.ports.archive import Archive
from harness.ports.journal import ROOT, Link

AGREES, NOT_CHECKED, DISAGREES = 0, 3, 4


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
    """What an audit found. later: records behind the newest anchored head that was given; None without one. unsealed: people's words,
    by record, for which nothing was sealed: not yet, or because a new attempt began."""

    rollout: str
    records: int
    head: str
    decisions: list[Checked] = field(default_factory=list)
    disagreements: list[Disagreement] = field(default_factory=list)
    later: int | None = None
    unsealed: list[int] = field(default_factory=list)

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
            "unsealed": self.unsealed,
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
            _decision(Deciding(number, record, rollout, state, chain, archive, level), audit)
        state = _moved(state, record, link.hash, number, audit)
        chain.append((record, link.hash))
    audit.unsealed = _unsealed(chain)
    return audit


def _unsealed(chain: Sequence[tuple[Record, str]]) -> list[int]:
    """The records of people who saw a verdict that no record behind them has sealed."""
    sealed = {record.get("of") for record, _ in chain if record.get("kind") == "sealed" and record.get("evidence") is not None}
    seen = [(n, record.get("seen"), hash) for n, (record, hash) in enumerate(chain)]
    return [n for n, what, hash in seen if isinstance(what, Mapping) and what.get("as_of") is not None and hash not in sealed]


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
def _decision(at: Deciding, audit: Audit) -> None:
    """Checks a decision as far as that goes, and notes how far that was."""
    kind = str(at.record.get("kind"))
    why = "no config to compute with" if at.rollout is None else None if "reproduction" in at.record else "it says nothing to compute with"
    if at.rollout is None or why is not None:
        audit.decisions.append(Checked(record=at.number, kind=kind, level="chain", why=why))
        return
    found = list[Differing]()
    try:
        reached = levels(at, at.rollout, found.extend)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        found.append((f"its parts ({type(error).__name__}: {error})", "others", "those of this release"))
        reached = Reached("chain", "its parts cannot be read")
    audit.disagreements += [Disagreement(record=at.number, what=what, found=a, expected=b) for what, a, b in found]
    audit.decisions.append(Checked(record=at.number, kind=kind, level=reached.level, why=reached.why, absent=reached.absent))
