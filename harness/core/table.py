"""Pairs to the pair table: how a row is packed, and the one place where rows become columns and policies are applied.

A row has a fixed width, given by the rollout: facts of the event, then each lane's answer, then the label, which is patched in place
when an outcome comes. Words (segment values, decisions, labels) are codes into the shard's dictionary; 65535 is none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from analysis.types import Column, PairTable
from harness.core.columns import A_LABEL, A_NUMBER, EventRun
from harness.core.events import ANSWERED, Answer, Entry, Event, Outcome
from harness.core.policies import Codes, Floats, decide, recorded_words, truth_class
from harness.core.rollout import MISSING_REASONS, Output, Rollout
from harness.core.routing import ID_BYTES, KEY_BYTES

NO_WORD = 0xFFFF
MOST_WORDS = 60_000
MOST_SETS = 4_096  # of words, remembered at a time
TOO_MANY = "(too many)"
ANSWERED_CODE, NOT_ASKED = 255, 254
NO_TRUTH, NUMBER, BOOLEAN = 0, 1, 2
_NAN, _ENDLESS = float("nan"), float("inf")
MOST_FLOAT = 3.4e38  # what four bytes hold
_MOST_UNIT, _MOST_TIME = (1 << 64) - 1, 1 << 62
_TYPES = {"number": float, "label": str, "scores": tuple}


def recorded_decisions(rollout: Rollout) -> tuple[tuple[str, str, str], ...]:
    """(policy, lane, pointer) of every decision that production records in its events, by name: rows are laid out in this order."""
    policies = sorted(rollout.policies.values(), key=lambda policy: policy.name)
    return tuple((p.name, lane, pointer) for p in policies for lane, pointer in sorted(p.recorded.items()))


def kind_of(output: Output) -> int:
    """The kind of an output's column (`columns.OutputColumn`)."""
    return len(output.labels) if output.type == "scores" else A_LABEL if output.type == "label" else A_NUMBER


def _latency(latency_ms: float | None) -> float:
    """A latency as a row holds it: one that is too large for it is endless."""
    return _NAN if latency_ms is None else latency_ms if -MOST_FLOAT < latency_ms < MOST_FLOAT else _ENDLESS


class Dictionary:
    """The words of one shard: grows, never changes. What comes after 60,000 words shares one."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.words = list(words)
        self._codes = {word: code for code, word in enumerate(self.words)}
        self._sets: dict[tuple[tuple[str, ...], tuple[str | None, ...]], tuple[int, ...]] = {}

    def code(self, word: str | None) -> int:
        """The code of a word, given out when it is new."""
        if word is None:
            return NO_WORD
        found = self._codes.get(word)
        if found is None:
            if len(self.words) >= MOST_WORDS and word != TOO_MANY:
                return self.code(TOO_MANY)
            found = self._codes[word] = len(self.words)
            self.words.append(word)
        return found

    def knows(self, word: str) -> bool:
        """Whether a word has its code already."""
        return word in self._codes

    def of(self, segments: tuple[str, ...], decisions: tuple[str | None, ...]) -> tuple[int, ...]:
        """The codes of an event's words; most events have the same few sets of them."""
        found = self._sets.get((segments, decisions))
        if found is None:
            found = tuple(map(self.code, (*segments, *decisions)))
            if len(self._sets) >= MOST_SETS:
                self._sets.clear()
            self._sets[segments, decisions] = found
        return found


class RowLayout:
    """Where each fact stands in a packed row of one rollout. Little-endian, without padding."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.recorded = recorded_decisions(rollout)
        fields: list[tuple[str, str, str]] = [("key", f"{KEY_BYTES}s", f"V{KEY_BYTES}"), ("arrived", "q", "<i8"), ("unit", "Q", "<u8")]
        fields += [(f"segment.{s.name}", "H", "<u2") for s in rollout.event_segments]
        fields += [(f"recorded.{policy}.{lane}", "H", "<u2") for policy, lane, _ in self.recorded]
        self._n_facts = len(fields)
        for lane in rollout.lanes:
            fields += [(f"missing.{lane}", "B", "u1"), (f"latency_ms.{lane}", "f", "<f4")]
            for output in rollout.outputs.values():
                match output.type:
                    case "number":
                        fields.append((f"{output.name}.{lane}", "d", "<f8"))
                    case "label":
                        fields.append((f"{output.name}.{lane}", "H", "<u2"))
                    case "scores":
                        fields += [(f"{output.name}.{label}.{lane}", "f", "<f4") for label in output.labels]
        label = [part for name in rollout.truths for part in ((f"kind.{name}", "B", "u1"), (f"truth.{name}", "d", "<f8"))]
        label += [("label_time", "q", "<i8"), ("label_number", "Q", "<u8"), ("propensity", "f", "<f4")]
        self.dtype = np.dtype([(name, kind) for name, _, kind in (*fields, *label)])
        self.width = self.dtype.itemsize
        self._facts = struct.Struct("<" + "".join(code for _, code, _ in fields))
        self._label = struct.Struct("<" + "".join(code for _, code, _ in label))
        self.label_at = self._facts.size
        self._lanes = rollout.lanes
        self._all_numbers = all(output.type == "number" for output in rollout.outputs.values())
        self._types = [(_TYPES[output.type], len(output.labels)) for output in rollout.outputs.values()]
        self.kinds = tuple(kind_of(output) for output in rollout.outputs.values())
        self._n_words = len(rollout.event_segments), len(self.recorded)
        self._floats = [float] * len(self._types)
        self._no_label = self.pack_label(None)
        self._reasons = {ANSWERED: ANSWERED_CODE, **{reason: code for code, reason in enumerate(MISSING_REASONS)}}

    def fits(self, outputs: Sequence[object]) -> bool:
        """Whether these are values of the rollout's outputs, each of its type, that a row can hold."""
        if self._all_numbers:
            return [type(value) for value in outputs] == self._floats
        if len(outputs) != len(self._types):
            return False
        for value, (kind, n_labels) in zip(outputs, self._types, strict=True):
            if type(value) is not kind:
                return False
            if type(value) is tuple and (len(value) != n_labels or not all(-MOST_FLOAT < score < MOST_FLOAT for score in value)):
                return False
        return True

    def takes(self, entries: Iterable[Entry]) -> bool:
        """Whether rows can hold these entries: as many words and truths as the rollout has, and numbers of their size."""
        n_segments, n_decisions = self._n_words
        if isinstance(entries, EventRun):
            sized = all(len(segments) == n_segments and len(decisions) == n_decisions for segments, decisions in entries.sets)
            return sized and int(entries.arrived.min()) > -_MOST_TIME and int(entries.arrived.max()) < _MOST_TIME
        for entry in entries:
            if isinstance(entry, Event):
                if len(entry.segments) != n_segments or len(entry.decisions) != n_decisions:
                    return False
                if not (0 <= entry.unit <= _MOST_UNIT and -_MOST_TIME < entry.arrived < _MOST_TIME):
                    return False
            elif isinstance(entry, Outcome):
                if len(entry.truths) != len(self.rollout.truths):
                    return False
                if not (0 <= entry.time < _MOST_TIME and 0 <= entry.number <= _MOST_UNIT):
                    return False
        return True

    def pack(self, event: Event, answers: Mapping[str, Answer], outcome: Outcome | None, words: Dictionary) -> bytes:
        """The row of a settled event; a lane without an answer was not asked."""
        values: list[object] = [event.key, event.arrived, event.unit, *words.of(event.segments, event.decisions)]
        for lane in self._lanes:
            answer = answers.get(lane)
            if self._all_numbers and answer is not None and answer.status == ANSWERED:
                latency = answer.latency_ms
                values += (ANSWERED_CODE, _NAN if latency is None else _latency(latency), *answer.outputs)
            else:
                values += self._answer(answer, words)
        return self._facts.pack(*values) + (self._no_label if outcome is None else self.pack_label(outcome))

    def _answer(self, answer: Answer | None, words: Dictionary) -> list[object]:
        latency = _NAN if answer is None else _latency(answer.latency_ms)
        values: list[object] = [NOT_ASKED if answer is None else self._reasons[answer.status], latency]
        outputs = answer.outputs if answer is not None and answer.status == ANSWERED else None
        for index, output in enumerate(self.rollout.outputs.values()):
            value = None if outputs is None else outputs[index]
            if output.type == "label":
                values.append(words.code(value if isinstance(value, str) else None))
            elif output.type == "scores":
                values += value if isinstance(value, tuple) else [_NAN] * len(output.labels)
            else:
                values.append(_NAN if value is None else value)
        return values

    def pack_label(self, outcome: Outcome | None) -> bytes:
        """The label's part of a row, at `label_at`."""
        values: list[object] = []
        for truth in outcome.truths if outcome else (None,) * len(self.rollout.truths):
            kind = NO_TRUTH if truth is None else BOOLEAN if isinstance(truth, bool) else NUMBER
            values += [kind, float("nan") if truth is None else float(truth)]
        propensity = float("nan") if outcome is None or outcome.propensity is None else outcome.propensity
        return self._label.pack(*values, outcome.time if outcome else -1, outcome.number if outcome else 0, propensity)

    def label_of(self, row: bytes) -> Outcome | None:
        """What a row holds of its event's label; None if nothing."""
        *truths, time, number, propensity = self._label.unpack_from(row, self.label_at)
        if time < 0 and propensity != propensity:
            return None
        pairs = zip(truths[::2], truths[1::2], strict=True)
        said = tuple(None if kind == NO_TRUTH else bool(value) if kind == BOOLEAN else value for kind, value in pairs)
        return Outcome(-1, row[:ID_BYTES], time, number, said, None if propensity != propensity else propensity)

    def facts(self, row: bytes) -> tuple[int, dict[str, str]]:
        """(arrival time, lane -> status) of a packed row; a lane that was not asked is left out."""
        record = np.frombuffer(row, self.dtype, count=1)[0]
        names = {code: status for status, code in self._reasons.items()}
        return int(record["arrived"]), {
            lane: names[code] for lane in self.rollout.lanes if (code := int(record[f"missing.{lane}"])) != NOT_ASKED
        }

    def records(self, data: bytes) -> NDArray[np.void]:
        """The rows of a packed run, as one record array."""
        return np.frombuffer(data, self.dtype)

    def forgotten(self, records: NDArray[np.void]) -> NDArray[np.void]:
        """What is left of rows that are forgotten: when they arrived, so that the order holds. No table has them."""
        found = np.zeros(len(records), self.dtype)
        found["arrived"] = records["arrived"]
        return found


def _words(codes: Column, own: Sequence[str], shared: dict[str, int]) -> Codes:
    """Codes of one shard's dictionary as codes of a shared one, which grows by the words that occur."""
    used = np.unique(codes)
    lookup = np.full(NO_WORD + 1, -1, np.int32)
    for code in used[used != NO_WORD]:
        lookup[code] = shared.setdefault(own[code], len(shared))
    return lookup[codes]


def _remembered(records: NDArray[np.void]) -> NDArray[np.void]:
    """Without the rows that were forgotten: they have no unit, and no key."""
    gone: NDArray[np.bool_] = records["unit"] == 0
    if not gone.any():
        return records
    gone[gone] = np.ascontiguousarray(records["key"][gone]).view(np.uint8).reshape(-1, KEY_BYTES).max(axis=1) == 0
    kept: NDArray[np.void] = records[~gone]
    return kept


class TableBuilder:
    """Makes pair tables of one rollout from packed rows of any shards. Codes stay the same from one table to the next.

    Values that the config lists have their codes from the start, others in the order in which they are first seen.
    """

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.layout = RowLayout(rollout)
        self._shared: dict[str, dict[str, int]] = {}
        for segment in rollout.event_segments:
            self._shared[f"segment.{segment.name}"] = {word: code for code, word in enumerate(segment.values)}
        for output in rollout.outputs.values():
            if output.type == "label":
                self._shared[output.name] = {word: code for code, word in enumerate(output.labels)}

    def build(self, runs: Sequence[tuple[NDArray[np.void], Sequence[str]]]) -> PairTable:
        """One table of (records, words of their shard) runs, in the order (arrival time, event key)."""
        runs = [(_remembered(run), words) for run, words in runs]
        raw = np.dtype((np.void, self.layout.width))  # as plain bytes rows are moved whole, else field by field
        records = np.concatenate([np.empty(0, raw), *(run.view(raw) for run, _ in runs)]).view(self.layout.dtype)
        order = _order(records)
        coded = {name: self._coded(name, runs)[order] for name in self._coded_fields()}
        return self._columns(records.view(raw)[order].view(self.layout.dtype), coded)

    def _coded(self, name: str, runs: Sequence[tuple[NDArray[np.void], Sequence[str]]]) -> Codes:
        shared = self._shared.setdefault(_dictionary_of(name), {})
        return np.concatenate([np.empty(0, np.int32), *(_words(run[name], words, shared) for run, words in runs)])

    def _coded_fields(self) -> list[str]:
        names = [f"segment.{s.name}" for s in self.rollout.event_segments]
        names += [f"recorded.{policy}.{lane}" for policy, lane, _ in self.layout.recorded]
        return names + [f"{o.name}.{lane}" for o in self.rollout.outputs.values() if o.type == "label" for lane in self.rollout.lanes]

    def _columns(self, records: NDArray[np.void], coded: Mapping[str, Codes]) -> PairTable:
        rollout = self.rollout
        columns: dict[str, Column] = {
            "event_id": np.ascontiguousarray(records["key"]),
            "unit_id": records["unit"].astype(np.uint64),
            "arrived": records["arrived"].astype(np.int64),
        }
        words: dict[str, tuple[str, ...]] = {"missing": (*MISSING_REASONS, "not_asked")}
        for segment in rollout.event_segments:
            name = f"segment.{segment.name}"
            columns[name], words[name] = coded[name], tuple(self._shared[name])
        for name in rollout.truths:
            columns[f"truth.{name}"] = records[f"truth.{name}"].astype(np.float64)
        for segment in rollout.events.segments:
            if segment.truth is not None:
                columns[f"segment.{segment.name}"] = _binned(columns[f"truth.{segment.truth}"], segment.bins)
                words[f"segment.{segment.name}"] = segment.bin_names
        for lane in rollout.lanes:
            self._lane(lane, records, coded, columns)
        for output in rollout.outputs.values():
            if output.type == "label":
                words[output.name] = tuple(self._shared[output.name])
        self._decisions(records, coded, columns, words)
        columns["label_time"] = records["label_time"].astype(np.int64)
        columns["propensity"] = records["propensity"].astype(np.float64)
        return PairTable(columns, words)

    def _lane(self, lane: str, records: NDArray[np.void], coded: Mapping[str, Codes], columns: dict[str, Column]) -> None:
        missing = records[f"missing.{lane}"].astype(np.int32)
        missing[missing == NOT_ASKED] = len(MISSING_REASONS)
        missing[missing == ANSWERED_CODE] = -1
        columns[f"missing.{lane}"] = missing
        columns[f"latency_ms.{lane}"] = records[f"latency_ms.{lane}"].astype(np.float64)
        for output in self.rollout.outputs.values():
            if output.type == "number":
                columns[f"{output.name}.{lane}"] = records[f"{output.name}.{lane}"].astype(np.float64)
            elif output.type == "label":
                columns[f"{output.name}.{lane}"] = coded[f"{output.name}.{lane}"]
            else:
                for label in output.labels:
                    name = f"{output.name}.{label}.{lane}"
                    columns[name] = records[name].astype(np.float64)

    def _decisions(
        self, records: NDArray[np.void], coded: Mapping[str, Codes], columns: dict[str, Column], words: dict[str, tuple[str, ...]]
    ) -> None:
        def segment(name: str) -> tuple[Codes, tuple[str, ...]]:
            return columns[f"segment.{name}"], words[f"segment.{name}"]

        for policy in self.rollout.policies.values():
            output = self.rollout.outputs[policy.output]
            seen = self._shared.get(f"recorded.{policy.name}", {})
            known = words[policy.name] = recorded_words(policy, policy.recorded, tuple(seen))
            for lane in self.rollout.lanes:
                name = f"{output.name}.{policy.label}.{lane}" if policy.label else f"{output.name}.{lane}"
                said = decide(policy, output, lane, columns[name], words.get(output.name, ()), segment)
                took = coded.get(f"recorded.{policy.name}.{lane}")
                if took is not None:
                    lookup = np.array([known.index(word) for word in seen] or [0], np.int32)
                    said = np.where(took >= 0, lookup[np.maximum(took, 0)], said)
                    said[columns[f"missing.{lane}"] >= 0] = -1
                columns[f"{policy.name}.{lane}"] = said.astype(np.int32)
            truth = self.rollout.truth_of(policy.output)
            if truth is not None:
                is_boolean = records[f"kind.{truth}"] == BOOLEAN
                columns[f"{policy.name}.truth"] = truth_class(policy, columns[f"truth.{truth}"], is_boolean, segment)


def _dictionary_of(field: str) -> str:
    """The name under which the words of a coded field are shared: lanes of one output or policy share theirs."""
    return field if field.startswith("segment.") else field.rpartition(".")[0]


def _order(records: NDArray[np.void]) -> NDArray[np.intp] | slice:
    """The order (arrival time, event key); rows of one shard and source are in it already."""
    arrived = np.ascontiguousarray(records["arrived"])
    if (arrived[1:] > arrived[:-1]).all():
        return slice(None)
    return np.lexsort((_key_order(records), arrived))


def _key_order(records: NDArray[np.void]) -> NDArray[np.uint64]:
    """The first 8 bytes of each key as a number: what decides between events of one microsecond."""
    raw = np.ascontiguousarray(records["key"]).view(np.uint8).reshape(len(records), KEY_BYTES)[:, :8]
    return np.ascontiguousarray(raw).view(">u8").astype(np.uint64).ravel()


def _binned(truth: Floats, bins: Sequence[float]) -> Codes:
    """The bin of each truth, -1 without one or outside all bins."""
    codes = np.searchsorted(np.asarray(bins), truth, side="right").astype(np.int32) - 1
    codes[np.isnan(truth) | (codes >= len(bins) - 1)] = -1
    return codes


def flips(table: PairTable, policies: Iterable[str]) -> dict[str, dict[str, int]]:
    """For each policy the number of pairs, and of those whose decision changes, by direction "old->new"; exact counts that add up."""
    both = (table["missing.incumbent"] < 0) & (table["missing.challenger"] < 0)
    found: dict[str, dict[str, int]] = {}
    for policy in policies:
        old, new = table[f"{policy}.incumbent"][both], table[f"{policy}.challenger"][both]
        words = table.words[policy]
        counts = {"pairs": int(both.sum())}
        for a, b in permutations(range(len(words)), 2):
            counts[f"{words[a]}->{words[b]}"] = int(((old == a) & (new == b)).sum())
        found[policy] = counts
    return found
