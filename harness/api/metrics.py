"""`/metrics`: one collector that reads counts, verdicts and presence when it is asked. Nobody increments a metric.

A gate's bound is the side of its interval that speaks against the challenger, in the gate's own unit: what a threshold should be compared
with. Without evidence, or when the evidence is old, it is infinite on that side; never NaN, never absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from analysis.types import Gate
from harness.api.errors import ApiError
from harness.api.service import Service
from harness.commands.health import role_health
from harness.commands.status import Status, Watched
from harness.core.errors import BusUnavailable, Overrun
from harness.core.reading import microseconds
from harness.core.verdicts import staleness

if TYPE_CHECKING:
    from prometheus_client.core import Metric

VERDICTS = {"promote": 1, "hold": 0, "rollback": -1}
STATUSES = {"pass": 1, "undecided": 0, "fail": -1}
READ_S = 0.5


def metrics_routes(service: Service) -> APIRouter:
    """GET /metrics."""
    router = APIRouter()

    @router.get("/metrics")
    def metrics() -> Response:
        """The metrics of every rollout of the store; 503 when the store is away, 501 without prometheus-client."""
        if find_spec("prometheus_client") is None:
            raise ApiError(501, "metrics need prometheus-client: pip install 'shadow-harness[metrics]'")
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(Counts([service.get(name).watched for name in service.names()]))
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"})

    return router


class Counts:
    """The one collector: reads every rollout once a scrape."""

    def __init__(self, rollouts: list[Watched]) -> None:
        self._rollouts = rollouts
        self._families: dict[str, Any] = {}

    def collect(self) -> Iterator[Metric]:
        """Every family, with the samples of every rollout."""
        self._families = {}
        for watched in self._rollouts:
            found = watched.status()
            self._accounting(watched.rollout.name, found)
            self._waiting(watched, found)
            self._verdict(watched)
            self._roles(watched)
        yield from self._families.values()

    # ----------------------------------------------------------------------------------------------------------------- samples
    def _gauge(self, name: str, says: str, value: float, rollout: str, **labels: str) -> None:
        from prometheus_client.core import GaugeMetricFamily

        self._add(GaugeMetricFamily, name, says, value, {"rollout": rollout, **labels})

    def _count(self, name: str, says: str, value: float, rollout: str, **labels: str) -> None:
        from prometheus_client.core import CounterMetricFamily

        self._add(CounterMetricFamily, name, says, value, {"rollout": rollout, **labels})

    def _add(self, family: Callable[..., Any], name: str, says: str, value: float, labels: Mapping[str, str]) -> None:
        if name not in self._families:
            self._families[name] = family(f"shadow_{name}", says, labels=list(labels))
        self._families[name].add_metric(list(labels.values()), float(value))

    # -------------------------------------------------------------------------------------------------------------- accounting
    def _accounting(self, rollout: str, found: Status) -> None:
        counts = found.counts
        classes = {
            "duplicate": counts.duplicates, "unsampled": found.unsampled, "invalid": counts.invalid, "shed": counts.shed,
            "missing": counts.missing_events, "paired": counts.paired,
        }  # fmt: skip
        self._count("events_read", "events that router and joiner have classified", found.read, rollout)
        for word, n in classes.items():
            self._count("events", "events by what became of them; with those in flight, all that were read", n, rollout, **{"class": word})
        self._gauge("events_in_flight", "events that wait for an answer, counted in the store", found.in_flight, rollout)
        self._gauge("identity_problems", "sums of the accounting that do not hold: 0, or something is broken", len(found.identity), rollout)
        for lane, by in counts.lanes.items():
            for reason, n in by.items():
                self._count("lane_events", "events of each lane: answered, or why not", n, rollout, lane=lane, reason=reason)
        outcomes = {"joined": counts.joined, "orphaned": counts.orphaned, "revised": counts.revised, "invalid": counts.invalid_outcomes}
        for word, n in outcomes.items():
            self._count("outcomes", "outcomes by what became of them", n, rollout, **{"class": word})
        requests = {"joined": counts.requests, "orphaned": counts.requests_orphaned}
        for word, n in requests.items():
            self._count("requests", "requests for labels by what became of them", n, rollout, **{"class": word})
        self._gauge("outcomes_waiting", "outcomes and requests whose event has not come yet", counts.early, rollout)
        self._count("overruns", "times that records were gone before they were read", counts.overrun, rollout)

    def _waiting(self, watched: Watched, found: Status) -> None:
        rollout = watched.rollout.name
        self._gauge("bus_up", "1 if the bus answers", found.waiting_sources is not None, rollout)
        self._gauge("lag_events", "events that the router has taken and the joiner has not", found.routed - found.read, rollout)
        self._gauge("lag_outcomes", "outcomes that the router has taken and the joiner has not", found.outcomes_behind, rollout)
        age_s = math.inf if found.in_flight_age_s is None else found.in_flight_age_s
        self._gauge("in_flight_age_seconds", "no event in flight is older", age_s, rollout)
        for source in watched.topology.sources:
            lag_s = math.inf if found.waiting_sources is None else _lag_s(watched, source) if source in found.waiting_sources else 0.0
            self._gauge("source_lag_seconds", "age of the oldest record that the router has not taken", lag_s, rollout, source=source)

    def _roles(self, watched: Watched) -> None:
        for health in role_health(watched.roles, watched.presence):
            self._gauge("role_ready", "1 if the role steps and has just said so", health.ready, watched.rollout.name, role=health.role)

    # ----------------------------------------------------------------------------------------------------------------- verdict
    def _verdict(self, watched: Watched) -> None:
        rollout, now = watched.rollout.name, watched.clock.now()
        verdict, published = watched.verdict(), watched.ledger.published()
        old = published is not None and bool(staleness(published.looked, verdict["expires"], now))
        as_of = microseconds(verdict["as_of"])
        looked_s = math.inf if published is None else max(0, now - published.looked) / 1e6
        age_s = math.inf if as_of is None else max(0, now - as_of) / 1e6
        self._gauge("verdict", "1 promote, 0 hold, -1 rollback", VERDICTS[verdict["verdict"]], rollout)
        self._gauge("verdict_age_seconds", "since the analyst last looked", looked_s, rollout)
        gates = {gate.name: gate for gate in watched.rollout.gates}
        for row in verdict["gates"]:
            name, labels = "gate", {"gate": row["name"]}
            if row["segment"]:
                name, labels["segment"] = "gate_segment", ",".join(f"{key}={value}" for key, value in sorted(row["segment"].items()))
            bound = _bound(gates[row["name"]], {} if old else row)
            self._gauge(f"{name}_bound", "the side of the gate's interval that speaks against the challenger", bound, rollout, **labels)
            self._gauge(f"{name}_status", "1 pass, 0 undecided or old, -1 fail", 0 if old else STATUSES[row["status"]], rollout, **labels)
            self._gauge(f"{name}_n", "units that the gate's numbers stand on", row["n_units"], rollout, **labels)
            self._gauge(f"{name}_age_seconds", "since the look that the gate's numbers are of", age_s, rollout, **labels)


def _bound(gate: Gate, row: Mapping[str, Any]) -> float:
    """The conservative side of a gate's interval; infinite on that side when it is not known."""
    lower, upper = row.get("lower"), row.get("upper")
    low = -math.inf if lower is None else float(lower)
    high = math.inf if upper is None else float(upper)
    if gate.word == "within":
        return max(abs(low), abs(high))
    return high if gate.word == "below" else low


def _lag_s(watched: Watched, source: str) -> float:
    """Age of the oldest record of a source that was not taken, in seconds; infinite if it is gone or cannot be read."""
    partition = watched.topology.sources[source]
    try:
        reader = watched.bus.reader({partition: watched.intake.load(source).position})
        try:
            records = reader.read(limit=1, wait_s=READ_S)
        finally:
            reader.close()
    except (Overrun, BusUnavailable):
        return math.inf
    return max(0.0, (watched.clock.now() - records[0].time) / 1e6) if records else 0.0
