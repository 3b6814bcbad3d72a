"""Rows of many pairs at once: what `RowLayout.pack` makes of each event, column by column and bit by bit the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.core.columns import A_LABEL, A_NUMBER, AnswerRun, EventRun, OutputColumn
from harness.core.rollout import MISSING_REASONS
from harness.core.routing import KEY_BYTES
from harness.core.table import ANSWERED_CODE, MOST_FLOAT, NO_WORD, NOT_ASKED, Dictionary, RowLayout

Mask = NDArray[np.bool_]
_CODES = np.array([ANSWERED_CODE, *range(len(MISSING_REASONS))], np.uint8)  # of STATUSES, in a row
_NAN = float("nan")


class RunPacker:
    """Packs runs into rows of one layout."""

    def __init__(self, layout: RowLayout) -> None:
        self._layout, rollout = layout, layout.rollout
        self._blank = np.frombuffer(bytes(layout.label_at) + layout.pack_label(None), layout.dtype)
        self._word_fields = [f"segment.{segment.name}" for segment in rollout.event_segments]
        self._word_fields += [f"recorded.{policy}.{lane}" for policy, lane, _ in layout.recorded]
        self._outputs = [
            (output.name, [f"{output.name}.{label}" for label in output.labels] if output.type == "scores" else [output.name])
            for output in rollout.outputs.values()
        ]
        self._has_labels = A_LABEL in layout.kinds

    def fits(self, run: AnswerRun) -> bool:
        """Whether rows can hold every answer of a run (`RowLayout.fits`)."""
        if tuple(column.kind for column in run.outputs) != self._layout.kinds:
            return False
        answered = np.frombuffer(run.statuses, np.uint8) == 0
        for column in run.outputs:
            if column.kind == A_LABEL:
                codes = np.frombuffer(column.values, "<u2")
                if (codes[answered] >= len(column.words)).any():
                    return False
            elif column.kind != A_NUMBER:
                scores = np.frombuffer(column.values, "<f8").reshape(-1, column.kind)[answered]
                if not (np.abs(scores) < MOST_FLOAT).all():
                    return False
        return True

    def can_pack(self, answers: Mapping[str, AnswerRun], run: EventRun, words: Dictionary) -> bool:
        """Whether new words, if there are any, get their codes in the order in which events have them one by one."""
        if not self._has_labels:
            return True
        new = (word for segments, decisions in run.sets for word in (*segments, *decisions) if word is not None)
        said = (word for each in answers.values() for column in each.outputs for word in column.words)
        return all(map(words.knows, new)) and all(map(words.knows, said))

    def pack(self, run: EventRun, answers: Mapping[str, AnswerRun], masks: Mapping[str, Mask | None], words: Dictionary) -> bytes:
        """The rows of events that have all their answers. masks: which of them each lane was asked about, None for all; a lane that is not
        there was asked about none."""
        n = len(run)
        records = np.repeat(self._blank, n)
        records["key"] = np.frombuffer(run.keys, f"V{KEY_BYTES}")
        records["arrived"], records["unit"] = run.arrived, run.units
        codes = np.zeros((len(run.sets), len(self._word_fields)), np.uint16)
        for used in dict.fromkeys(run.set_of.tolist()):
            codes[used] = words.of(*run.sets[used])
        for k, name in enumerate(self._word_fields):
            records[name] = codes[:, k][run.set_of]
        for lane in self._layout.rollout.lanes:
            said, mask = answers.get(lane), masks.get(lane)
            part = records if said is None or mask is None else records[mask]
            self._lane(lane, part, said, words)
            if part is not records:
                self._lane(lane, records, None, words)
                records[mask] = part
        return records.tobytes()

    def _lane(self, lane: str, records: NDArray[np.void], said: AnswerRun | None, words: Dictionary) -> None:
        """Fills in one lane's answers; None: it was not asked."""
        if said is None:
            records[f"missing.{lane}"], records[f"latency_ms.{lane}"] = NOT_ASKED, _NAN
        else:
            statuses = np.frombuffer(said.statuses, np.uint8)
            records[f"missing.{lane}"] = _CODES[statuses]
            records[f"latency_ms.{lane}"] = _latencies(said)
            missing = statuses != 0 if any(said.statuses) else None
        for k, (_, names) in enumerate(self._outputs):
            column = None if said is None else said.outputs[k]
            for j, name in enumerate(names):
                is_label = self._layout.kinds[k] == A_LABEL
                if column is None:
                    records[f"{name}.{lane}"] = NO_WORD if is_label else _NAN
                    continue
                records[f"{name}.{lane}"] = _label_codes(column, words) if is_label else _floats(column, j)
                if missing is not None:
                    records[f"{name}.{lane}"][missing] = NO_WORD if is_label else _NAN


def _floats(column: OutputColumn, j: int) -> NDArray[np.float64]:
    values = np.frombuffer(column.values, "<f8")
    return values if column.kind == A_NUMBER else values.reshape(-1, column.kind)[:, j]


def _label_codes(column: OutputColumn, words: Dictionary) -> NDArray[np.uint16]:
    table = np.array([*map(words.code, column.words), NO_WORD], np.uint16)
    found: NDArray[np.uint16] = table[np.minimum(np.frombuffer(column.values, "<u2"), len(column.words))]
    return found


def _latencies(said: AnswerRun) -> NDArray[np.float64] | float:
    """As a row holds them: one that is too large for it is endless."""
    if not said.latencies:
        return _NAN
    values = np.frombuffer(said.latencies, "<f8")
    return np.where(np.abs(values) >= MOST_FLOAT, np.inf, values)
