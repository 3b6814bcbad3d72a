"""What a decision rests on, sealed: the pairs of its stage and what was observed of its canary, the gates folded again over them, and the
dossier of the record.

The numbers in a record are those of what is sealed, never those of a fold that nobody can repeat: when labels came between the look
and the seal, the gates are judged on what is sealed, and `agrees` says whether that gives the same results as the verdict.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from analysis.evidence import Evidence, combine
from analysis.packing import fill, keep, unpack
from analysis.types import GateResult, InputError, PairTable
from harness.core.dossier import SealedArms, dossier, facts, unlike
from harness.core.errors import Overrun, RecordError, Unavailable, UsageError
from harness.core.reading import microseconds
from harness.core.records import parse
from harness.core.rollout import Rollout
from harness.core.sealed import Sealed, of_stage, without_ids
from harness.core.stages import Record, Span, State, Word, folded
from harness.core.table import TableBuilder
from harness.core.verdicts import row_document
from harness.ports.archive import Archive
from harness.ports.journal import Journal
from harness.ports.observations import ObservationLog
from harness.ports.pairlog import PairLog
from harness.roles.analyst import plan_of
from harness.roles.prefix import first_stored
from harness.roles.recount import Asked, recount, rows_of

BATCH_ROWS = 32_768
NO_LOOK = ""  # of a decision before the first one
GROUPS = {"unlabelled": False, "labelled": True}
SUMS = ("counts.", "events.", "cells.")
BESIDE = (".said", ".squares", ".greatest")  # one array of each part that a row is computed from: planned, asymptotic, requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Refolded:
    """Gates over one table at one look: their rows, and the sums that the rows are computed from, by group (base64)."""

    rows: tuple[GateResult, ...]
    sums: Mapping[str, str]


def refold(rollout: Rollout, table: PairTable, *, as_of: int, stage: int, attempt: int) -> Refolded:
    """The gates of pairs and labels over the pairs of a stage up to a look (microseconds), in the order and with the looks of the
    analyst. Gates of a canary's two arms are not among them: they are not computed from pairs."""
    plan = plan_of(rollout, stage, attempt)
    grid, matures = int(rollout.looks_s * 1e6), int(rollout.outcomes.matures_s * 1e6) if rollout.outcomes else 0
    found = []
    for labelled, lag in ((False, 0), (True, matures)):
        evidence = Evidence(plan, labelled)
        rows = table.take(table["arrived"] <= as_of - lag)
        looks = np.union1d(-(-(rows["arrived"] + lag) // grid) * grid, [as_of])
        evidence.fold(rows, (looks - lag).astype(np.int64))
        found.append(evidence)
    sums = {name: base64.b64encode(_sums(found[labelled])).decode() for name, labelled in GROUPS.items()}
    return Refolded(rows=combine(plan, found[False], found[True]), sums=sums)


def _sums(evidence: Evidence) -> bytes:
    """What rows are computed from: sums and counts, what was decided at planned looks, sums of squares, labels asked for. Nothing of any
    unit."""
    state = evidence.to_bytes()
    beside = {name.rpartition(".")[0] + "." for name in unpack(state)[1] if name.endswith(BESIDE)}
    return keep(state, (*SUMS, *sorted(beside)))


def from_sums(rollout: Rollout, sums: Mapping[str, str], *, stage: int, attempt: int) -> tuple[GateResult, ...]:
    """The rows that recorded sums give, without any pair. Raises RecordError when they are no sums of this rollout's gates."""
    plan = plan_of(rollout, stage, attempt)
    found = []
    for name, labelled in GROUPS.items():
        try:
            data = base64.b64decode(sums[name], validate=True)
            found.append(Evidence.from_bytes(plan, labelled, fill(data, Evidence(plan, labelled).to_bytes())))
        except (InputError, KeyError, ValueError, TypeError, IndexError, binascii.Error) as error:
            raise RecordError(f"the recorded sums of the {name} gates cannot be read: {type(error).__name__}") from None
    return combine(plan, found[0], found[1])


def stage_table(rollout: Rollout, pair_logs: Sequence[PairLog], *, since: int, as_of: int) -> PairTable:
    """The pairs of a stage up to a look: since < arrived <= as_of, microseconds; -1 from the first event.

    Raises Overrun when some of them have expired.
    """
    builder = TableBuilder(rollout)
    runs = []
    for log in pair_logs:
        resolved = log.snapshot().head.resolved
        start, parts = first_stored(log, 0, resolved), []
        for at in range(start, resolved, BATCH_ROWS):
            records = builder.layout.records(log.rows(at, min(at + BATCH_ROWS, resolved)))
            if at == start and start > 0 and (since < 0 or int(records["arrived"][0]) > since):
                raise Overrun("pairs of this stage have expired: keep.pairs is shorter than the stage")
            parts.append(records[(records["arrived"] > since) & (records["arrived"] <= as_of)])
        if start == resolved > 0:
            raise Overrun("all pairs have expired: keep.pairs is shorter than the stage")
        words = log.words()
        runs += [(part, words) for part in parts if len(part)]
    return builder.build(runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evident:
    """The parts of a record, and whether what is sealed gives each gate the result that the verdict gives it; if not, which differ."""

    parts: Mapping[str, Any]
    differs: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether a move forward may rest on it."""
        return not self.differs


class Sealer:
    """Seals what a decision rests on. archive: None when there is no place for archives. observations: of a rollout with exposures."""

    def __init__(
        self, rollout: Rollout, *, pair_logs: Sequence[PairLog], archive: Archive | None, code_version: str,
        observations: ObservationLog | None = None,
    ) -> None:  # fmt: skip
        self._rollout, self._pair_logs, self._archive, self._code_version = rollout, pair_logs, archive, code_version
        self._observations = observations if rollout.exposures is not None else None

    def rests_on(self, journal: Journal, state: State, verdict: Mapping[str, Any]) -> Mapping[str, Any]:
        """`evidence` of a move from a state that was folded from this journal, as the controller asks for it."""
        chain = [(parse(link.body), link.hash) for link in journal.read()[: state.n_records]]
        return self.evidence(verdict, chain).parts

    def word(self, journal: Journal, state: State, word: Word) -> Mapping[str, Any]:
        """The keys of a record that seals what a person's word rests on: what was `seen` in it, folded again, with the people's words up
        to it; `unlike` names the gates of which a number is another one by now. Of what cannot be read it says so: it is a person's."""
        chain = [(parse(link.body), link.hash) for link in journal.read()[: state.n_records]]
        place = [hash for _, hash in chain].index(word.hash)
        try:
            seen = chain[place][0]["seen"]
            parts = self.evidence(seen, chain[: place + 1], spans=state.spans).parts
            return {"of": word.hash, "unlike": unlike(seen["gates"], parts["evidence"]["gates"]), **parts}
        except Unavailable:
            raise
        except Exception as error:
            structlog.get_logger().exception("seal.failed", rollout=self._rollout.name)
            return {"of": word.hash, "why": f"what was seen could not be folded again ({type(error).__name__})"}

    def evidence(
        self, verdict: Mapping[str, Any], chain: Sequence[tuple[Record, str]], *, spans: tuple[Span, ...] | None = None
    ) -> Evident:
        """What the record of a decision on this verdict holds, beside its kind, author and reason: to be written as its further keys.

        1 read the pairs of the stage up to the look, and what was observed of its canary   2 fold the gates again over them   3 seal them.
        A crash after 3 leaves archives that no record names. When pairs have expired or nothing can be sealed, the record says so and why:
        whoever stops a rollout does not wait for it, also not for an error of ours. `evidence.differs` has the gates to which the folds
        give another result than the verdict; a move forward waits for the next verdict then.

        Args:
            verdict: As in verdict.json, with `stage_index` and `since`.
            chain: (record, hash) of the chain so far, oldest first.
            spans: Every stage so far; None: those of the chain.
        """
        pairs, seen = self._pairs(verdict), self._observed(verdict, folded(chain).spans if spans is None else spans)
        rows = () if pairs.again is None else pairs.again.rows
        differs = (*pairs.differs, *seen.differs, *_differing(verdict["gates"], (*rows, *seen.rows)))
        parts = dossier(
            self._rollout, verdict, chain=chain, counted=pairs.counted, rows=(*rows, *seen.rows),
            sums=None if pairs.again is None else pairs.again.sums, archive=pairs.archive, no_archive=pairs.no_archive,
            code_version=self._code_version, differs=differs, observed=seen.said,
        )  # fmt: skip
        return Evident(parts=parts, differs=differs)

    def _pairs(self, verdict: Mapping[str, Any]) -> _Pairs:
        """The pairs of the stage up to the look, folded again and sealed, or why not."""
        look = microseconds(verdict["as_of"])
        if look is None:
            return _Pairs(no_archive="there was no look yet")
        try:
            table = without_ids(self._table(verdict, look))
            again = refold(self._rollout, table, as_of=look, stage=verdict["stage_index"], attempt=verdict["attempt"])
            counted = facts(self._rollout, table, as_of=look)
        except Overrun as error:
            return _Pairs(no_archive=str(error))
        except Unavailable:
            raise
        except Exception as error:  # a rollback must not wait until we have mended it
            structlog.get_logger().exception("seal.failed", rollout=self._rollout.name)
            why = f"the pairs could not be folded again ({type(error).__name__})"
            return _Pairs(no_archive=why, differs=(why,))
        archive, no_archive = self._sealed(lambda kept, of: kept.seal(self._rollout, table, of), verdict)
        return _Pairs(again=again, counted=counted, archive=archive, no_archive=no_archive)

    def _table(self, verdict: Mapping[str, Any], look: int) -> PairTable:
        since = microseconds(verdict.get("since"))
        return stage_table(self._rollout, self._pair_logs, since=-1 if since is None else since, as_of=look)

    def _observed(self, verdict: Mapping[str, Any], spans: tuple[Span, ...]) -> _Seen:
        """What was observed of the canary, folded again and sealed, or why not."""
        if self._observations is None:
            return _Seen()
        try:
            asked = Asked.of(verdict, spans)
            rows = rows_of(self._observations, asked)
            again = recount(self._rollout, rows, asked)
        except Unavailable:
            raise
        except Exception as error:  # as with pairs
            structlog.get_logger().exception("seal.failed", rollout=self._rollout.name)
            why = f"what was observed could not be folded again ({type(error).__name__})"
            return _Seen(said=SealedArms(no_archive=why), differs=(why,))
        archive, no_archive = self._sealed(lambda kept, of: kept.seal_observations(rows, of), verdict)
        found = {"arms": again.arms, "exposed": again.exposed}
        return _Seen(rows=again.rows, said=SealedArms(found=found, archive=archive, no_archive=no_archive))

    def _sealed(self, seal: Callable[[Archive, Sealed], str], verdict: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """(SHA-256, None), or (None, why not)."""
        if self._archive is None:
            return None, "no folder for archives was named"
        of = Sealed(
            rollout=self._rollout.name, config_sha256=self._rollout.sha256, as_of=verdict["as_of"] or NO_LOOK,
            stage_index=verdict.get("stage_index", 0), since=verdict.get("since"),
        )  # fmt: skip
        try:
            return seal(self._archive, of), None
        except UsageError as error:
            return None, str(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """The pairs of a decision: folded again and counted, and their archive, or why there is none."""

    again: Refolded | None = None
    counted: Mapping[str, Any] | None = None
    archive: str | None = None
    no_archive: str | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was observed for a decision: the rows of the gates on two arms, and what its record says."""

    rows: tuple[GateResult, ...] = ()
    said: SealedArms = field(default_factory=SealedArms)
    differs: tuple[str, ...] = ()


def _differing(said: Sequence[Mapping[str, Any]], rows: Sequence[GateResult]) -> tuple[str, ...]:
    """Gates that have another result over what is sealed than in the verdict."""
    whole = {row["name"]: row["status"] for row in said if row["segment"] is None}
    found = [row_document(row) for row in rows if row.segment is None]
    return tuple(row["name"] for row in found if whole.get(row["name"], row["status"]) != row["status"])


def in_stage(table: PairTable, of: Sealed) -> PairTable:
    """The rows of an archive that are of its stage and look: all of them, unless it was made by somebody else."""
    since, look = microseconds(of.since), microseconds(of.as_of)
    return of_stage(table, since=-1 if since is None else since, as_of=-1 if look is None else look)
