"""Metrics of other packages, found by their entry points: `{python: NAME}` in a config.

An entry point of the group names a callable that takes the config's `with` as keywords and gives a `PairMetric`. It is code of the machine
that folds, as a `python:` model is; nothing is loaded until a config names it. `analysis.testing` is the suite that a metric must pass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.support import Floats
from analysis.types import InputError, Metric, Option, PairTable

GROUP = "shadow_harness.metrics"


class PairMetric(Protocol):
    """One number of a lane on each row: 0 is best, `bound` worst; both are fixed before the first event."""

    @property
    def bound(self) -> float:
        """The largest number there can be, > 0 and finite."""

    @property
    def labelled(self) -> bool:
        """Whether it reads truths, and so waits until labels have matured."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the pair table that it reads; `{lane}` stands for incumbent and challenger."""

    def rows(self, table: PairTable) -> NDArray[np.bool_]:
        """On which rows it is defined, shape (rows,): by what is known of the event or its label, never by what a lane answered."""

    def values(self, table: PairTable, lane: str) -> Floats:
        """The lane's number on every row, shape (rows,), in [0, bound] wherever the metric is defined and both lanes answered."""


def installed() -> Mapping[str, EntryPoint]:
    """Every metric that an installed package offers, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


@lru_cache(maxsize=256)
def made(name: str, options: tuple[tuple[str, Option], ...]) -> PairMetric:
    """The metric of this name with these options.

    Raises:
        InputError: no package offers it, it cannot be made, or it is none; the message says which.
    """
    point = installed().get(name)
    if point is None:
        there = ", ".join(sorted(installed())) or "none is installed"
        raise InputError(f"no installed package offers the metric {name!r} (entry points {GROUP}: {there})")
    try:
        metric: PairMetric = point.load()(**dict(options))
        bound, facts = float(metric.bound), (bool(metric.labelled), tuple(metric.columns))
    except Exception as error:  # code of another package: whatever it raises, the gate says it
        raise InputError(f"the metric {name!r} ({point.value}) cannot be made: {type(error).__name__}: {error}") from error
    if not 0.0 < bound < np.inf or not all(isinstance(column, str) for column in facts[1]):
        raise InputError(f"the metric {name!r} needs a positive, finite bound and columns by name; got {bound} and {facts[1]}")
    return metric


def version_of(name: str) -> str | None:
    """The package and version that a metric comes from: another version is another metric. None where nobody says."""
    point = installed().get(name)
    return f"{point.dist.name} {point.dist.version}" if point is not None and point.dist is not None else None


def of(metric: Metric) -> PairMetric:
    """The package's metric behind one of the kind python."""
    if metric.name is None:
        raise InputError("a metric of the kind 'python' needs a name")
    return made(metric.name, metric.options)


def domain_of(metric: Metric) -> tuple[str, ...]:
    """Its rows, as a hashable key."""
    of(metric)
    return ("python", str(metric.name), json.dumps(metric.options))


def rows_of(domain: tuple[str, ...], table: PairTable) -> NDArray[np.bool_]:
    """Which rows it is defined on, shape (rows,)."""
    _, name, options = domain
    found = np.asarray(made(name, tuple((key, value) for key, value in json.loads(options))).rows(table))
    return _shaped(found, table, name).astype(bool)


def values_of(metric: Metric, table: PairTable, lane: str) -> Floats:
    """One lane's number on every row, shape (rows,)."""
    return _shaped(np.asarray(of(metric).values(table, lane), np.float64), table, str(metric.name))


def _shaped(found: NDArray[Any], table: PairTable, name: str) -> NDArray[Any]:
    if found.shape != (len(table),):
        raise InputError(f"the metric {name!r} gave the shape {found.shape} for a table of {len(table)} rows")
    return found
