"""Plan: events, labels and days until each gate can decide, and which never can. From the config alone, or measured on a pair table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
from numpy.typing import NDArray

from analysis.gates import Test, prepare
from analysis.metrics.contributions import labelled_rows
from analysis.planning import Assumed, Ends, Forecast, assumed, forecast, forecast_arms, measured
from analysis.types import Gate, InputError, PairTable
from harness.core.rollout import Rollout
from harness.roles.analyst import plan_of

DAY_US = 86_400_000_000
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How long one gate takes, or one segment of it; a gate on a canary's arms, by the canary's percent, as segment.

    units: contributions, one a unit, of both arms together; labelled ones where the gate needs labels. events: to be sampled until there
    are so many, None where nobody knows. labels: among those events. days: with the wait for labels to mature. says: what all that assumes.
    """

    gate: str
    segment: Mapping[str, str] | None
    ends: Ends
    units: int | None
    events: int | None
    labels: int | None
    days: float | None
    says: str


@dataclass(frozen=True, slots=True)
class _Traffic:
    """How many sampled events come a day, None where nobody says; and the table that shares are measured on, if there is one."""

    a_day: float | None
    table: PairTable | None


def plan(rollout: Rollout, *, per_day: float | None = None, table: PairTable | None = None) -> list[Row]:
    """For each gate its whole row, or with `each` a row for every segment value.

    Args:
        rollout: Its config.
        per_day: Events a day before sampling, > 0; without it those of the table.
        table: A pair table to measure on; without it the config's own words are taken (`expect`, `discordance`).
    """
    a_day = None if per_day is None else per_day * rollout.sample_percent / 100.0
    if a_day is None and table is not None and len(table):
        span = int(table["arrived"][-1]) - int(table["arrived"][0])
        a_day = len(table) / (span / DAY_US) if span > 0 else None
    traffic = _Traffic(a_day, table)
    return [row for gate in rollout.gates for row in _rows(rollout, gate, traffic)]


def _rows(rollout: Rollout, gate: Gate, traffic: _Traffic) -> Iterator[Row]:
    if gate.metric.group == "online":
        yield from _arms(rollout, gate, traffic)
        return
    levels = plan_of(rollout)
    try:
        test = prepare(gate)
    except InputError as error:
        yield _unknown(gate, str(error))
        return
    for segment, n_values, rows in _parts(rollout, gate, traffic.table):
        what = assumed(test) if traffic.table is None else _measured(test, traffic.table, rows)
        found = forecast(test, what, alpha=levels.alpha_of(gate), fail_level=levels.fail_level)
        yield _row(rollout, gate, segment, found, traffic, n_values)


def _unknown(gate: Gate, why: str) -> Row:
    return Row(gate=gate.name, segment=None, ends="unknown", units=None, events=None, labels=None, days=None, says=why)


def _arms(rollout: Rollout, gate: Gate, traffic: _Traffic) -> Iterator[Row]:
    """A row for each canary: units of both arms, and days as if every event brought a unit. Arms are not sampled: all traffic counts."""
    canaries = [(number, stage.percent) for number, stage in enumerate(rollout.stages) if stage.kind == "canary" and stage.percent < 100.0]
    if not canaries:
        yield _unknown(gate, "is read in canary stages only, below 100 %, and the config has none")
    wait = (gate.metric.window_us or 0) / DAY_US
    for number, percent in canaries:
        levels = plan_of(rollout, number)
        try:
            found = forecast_arms(gate, percent / 100.0, alpha=levels.alpha_of(gate), fail_level=levels.fail_level)
        except InputError as error:
            yield _unknown(gate, str(error))
            return
        says, days = found.assumed.words, None
        if found.units is not None:
            served = ceil(found.units * percent / 100.0)
            says = f"at {percent:g} % {served:,} units of the challenger and {found.units - served:,} of the incumbent; {says}"
            if traffic.a_day:
                says += "; every event is of a new unit"
                days = found.units / (traffic.a_day * 100.0 / rollout.sample_percent) + wait
        says += "; times the number of values, in each of them" if gate.each else ""
        values = {name: "(each value)" for item in gate.each for name in item}
        yield Row(
            gate=gate.name, segment={"canary": f"{percent:g} %", **values}, ends=found.ends, units=found.units, events=None, labels=None,
            days=days, says=says,
        )  # fmt: skip


def _measured(test: Test, table: PairTable, rows: NDArray[np.bool_] | None) -> Assumed:
    try:
        return measured(test, table, rows)
    except InputError as error:
        return Assumed(shares=None, words=str(error))


def _parts(rollout: Rollout, gate: Gate, table: PairTable | None) -> Iterator[tuple[dict[str, str] | None, int, NDArray[np.bool_] | None]]:
    """(segment, how many values share the traffic, its rows) of each row that must decide: the whole only without `each`."""
    if not gate.each:
        yield None, 1, None
        return
    listed = {segment.name: segment.listed for segment in rollout.events.segments}
    for item in gate.each:
        words = [listed.get(name) or (table.words[f"segment.{name}"] if table is not None else None) for name in item]
        if any(word is None for word in words):
            yield {name: "(each value)" for name in item}, 1, None
            continue
        combinations = list(product(*(word for word in words if word is not None)))
        for values in combinations:
            rows = None if table is None else np.ones(len(table), bool)
            for name, value in zip(item, values, strict=True):
                if table is not None and rows is not None:
                    known = table.words[f"segment.{name}"]
                    rows &= table[f"segment.{name}"] == (known.index(value) if value in known else -2)
            yield dict(zip(item, values, strict=True)), len(combinations), rows


def _row(rollout: Rollout, gate: Gate, segment: dict[str, str] | None, found: Forecast, traffic: _Traffic, n_values: int) -> Row:
    """Units to events: by their share in the table; without one at best, as if every event brought a unit (and its label) that counts."""
    says, events, days = found.assumed.words, None, None
    if found.units is not None and traffic.table is not None:
        events = ceil(found.units * len(traffic.table) / found.assumed.n_units)
    elif found.units is not None:
        events = found.units * n_values
        says += "; every event is of a new unit" + (", labelled, of the class that counts" if gate.metric.labelled else "")
        says += f"; the {n_values} values are alike in size" if n_values > 1 else ""
        says += "; times the number of values" if segment is not None and "(each value)" in segment.values() else ""
    matures = rollout.outcomes.matures_s / DAY_S if rollout.outcomes is not None and gate.metric.labelled else 0.0
    if events is not None and traffic.a_day:
        days = events / traffic.a_day + matures
    labels = 0
    if gate.metric.labelled and events is not None:
        share = 1.0 if traffic.table is None else float(labelled_rows(traffic.table).mean())
        labels = ceil(events * share)
    return Row(
        gate=gate.name, segment=segment, ends=found.ends, units=found.units, events=events,
        labels=None if events is None else labels, days=days, says=says,
    )  # fmt: skip
