"""Compare: two models' scores in a table -> the same gates, a report and a draft of a rollout. No bus, no server, no questions.

Whatever had to be assumed is said. Intervals come from the evidence that gates fold: one contribution a person, valid at any look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil, floor, isfinite, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from analysis.evidence import combine
from analysis.figures.harms import FEW_UNITS, harm_rows, harmed
from analysis.types import GateResult, Metric, PairTable
from harness import config
from harness.commands import draft as drafting
from harness.commands import scores
from harness.commands.analyze import fold, table_of
from harness.commands.draft import Draft
from harness.commands.scores import Notes, Numbers
from harness.core.accounting import Counts
from harness.core.errors import UsageError
from harness.core.rollout import Rollout
from harness.core.table import flips
from harness.core.verdicts import verdict_document

if TYPE_CHECKING:
    import pandas as pd

MOMENT = datetime(2000, 1, 1, tzinfo=UTC)  # a table has no times: all its rows are one look
OLDEST = 120.0
MOST_LINES = 20
Groups = Mapping[str, tuple[list[str | None], tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is to be compared: columns of one file, or of two that are joined by `on`."""

    files: tuple[Path, ...]
    old: str
    new: str
    truth: str | None = None
    at: tuple[float, ...] = ()
    unit: str | None = None
    by: tuple[str, ...] = ()
    on: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One number under both models. change: new minus old, over the first row of each unit; low, high: where it lies, at any look."""

    what: str
    n_units: int
    old: float | None
    new: float | None
    low: float | None
    high: float | None
    rate: bool = True

    @property
    def says(self) -> str:
        """Which model is better, where the interval excludes zero."""
        if self.low is None or self.high is None or self.low <= 0.0 <= self.high:
            return "cannot tell"
        return "worse" if self.low > 0.0 else "better"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was found, and everything that the report and the draft are made of."""

    rollout: Rollout
    yaml: str
    table: PairTable
    verdict: dict[str, Any]
    shifts: tuple[Shift, ...]
    groups: tuple[Shift, ...]
    notes: Notes


def compare(ask: Ask, *, code_version: str) -> Compared:
    """Reads, assumes, folds.

    Raises:
        UsageError: a file or column that cannot be used; the message names it and what there is.
    """
    notes = Notes()
    frame = _frame(ask, notes)
    old = scores.numbers(scores.column(frame, ask.old, "--old", 1), "--old", ask.old)
    new = scores.numbers(scores.column(frame, ask.new, "--new", len(ask.files)), "--new", ask.new)
    truth, is_class = np.full(len(frame), np.nan), False
    if ask.truth is not None:
        truth, is_class = scores.truths(scores.column(frame, ask.truth, "--truth"), ask.truth, notes)
        _labelled(ask, truth, notes)
    else:
        notes.assumed.append("no --truth: what follows says where the models differ, not which one is right")
    units = scores.units(frame, ask.unit, notes)
    groups = {name: scores.group(scores.column(frame, name, "--by"), name, notes) for name in dict.fromkeys(ask.by)}
    draft, old, new, truth = _draft(ask, (old, new), truth, is_class, groups, notes)
    for name, found in ((ask.old, old), (ask.new, new)):
        scores.counted_bad(name, found, notes)
    text = drafting.write(draft)
    rollout = config.parse(yaml.safe_load(text), source="the draft", folder=Path())
    columns = _columns(draft, (old, new), (truth, is_class), units, {name: rows for name, (rows, _) in groups.items()})
    table = table_of(rollout, columns, source=str(ask.files[0]))
    return _judged(rollout, draft, text, table, notes, code_version)


# ----------------------------------------------------------------------------------------------------------------- from the table
def _frame(ask: Ask, notes: Notes) -> pd.DataFrame:
    frames = [scores.read(path, notes) for path in ask.files]
    if len(frames) > 2:
        raise UsageError(f"got {len(frames)} files; compare takes one, or two that are joined with --on")
    if len(frames) == 2:
        if ask.on is None:
            raise UsageError("two files need --on COLUMN: the id by which their rows belong together")
        return scores.join(frames[0], frames[1], ask.on, notes)
    (frame,) = frames
    name = ask.on or next((name for name in scores.ID_COLUMNS if name in frame.columns and name != ask.unit), None)
    if ask.on is not None:
        scores.column(frame, ask.on, "--on")
    if name is None:
        return frame
    notes.assumed.append(f"{name} is the id of a row" + ("" if ask.on else "; name another one with --on"))
    return scores.once(frame, name, notes, ask.files[0].name)


def _labelled(ask: Ask, truth: NDArray[np.float64], notes: Notes) -> None:
    n_labels = int(np.isfinite(truth).sum())
    if not n_labels:
        raise UsageError(f"--truth {ask.truth}: every cell of it is empty; leave --truth out to see where the models differ")
    if n_labels < len(truth):
        n = len(truth)
        notes.found.append(
            f"{ask.truth}: {n - n_labels:,} of {n:,} rows have no truth: kept as unlabelled, they count where decisions differ"
        )


def _draft(
    ask: Ask, lanes: tuple[Numbers, Numbers], truth: NDArray[np.float64], is_class: bool, groups: Groups, notes: Notes
) -> tuple[Draft, Numbers, Numbers, NDArray[np.float64]]:
    """The draft, and the numbers without those that no age can be."""
    values = np.concatenate([lanes[0].values, lanes[1].values] + ([] if is_class else [truth]))
    values = values[np.isfinite(values)]
    lines = _lines(ask, is_class, notes)
    ages = "age" in scores.names_in([ask.old, ask.new, ask.truth or ""]) and bool((values > 1.0).any())
    if ages:
        lanes, truth = _ages(ask, lanes, truth, is_class, notes)
    span = (0.0, OLDEST) if ages else _span(values, lines)
    what = "ages in years" if ages else "the smallest round range that holds every value"
    notes.assumed.append(f"scores lie in {span[0]:g} to {span[1]:g}: {what}")
    for line in lines:
        if not span[0] <= line <= span[1]:
            raise UsageError(f"--at {line:g}: the scores lie in {span[0]:g} to {span[1]:g}, no decision would change there")
    _directions(ask, is_class, notes)
    output = "age" if ages else drafting.key(ask.truth or ask.new, frozenset({"missing", "latency_ms", "segment", "truth"}))
    draft = Draft(
        name=f"{drafting.key(ask.files[0].name.split('.')[0]).replace('_', '-')}-draft",
        output=output,
        unit="years" if ages else None,
        span=span,
        lines={f"{'over' if not is_class else 'flagged'}_{drafting.shown(line)}": line for line in lines},
        old=ask.old,
        new=ask.new,
        truth=ask.truth,
        is_class=is_class,
        user=ask.unit,
        groups={name: values for name, (_, values) in groups.items()},
        closed=frozenset(name for name, (rows, values) in groups.items() if set(rows) <= {None, *values}),
        loss=_loss(lanes, truth, is_class, span, notes),
    )
    return draft, lanes[0], lanes[1], truth


def _lines(ask: Ask, is_class: bool, notes: Notes) -> tuple[float, ...]:
    if not ask.at:
        if not is_class:
            raise UsageError("--at: expected the lines at which a score becomes a decision, as in --at 13,16,18")
        notes.assumed.append("no --at: the line is 0.5")
        return (0.5,)
    lines = tuple(sorted(set(ask.at)))
    if not all(isfinite(line) for line in lines) or len(lines) > MOST_LINES:
        raise UsageError(f"--at: expected at most {MOST_LINES} finite numbers")
    return lines


def _ages(
    ask: Ask, lanes: tuple[Numbers, Numbers], truth: NDArray[np.float64], is_class: bool, notes: Notes
) -> tuple[tuple[Numbers, Numbers], NDArray[np.float64]]:
    """Ages under 0 and over 120 stand for something else, as -1 does for `unknown`."""
    found = []
    for name, lane in zip((ask.old, ask.new), lanes, strict=True):
        with np.errstate(invalid="ignore"):
            outside = (lane.values < 0.0) | (lane.values > OLDEST)
        if outside.any():
            notes.found.append(f"{name}: {int(outside.sum()):,} ages are below 0 or over {OLDEST:g}: counted as no age (bad_output)")
        found.append(Numbers(values=np.where(outside, np.nan, lane.values), bad=lane.bad | outside))
    if is_class:
        return (found[0], found[1]), truth
    with np.errstate(invalid="ignore"):
        outside = (truth < 0.0) | (truth > OLDEST)
    if outside.any():
        notes.found.append(f"{ask.truth}: {int(outside.sum()):,} ages are below 0 or over {OLDEST:g}: kept as unlabelled")
    return (found[0], found[1]), np.where(outside, np.nan, truth)


def _span(values: NDArray[np.float64], lines: Sequence[float]) -> tuple[float, float]:
    """A round range that holds every value and line: [0, 1] for what lies in it."""
    low, high = float(np.min([*values, *lines])), float(np.max([*values, *lines]))
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    step = 10.0 ** floor(log10(max(abs(low), abs(high))))
    low, high = (0.0 if low >= 0.0 else floor(low / step) * step), (0.0 if high <= 0.0 else ceil(high / step) * step)
    return float(f"{low:.6g}"), float(f"{high:.6g}")


def _directions(ask: Ask, is_class: bool, notes: Notes) -> None:
    if ask.truth is None:
        return
    if is_class:
        said = f"{ask.truth} is true or false at every line; in the draft, a true one missed stops, a false one flagged holds"
    else:
        said = "in the draft, letting in who is under a line stops the rollout, stopping who is over it only holds; swap on_fail if not"
    notes.assumed.append(said)


def _loss(
    lanes: tuple[Numbers, Numbers], truth: NDArray[np.float64], is_class: bool, span: tuple[float, float], notes: Notes
) -> tuple[str, float] | None:
    """The loss that fits, and a twentieth of the old model's as its margin."""
    error = lanes[0].values - truth
    error = error[np.isfinite(error)]
    if not len(error):
        return None
    if is_class and span != (0.0, 1.0):
        notes.assumed.append("the scores are no probabilities: no loss is compared")
        return None
    kind, mean = ("squared_error", float((error**2).mean())) if is_class else ("absolute_error", float(np.abs(error).mean()))
    bound = (span[1] - span[0]) if kind == "absolute_error" else 1.0
    return kind, float(f"{min(max(mean / 20.0, bound * 1e-4), bound / 2.0):.1g}")


def _columns(
    draft: Draft, lanes: tuple[Numbers, Numbers], truth: tuple[NDArray[np.float64], bool], units: Sequence[str], groups: Mapping[str, Any]
) -> dict[str, Any]:
    """The columns of the contract."""
    n = len(units)
    found: dict[str, Any] = {
        "event_id": [f"row {k:012d}" for k in range(1, n + 1)],
        "unit_id": list(units),
        "arrived": np.full(n, np.datetime64(MOMENT.replace(tzinfo=None), "us")),
    }
    for column, name in drafting.segments(draft).items():
        found[f"segment.{name}"] = np.array([*groups[column], None], dtype=object)[:-1]
    for lane, given in zip(("incumbent", "challenger"), lanes, strict=True):
        absent = np.isnan(given.values)
        found[f"{draft.output}.{lane}"] = given.values
        found[f"missing.{lane}"] = _cells(absent, np.where(given.bad, "bad_output", "no_answer"))
    if draft.truth is not None:
        values, is_class = truth
        known = np.isfinite(values)
        found[f"truth.{draft.output}"] = _cells(known, values > 0.5) if is_class else values
        found["label_time"] = np.where(known, found["arrived"], np.datetime64("NaT"))
    return found


def _cells(there: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[Any]:
    """The values where they are there, None elsewhere."""
    found = values.astype(object)
    found[~there] = None
    return found


# --------------------------------------------------------------------------------------------------------------------- the numbers
def _judged(rollout: Rollout, draft: Draft, text: str, table: PairTable, notes: Notes, code_version: str) -> Compared:
    unlabelled, labelled = fold(rollout, table)
    rows = [replace(row, alarmed_at=None) for row in combine(unlabelled.plan, unlabelled, labelled)]  # a table has no times to tell
    verdict = verdict_document(
        rollout,
        rows=rows,
        counts=_counts(table),
        read=len(table),
        unsampled=0,
        in_flight=0,
        flips=flips(table, rollout.policies),
        watermark={},
        as_of=None,
        labelled_wait=None,
        code_version=code_version,
    )
    return Compared(
        rollout=rollout,
        yaml=text,
        table=table,
        verdict=verdict,
        shifts=tuple(_shifts(rollout, draft, table, rows)),
        groups=tuple(_worst(rollout, draft, table, rows)),
        notes=notes,
    )


def _counts(table: PairTable) -> Counts:
    """What became of the rows: answered by both, or charged once, to the old model first."""
    gone = {lane: table[f"missing.{lane}"] for lane in ("incumbent", "challenger")}
    words = table.words["missing"]
    missing: dict[str, dict[str, int]] = {}
    lanes: dict[str, dict[str, int]] = {}
    charged = {"incumbent": gone["incumbent"] >= 0, "challenger": (gone["incumbent"] < 0) & (gone["challenger"] >= 0)}
    for lane, codes in gone.items():
        lanes[lane] = {"answered": int((codes < 0).sum())} | {w: n for k, w in enumerate(words) if (n := int((codes == k).sum()))}
        missing[lane] = {w: n for k, w in enumerate(words) if (n := int((codes[charged[lane]] == k).sum()))}
    paired = int(((gone["incumbent"] < 0) & (gone["challenger"] < 0)).sum())
    return Counts(mirrored=len(table), paired=paired, missing=missing, lanes=lanes, joined=int((table["label_time"] >= 0).sum()))


def harm_metrics(rollout: Rollout, draft: Draft) -> list[tuple[str, str, Metric]]:
    """(what happens to whom, name of its gate, the harm), line by line in both directions."""
    found = []
    for policy, line in draft.lines.items():
        words = ("true, missed", "false, flagged") if draft.is_class else (f"under {line:g}, let in", f"{line:g} or over, stopped")
        names = drafting.harm_names(draft, policy)
        order = (names[1], names[0]) if draft.is_class else names
        for what, name in zip(words, order, strict=True):
            harm = rollout.harms[name]
            metric = Metric(kind="harm", policy=policy, truth=harm.truth, decisions=harm.decisions)
            found.append((f"{what} at {line:g}" if draft.is_class else what, drafting.gate_name(name), metric))
    return found


def _shifts(rollout: Rollout, draft: Draft, table: PairTable, rows: Sequence[GateResult]) -> list[Shift]:
    whole = {row.name: row for row in rows if row.segment is None}
    found = []
    for what, gate, metric in harm_metrics(rollout, draft) if draft.truth is not None else []:
        found.append(_shift(what, whole[gate], _first_rates(table, metric)))
    if draft.loss is not None:
        row = whole["guesses no worse"]
        old, new = _first_losses(table, draft)
        what = "mean absolute error" if draft.loss[0] == "absolute_error" else "mean squared error"
        found.append(_shift(f"{what}{f', {draft.unit}' if draft.unit else ''}", row, (old, new), rate=False))
    return found


def _shift(what: str, row: GateResult, means: tuple[float | None, float | None], *, rate: bool = True) -> Shift:
    """A row is old minus new; here it is turned round, so that more of a harm is a plus."""
    low, high = (None if row.upper is None else -row.upper), (None if row.lower is None else -row.lower)
    return Shift(what=what, n_units=row.n_units, old=means[0], new=means[1], low=low, high=high, rate=rate)


def _first(table: PairTable, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first row of each unit among these."""
    at = np.flatnonzero(rows)
    return np.asarray(at[np.unique(table["unit_id"][at], return_index=True)[1]], np.int64)


def _first_rates(table: PairTable, metric: Metric) -> tuple[float | None, float | None]:
    at = _first(table, harm_rows(table, metric))
    if not len(at):
        return None, None
    old, new = (float(harmed(table, metric.policy or "", metric.decisions, lane)[at].mean()) for lane in ("incumbent", "challenger"))
    return old, new


def _first_losses(table: PairTable, draft: Draft) -> tuple[float | None, float | None]:
    truth = table[f"truth.{draft.output}"]
    lanes = [table[f"{draft.output}.{lane}"] for lane in ("incumbent", "challenger")]
    at = _first(table, np.isfinite(truth) & np.isfinite(lanes[0]) & np.isfinite(lanes[1]))
    if not len(at):
        return None, None
    power = 1 if draft.loss is not None and draft.loss[0] == "absolute_error" else 2
    old, new = (float((np.abs(lane[at] - truth[at]) ** power).mean()) for lane in lanes)
    return old, new


def _worst(rollout: Rollout, draft: Draft, table: PairTable, rows: Sequence[GateResult]) -> list[Shift]:
    """For each harm the group in which it grows most, of those with enough people."""
    found = []
    for what, gate, metric in harm_metrics(rollout, draft) if draft.truth is not None else []:
        parts = [row for row in rows if row.name == gate and row.segment and row.n_units >= FEW_UNITS and row.estimate is not None]
        if not parts:
            continue
        row = min(parts, key=lambda row: row.estimate or 0.0)
        (name, value), *_ = (row.segment or {}).items()
        here = table[f"segment.{name}"] == table.words[f"segment.{name}"].index(value)
        found.append(_shift(f"{what}: {name} {value}", row, _first_rates(table.take(here), metric)))
    return found
