"""A whole production week on real processes, four times: `make week [BUS=kafka]`. Some minutes.

Canaries at 1, 10 and 50 percent. A good challenger; one that turns bad in the last canary; one that turns bad in the bake; and one half of
whose exposures production forgets to report. Prints a line for each step of record time, and in the end what became of each stage and how
long it took until what was wrong was stopped, beside what the theory promises. `--write FILE` puts the tables between the page's marks.

The promise is of the gate's own e-process on the traffic's own chances (`analysis.planning.forecast`: about half of all streams take
longer), or of the split's; rounded up to a look that knows the labels. Exit code 1 if a scenario does not end as it must.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import redis

from analysis.gates import prepare
from analysis.online.split import fired, log_e_split
from analysis.planning import Assumed, forecast
from harness.adapters.redis.journal import RedisJournal
from harness.config import load as load_config
from harness.roles.analyst import plan_of
from harness.roles.standing import Follower

HERE = Path(__file__).parent
PERCENTS, UNITS = (1.0, 10.0, 50.0), 2_000
MOST_STEPS, WATCHED_STEPS = 58, 6  # of evidence that has not expired; after the wrong split began
YEARS = 1.7  # a challenger that is bad takes everybody for so much older: a little, so that it takes time to see
DRAWN = 100_000
GATE = "fewer minors let in"


def load(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"system_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(HERE.parent / "support"))
production, processes, run_faults = load("production"), load("processes"), load("run_faults")
STEP_H = production.STEP.total_seconds() / 3_600


@dataclass(frozen=True, slots=True)
class Scenario:
    """A week: what is wrong in it, and how it must end."""

    name: str
    ends: tuple[str, int]
    traffic: Mapping[str, float]


SCENARIOS = (
    Scenario("a good challenger", ("promoted", 4), {}),
    Scenario("turns bad at 50 percent", ("rolled_back", 3), {"bad_from": 50.0, "years": YEARS}),
    Scenario("turns bad in the bake", ("rolled_back", 4), {"bad_from": 101.0, "years": YEARS}),
    Scenario("half of its exposures are lost", ("running", 1), {"lost": 0.5}),
)


# ---------------------------------------------------------------------------------------------------------------- what theory promises
def fail_promised(rollout: Any, stage: int) -> tuple[int, float]:
    """(units of the gate, hours) after which a gate that hears only of a bad challenger fails."""
    rng = random.Random(0)
    people = [production.person(rng, YEARS) for _ in range(DRAWN)]
    minors = [guesses for age, guesses in people if age < 18.0]
    values = np.array([float(g["incumbent"] >= 18.0) - float(g["challenger"] >= 18.0) for g in minors])
    gate = next(gate for gate in rollout.gates_of(stage) if gate.name == GATE)
    test, levels = prepare(gate), plan_of(rollout, stage)
    shares = np.zeros(test.support.n_values)
    _, cells, parts = test.support.spread(values, None)
    np.add.at(shares, cells, parts / (test.support.one * len(values)))
    what = Assumed(shares=shares, words="as production draws them")
    found = forecast(test, what, alpha=levels.alpha_of(gate), fail_level=levels.fail_level)
    assert found.ends == "fail" and found.units is not None, found
    hours = found.units * len(people) / len(minors) / UNITS * STEP_H + rollout.outcomes.matures_s / 3_600
    return found.units, ceil(hours / STEP_H) * STEP_H


def split_promised(percent: float, lost: float, window_h: float) -> tuple[int, float]:
    """(units exposed, hours) after which a wrong split is found, on exactly the average counts."""
    p, looks = percent / 100.0, 0
    per_hour = np.array([1.0 - p, p * (1.0 - lost)]) * UNITS / STEP_H
    while True:
        looks += 1
        first, kept = per_hour * looks * STEP_H, per_hour * (looks * STEP_H - window_h)
        if fired(log_e_split({0: first}, {0: kept}, {0: p})):
            return round(float(first.sum())), looks * STEP_H


# ----------------------------------------------------------------------------------------------------------------------- a week
@contextmanager
def servers(bus: str, folder: Path) -> Iterator[tuple[str, str | None]]:
    """(URL of a Redis, address of a Kafka or None), of this run's own."""
    from kafka_broker import Cluster
    from producers import RedisServer

    with ExitStack() as stack:
        server = RedisServer(folder / "redis")
        stack.callback(server.kill)
        address = stack.enter_context(Cluster(folder / "kafka", 1, heap="512m")).brokers[0].address if bus == "kafka" else None
        yield server.url, address


@contextmanager
def week(scenario: Scenario, url: str, kafka: str | None, folder: Path) -> Iterator[Any]:
    """A rollout that runs on an empty store, and its production."""
    with redis.Redis.from_url(url) as client, ExitStack() as stack:
        client.flushdb()
        files = production.written(folder / "config", PERCENTS)
        send = production.to_redis(client) if kafka is None else stack.enter_context(production.to_kafka(kafka))
        options = [] if kafka is None else ["--bus", f"kafka://{kafka}"]
        running = processes.Up(files, folder / "data", url=url, options=options, roles=production.ROLES)
        stack.callback(running.close)
        running.name = "week"
        running.start()
        traffic = production.Production(send, UNITS, **scenario.traffic)
        journal = RedisJournal(url, "week", keep_s=3_600.0)
        yield production.Week(running, traffic, load_config(files.config), Follower(journal), processes, told=told(scenario))


def told(scenario: Scenario) -> Callable[[Any], None]:
    """Prints a line after each step."""

    def say(found: Any) -> None:
        at, state = clock(production.START + production.STEP * found.production.steps), found.state()
        run_faults.say(
            f"{scenario.name}: {at}, {words(found, state.stage)}, {state.standing.value}, {found.production.exposed:,} units served"
        )

    return say


def words(found: Any, stage: int) -> str:
    """A stage, for people."""
    each = found.rollout.stages[stage]
    return f"canary {each.percent:g} %" if each.kind == "canary" else {"shadow": "shadow", "promote": "bake"}[each.kind]


def clock(when: datetime) -> str:
    """Record time since the week began."""
    hours = round((when - production.START).total_seconds() / 3_600)
    return f"day {hours // 24 + 1}, {hours % 24:02d}:00"


def instant(text: str) -> datetime:
    """A record time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a scenario. stages: (stage, when entered, units served in it). stopped: (what, when it began, what was measured,
    what was promised), None where nothing was wrong."""

    scenario: Scenario
    ended: str
    stages: Sequence[tuple[str, str, int]]
    stopped: tuple[str, str, str, str] | None
    took_s: float


def lived(scenario: Scenario, url: str, kafka: str | None, folder: Path) -> Told:
    """One week from its first event to its end."""
    began = time.monotonic()
    with week(scenario, url, kafka, folder) as found:
        found.approve_by_hand("bea", "policy")
        lost = scenario.traffic.get("lost")

        def over(state: Any) -> bool:
            return state.final or bool(lost and found.exposed.get(1) is not None and found.production.steps >= entered[0] + WATCHED_STEPS)

        entered = [MOST_STEPS]
        if lost:
            found.live(lambda state: state.stage == 1, most=MOST_STEPS)
            entered[0] = found.production.steps
        state = found.live(over, most=MOST_STEPS)
        if (state.standing.value, state.stage) != scenario.ends:
            raise AssertionError(
                f"{scenario.name}: {state.standing.value} in stage {state.stage}, expected {scenario.ends}: {found.waits()}"
            )
        audit = found.audited()
        if (audit.exit_code, audit.level, audit.unsealed) != (0, "pairs", []):
            raise AssertionError(f"{scenario.name}: an auditor finds {audit.document()}")
        records = [json.loads(link.body) for link in RedisJournal(url, "week", keep_s=3_600.0).read()]
        starts = {0: production.START, **{r["stage"]: instant(r["since"]) for r in records if r["kind"] == "entered"}}
        stages = [(words(found, stage), clock(when), found.exposed.get(stage, 0)) for stage, when in starts.items()]
        stopped = misdrawn(found, starts, lost) if lost else went_bad(found, records)
        verdict = found.running.verdict()
        ended = state.standing.value.replace("_", " ") if state.final else f"holds: {verdict['reasons'][0].partition(' (')[0]}"
        return Told(scenario, ended, stages, stopped, time.monotonic() - began)


def went_bad(found: Any, records: Sequence[Mapping[str, Any]]) -> tuple[str, str, str, str] | None:
    """How long the challenger was bad before it was rolled back."""
    turned, last = found.production.turned, [record for record in records if record["kind"] != "sealed"][-1]
    if turned is None:
        return None
    hours = (instant(last["since"]) - turned).total_seconds() / 3_600
    row = next(row for row in last["evidence"]["gates"] if row["name"] == GATE and row["segment"] is None)
    units, promised = fail_promised(found.rollout, last["stage"])
    measured = f"{hours:g} h, {row['n_units']:,} minors with a label"
    return f"the gate `{GATE}` failed", clock(turned), measured, f"{promised:g} h, {units:,} minors"


def misdrawn(found: Any, starts: Mapping[int, datetime], lost: float) -> tuple[str, str, str, str]:
    """How long exposures were lost before the rollout said so."""
    arms, percent = found.running.verdict()["arms"], found.rollout.stages[1].percent
    assert arms["split_fired_at"] is not None, arms
    hours = (instant(arms["split_fired_at"]) - starts[1]).total_seconds() / 3_600
    window_h = production.config(PERCENTS)["online"]["complaints"]["window"]
    units, promised = split_promised(percent, lost, float(window_h.removesuffix("h")))
    return "the split was found wrong; it holds", clock(starts[1]), f"{hours:g} h", f"{promised:g} h, {units:,} units in both arms"


# ---------------------------------------------------------------------------------------------------------------------- tables
def tables(told: Sequence[Told], bus: str) -> str:
    """Both tables as Markdown."""
    lines = [f"On {bus}, {os.cpu_count()} cores, {sum(each.took_s for each in told):.0f} s for all four.", ""]
    lines += ["| week | stage | entered | units that the challenger served in it | ends |", "|---|---|---|---|---|"]
    for each in told:
        for n, (stage, entered, served) in enumerate(each.stages):
            last = each.ended if n == len(each.stages) - 1 else ""
            lines.append(f"| {each.scenario.name if n == 0 else ''} | {stage} | {entered} | {served:,} | {last} |")
    lines += ["", "| week | since | what stopped it | after | promised |", "|---|---|---|---|---|"]
    for each in told:
        if each.stopped is not None:
            what, since, after, promised = each.stopped
            lines.append(f"| {each.scenario.name} | {since} | {what} | {after} | {promised} |")
    return "\n".join(lines)


def write(page: Path, name: str, shown: str) -> None:
    """Replaces what stands between the marks of a page."""
    marks, text = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S), page.read_text()
    if not marks.search(text):
        raise SystemExit(f"{page} has no <!-- {name} --> and <!-- /{name} -->")
    page.write_text(marks.sub(lambda found: f"{found[1]}\n{shown}\n\n{found[2]}", text))


def main() -> int:
    """The four weeks; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bus", choices=("redis", "kafka"), default="redis")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace what stands between the marks of this page")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="week-"))
    run_faults.leave_nothing_behind(folder)
    done: list[Told] = []
    try:
        with servers(options.bus, folder) as (url, kafka):
            for n, scenario in enumerate(SCENARIOS):
                done.append(lived(scenario, url, kafka, folder / str(n)))
    except AssertionError as error:
        run_faults.say(f"FAILED, its files are in {folder}: {error}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    shown = tables(done, {"redis": "Redis", "kafka": "Kafka"}[options.bus])
    run_faults.say(f"\n{shown}")
    if options.write:
        write(options.write, f"week {options.bus}", shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
