"""/metrics, read as Prometheus reads it: counts that add up, one series a question, and bounds that never pass by being absent."""

from __future__ import annotations

import json
import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.core.verdicts import STALE_AFTER
from harness.ports.clock import SystemClock
from harness.ports.ledger import Published
from harness.roles.analyst import canonical

GATES = ["no more minors let in", "guesses no worse", "few decisions change", "it answers"]


def scraped(world) -> dict[tuple[str, frozenset], float]:
    """Every sample of a scrape; two of the same name and labels are an error."""
    answer = world.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[tuple[str, frozenset], float] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            assert sample.labels["rollout"] == "recorded-replay"
            assert not math.isnan(sample.value)
            found[key] = sample.value
    return found


def values(samples: dict, name: str, label: str) -> dict[str, float]:
    """Label -> value of one metric."""
    return {dict(labels)[label]: value for (found, labels), value in samples.items() if found == name}


def one(samples: dict, name: str) -> float:
    """The only sample of a metric."""
    (value,) = [value for (found, _), value in samples.items() if found == name]
    return value


def publish(world, *, looked: int | None = None, rows: dict | None = None, **fields) -> None:
    """A verdict as the analyst writes it, with the rows of some gates changed."""
    verdict = {**world.wiring.analyst().publish(), **fields}
    verdict["gates"] = [{**row, **(rows or {}).get(row["name"], {})} if not row["segment"] else row for row in verdict["gates"]]
    ledger = world.wiring.ledger
    found = Published(verdict=canonical(verdict), looked=SystemClock().now() if looked is None else looked, version=1_000)
    ledger.publish(found, after=ledger.published())


def test_every_gate_has_one_series_before_anything_was_counted(world):
    """Flagger reads no value as a failed check and the last of several as the value: there is always exactly one, and it passes nothing."""
    samples = scraped(world)
    bounds = values(samples, "shadow_gate_bound", "gate")
    assert list(bounds) == GATES
    assert bounds == {GATES[0]: -math.inf, GATES[1]: -math.inf, GATES[2]: math.inf, GATES[3]: math.inf}
    assert set(values(samples, "shadow_gate_status", "gate").values()) == set(values(samples, "shadow_gate_n", "gate").values()) == {0.0}
    assert set(values(samples, "shadow_gate_age_seconds", "gate").values()) == {math.inf}
    assert set(values(samples, "shadow_gate_segment_bound", "segment")) == {"platform=phone", "platform=web"}
    assert (one(samples, "shadow_verdict"), one(samples, "shadow_verdict_age_seconds")) == (0.0, math.inf)


@pytest.mark.parametrize(("verdict", "value"), [("promote", 1.0), ("hold", 0.0), ("rollback", -1.0)])
def test_the_verdict_is_a_number(world, verdict, value):
    """What an alert or a canary's metric compares."""
    publish(world, verdict=verdict)
    assert one(scraped(world), "shadow_verdict") == value


def test_a_gates_bound_is_the_side_that_speaks_against_the_challenger(world):
    """A threshold on the estimate would pass by luck; on this side it passes when the gate would."""
    interval = {"lower": -0.5, "upper": 0.25, "n_units": 7}
    publish(world, rows={name: interval for name in GATES})
    samples = scraped(world)
    assert values(samples, "shadow_gate_bound", "gate") == {GATES[0]: -0.5, GATES[1]: -0.5, GATES[2]: 0.25, GATES[3]: 0.25}
    assert set(values(samples, "shadow_gate_n", "gate").values()) == {7.0}


def test_bounds_of_old_evidence_pass_no_threshold(world):
    """A dead analyst leaves good numbers behind; who gates on the bound alone must not be let through by them."""
    good = {"lower": 0.01, "upper": 0.02, "estimate": 0.015, "status": "pass", "reason": None}
    publish(world, verdict="promote", rows={name: good for name in GATES})
    assert one(scraped(world), "shadow_verdict") == 1.0
    looked = SystemClock().now() - STALE_AFTER - 5_000_000
    publish(world, verdict="promote", rows={name: good for name in GATES}, looked=looked)
    samples = scraped(world)
    assert one(samples, "shadow_verdict") == 0.0
    assert 65.0 <= one(samples, "shadow_verdict_age_seconds") <= (SystemClock().now() - looked) / 1e6
    assert {abs(bound) for bound in values(samples, "shadow_gate_bound", "gate").values()} == {math.inf}
    assert set(values(samples, "shadow_gate_status", "gate").values()) == {0.0}


def test_counts_add_up_and_what_waits_is_seen(world, make):
    """The identity can be checked from a scrape; a router that stands shows as the age of what it has not taken."""
    body = json.dumps([make["events"](f"e{n}") for n in range(20)])
    world.post("events", body, content_type="application/cloudevents-batch+json")
    before = scraped(world)
    lags = values(before, "shadow_source_lag_seconds", "source")
    assert all(0.0 < lags[f"events/{n}"] < 600.0 for n in range(3))
    assert lags["outcomes/0"] == 0.0
    router, joiner = world.wiring.router(), world.wiring.joiner(0)
    while router.step():
        pass
    taken = scraped(world)
    assert one(taken, "shadow_lag_events") == 20.0
    assert set(values(taken, "shadow_source_lag_seconds", "source").values()) == {0.0}
    while joiner.step():
        pass
    after = scraped(world)
    classes = values(after, "shadow_events_total", "class")
    assert one(after, "shadow_events_read_total") == 20.0 == sum(classes.values()) + one(after, "shadow_events_in_flight")
    assert one(after, "shadow_events_in_flight") == 20.0
    assert one(after, "shadow_lag_events") == one(after, "shadow_identity_problems") == 0.0
    router.close()
    joiner.close()


def test_roles_at_work_are_one(world):
    """An alert on a role that rests needs no log."""
    world.wiring.watched().presence.note("router", "steps")
    found = values(scraped(world), "shadow_role_ready", "role")
    assert found == {"router": 1.0, "lane:incumbent": 0.0, "lane:challenger": 0.0, "joiner": 0.0, "analyst": 0.0, "controller": 0.0}


def test_counts_stay_readable_while_the_bus_is_away(world, own_redis):
    """The verdict is in the store: a bus that is away shows as such, and as infinite lag, and takes no series away."""
    from fastapi.testclient import TestClient

    from harness.api.app import create_app
    from harness.api.service import Service

    service = Service(bus=own_redis.url, store=world.url, topic="replay.events")
    client = TestClient(create_app(service), raise_server_exceptions=False)
    names = {line.split("{")[0] for line in client.get("/metrics").text.splitlines() if not line.startswith("#")}
    own_redis.stop()
    answer = client.get("/metrics")
    assert {line.split("{")[0] for line in answer.text.splitlines() if not line.startswith("#")} == names
    assert 'shadow_bus_up{rollout="recorded-replay"} 0.0' in answer.text
    assert 'shadow_source_lag_seconds{rollout="recorded-replay",source="events/0"} +Inf' in answer.text
    assert client.get("/v1/rollouts/recorded-replay").json()["bus"] == "away"


def test_metrics_without_a_store_are_an_error(frail, own_redis):
    """Prometheus then sets `up` to 0, which is what its alerts watch; zeros would look like a quiet day."""
    own_redis.stop()
    assert frail.client.get("/metrics").status_code == 503
