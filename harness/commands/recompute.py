"""One decision of a chain computed again: from the recorded sums, from the sealed pairs, and from what was observed of its canary."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from analysis.types import GateResult, InputError
from harness.commands.analyze import table_of
from harness.core import dossier
from harness.core.errors import RecordError, UsageError
from harness.core.rollout import Rollout
from harness.core.sealed import Sealed
from harness.core.stages import FORWARD, Record, State, still_wanted
from harness.core.verdicts import row_document
from harness.ports.archive import Archive
from harness.roles.recount import Asked, recount
from harness.roles.sealing import NO_LOOK, from_sums, in_stage, refold

LEVELS = ("chain", "statistics", "pairs")
AS_RECORDED = "the gates of two arms and the people served stand as recorded: its release sealed no observations"
Differing = tuple[str, Any, Any]
"""What, what was found, what was expected."""
Content = TypeVar("Content")
_Differ = Callable[[Iterable[Differing]], None]


@dataclass(frozen=True, slots=True)
class Deciding:
    """A decision with everything it is checked against: the state and the chain before it."""

    number: int
    record: Record
    rollout: Rollout | None
    state: State | None
    chain: Sequence[tuple[Record, str]]
    archive: Archive | None
    level: str


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a decision was checked, why no further, and whether an archive that it names is not there."""

    level: str
    why: str | None = None
    absent: bool = False


def levels(at: Deciding, rollout: Rollout, differ: _Differ) -> Reached:
    """Checks one decision as far as it was asked for and can be; tells `differ` everything that is not as it must be.

    Raises KeyError, TypeError, AttributeError or ValueError for a record whose parts are not as this release writes them.
    """
    if at.record["kind"] == "sealed":
        at = _of_word(at, differ)
    differ(_question(at, rollout))
    if at.level == "chain":
        return Reached("chain", "no further level was asked for")
    differ(_kept(at, rollout))
    evidence, proof = at.record["evidence"], at.record["reproduction"]
    seen = _observed(at, rollout, differ) if at.level == "pairs" else Reached("statistics")
    if evidence["sums"] is None:
        return Reached("chain", proof["no_archive"] or "it has no sums", seen.absent)
    try:
        rows = from_sums(rollout, evidence["sums"], stage=at.record["population"]["stage_index"], attempt=_attempt(at))
    except RecordError as error:
        differ([("evidence.sums", str(error), "sums of the registered gates")])
        return Reached("chain", str(error), seen.absent)
    differ(_gates(rollout, evidence["gates"], rows, "from the recorded sums", online=False))
    differ(_allowed(at, rollout, evidence["gates"]))
    if at.level == "statistics" or proof["archive"] is None:
        return Reached("statistics", proof["no_archive"] or "no further level was asked for", seen.absent)
    pairs = _pairs(at, rollout, differ)
    return Reached(min(pairs.level, seen.level, key=LEVELS.index), pairs.why or seen.why, pairs.absent or seen.absent)


def _of_word(at: Deciding, differ: _Differ) -> Deciding:
    """A record that seals what a person saw, checked against that person's record: it is judged with the people's words up to it."""
    place = next((n for n, (_, hash) in enumerate(at.chain) if hash == at.record["of"]), None)
    seen = None if place is None else at.chain[place][0].get("seen")
    if place is None or not isinstance(seen, Mapping):
        differ([("of", at.record["of"], "the hash of a record before, of a person who saw a verdict")])
        return at
    population, evidence = at.record["population"], at.record["evidence"]
    names = ("as_of", "stage_index", "since")
    differ(_paths({name: population[name] for name in names}, {name: seen[name] for name in names}, "what was seen: "))
    differ(_paths(at.record["unlike"], dossier.unlike(seen["gates"], evidence["gates"]), "unlike"))
    return replace(at, chain=at.chain[: place + 1])


# ---------------------------------------------------------------------------------------------------------------- from archives
def _pairs(at: Deciding, rollout: Rollout, differ: _Differ) -> Reached:
    """The gates and every count from the sealed pairs."""
    opened = _opened(at, rollout, at.record["reproduction"]["archive"], lambda kept, sha256: kept.open(sha256), differ, "the archive")
    if isinstance(opened, Reached):
        return opened
    columns, of = opened
    look = dossier.as_of(at.record)
    try:
        table = in_stage(table_of(rollout, columns, source="the archive"), of)
        again = refold(rollout, table, as_of=look if look is not None else -1, stage=of.stage_index, attempt=_attempt(at))
    except (UsageError, InputError) as error:
        differ([("the archive's pairs", str(error), "pairs of the registered config")])
        return Reached("statistics", "its archive cannot be folded under the registered config")
    differ(_gates(rollout, at.record["evidence"]["gates"], again.rows, "from the sealed pairs", online=False))
    counted = dossier.facts(rollout, table, as_of=look if look is not None else -1)
    differ(_paths(dossier.compared(at.record), counted, "facts, from the sealed pairs: "))
    return Reached("pairs")


def _observed(at: Deciding, rollout: Rollout, differ: _Differ) -> Reached:
    """The gates on two arms, the split, and how many people were served, from what was observed of the canary."""
    proof = at.record["reproduction"]
    if rollout.exposures is None:
        return Reached("pairs")
    if "observations" not in proof:
        return Reached("pairs", AS_RECORDED)
    if proof["observations"] is None:
        return Reached("statistics", proof["no_observations"])
    if at.state is None:
        return Reached("statistics", "the stages before it cannot be followed")
    what = "the archive of observations"
    opened = _opened(at, rollout, proof["observations"], lambda kept, sha256: kept.open_observations(sha256), differ, what)
    if isinstance(opened, Reached):
        return opened
    try:
        again = recount(rollout, opened[0], Asked.of(at.record["evidence"], at.state.spans))
    except InputError as error:
        differ([("the archive's observations", str(error), "observations of the registered config")])
        return Reached("statistics", "its observations cannot be folded under the registered config")
    evidence, how = at.record["evidence"], "from the sealed observations"
    differ(_gates(rollout, evidence["gates"], again.rows, how, online=True))
    found = {"arms": evidence["arms"], "exposed": evidence["exposed"], "people.exposed": at.record["people"]["exposed"]}
    expected = {"arms": again.arms, "exposed": again.exposed, "people.exposed": again.exposed}
    differ(_paths(found, expected, f"facts, {how}: "))
    return Reached("pairs")


def _opened(
    at: Deciding, rollout: Rollout, sha256: str, opens: Callable[[Archive, str], tuple[Content, Sealed]], differ: _Differ, what: str
) -> tuple[Content, Sealed] | Reached:
    """What an archive holds, if its bytes are what was sealed and it is of this decision."""
    if at.archive is None:
        return Reached("statistics", "no folder of archives was named", absent=True)
    try:
        content, of = opens(at.archive, sha256)
    except RecordError as error:
        differ([(what, str(error), sha256)])
        return Reached("statistics", f"{what} was changed")
    except UsageError as error:
        return Reached("statistics", str(error), absent=True)
    population = at.record["population"]
    wanted = Sealed(
        rollout=rollout.name, config_sha256=rollout.sha256, as_of=population["as_of"] or NO_LOOK, stage_index=population["stage_index"],
        since=population["since"],
    )  # fmt: skip
    if of != wanted:
        differ(_paths(asdict(of), asdict(wanted), f"what {what} is of: "))
        return Reached("statistics", f"{what} is that of another decision")
    return content, of


# ------------------------------------------------------------------------------------------------------------------- the record
def _attempt(at: Deciding) -> int:
    """Which attempt of the rollout a decision is of."""
    return at.state.attempt if at.state is not None else 0


def _kept(at: Deciding, rollout: Rollout) -> Iterator[Differing]:
    """That a record without an archive of observations is one of a release that made none, and not one that lost its name."""
    if rollout.exposures is None or "observations" in at.record["reproduction"]:
        return
    before = any("observations" in (record.get("reproduction") or {}) for record, _ in at.chain)
    named, online = set(at.record["evidence"]["not_in_archive"]), {gate.name for gate in rollout.gates if gate.metric.group == "online"}
    if before or any(row["name"] in online - named for row in at.record["evidence"]["gates"]):
        yield "reproduction.observations", "none", "the SHA-256 of what was observed, or null"


def _question(at: Deciding, rollout: Rollout) -> Iterator[Differing]:
    """That the question is the one that was registered, and that who approved and waived is what the chain says."""
    question = at.record["question"]
    if question["config_sha256"] != rollout.sha256:
        yield "question.config_sha256", question["config_sha256"], rollout.sha256
    if question["registered"] != at.chain[0][1]:
        yield "question.registered", question["registered"], at.chain[0][1]
    yield from _paths(at.record["authority"], dossier.authority(at.chain), "authority: ")


def _allowed(at: Deciding, rollout: Rollout, gates: Sequence[Mapping[str, Any]]) -> Iterator[Differing]:
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
    rollout: Rollout, recorded: Sequence[Mapping[str, Any]], rows: Sequence[GateResult], how: str, *, online: bool
) -> Iterator[Differing]:
    """Recorded rows that are not those computed again: those of a canary's two arms (`online`), or all others."""
    names = {gate.name for gate in rollout.gates if (gate.metric.group == "online") is online}
    said = {(row["name"], _words(row["segment"])): row for row in recorded if row["name"] in names}
    computed = {(row.name, _words(row.segment)): row_document(row) for row in rows if row.name in names}
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
    return math.isclose(a, b, rel_tol=dossier.DIGITS, abs_tol=dossier.DIGITS)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

