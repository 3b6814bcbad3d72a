"""A good config as a plain document, and what is said of a changed one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config import parse
from harness.core.errors import ConfigError

Document = dict[str, Any]
GOOD = """
rollout: age-test
events:
  topic: age.events
  unit: subject
  segments:
    gender: /segments/gender
    race_eth: /segments/race_eth
    platform: {field: /segments/platform, values: [tv, web], missing: unknown}
    true_age: {truth: age, bins: [0, 13, 18, 120]}
models:
  incumbent: {uri: "recorded:incumbent.jsonl"}
  challenger: {uri: "recorded:challenger.jsonl"}
outputs:
  age: {type: number, unit: years, range: [0, 120], incumbent: {field: /age}, challenger: {field: /age}}
  level: {type: label, labels: [low, high], incumbent: {field: /level}, challenger: {field: /level}}
  kinds: {type: scores, labels: [spam, abuse], incumbent: {field: /kinds}, challenger: {field: /kinds}}
policies:
  over_13: {output: age, at_least: 13}
  over_18: {output: age, at_least: 18}
  adult: {output: age, at_least: 18, decide: [{allow: {at_least: 25}}, {check_id: {at_least: 18}}, block]}
  high: {output: level, is: [high]}
  spam: {output: kinds, of: spam, at_least: 0.5}
harms:
  let_in: {policy: over_18, truth: false, decision: true}
  adult_stopped: {policy: adult, truth: true, decision: [check_id, block]}
outcomes: {topic: age.verified, event: /event_id, truth: {age: /age}, matures: 16d, revised: last}
sample: {percent: 100}
pairing: {window: 30s}
gates:
  - {name: guesses no worse, metric: {loss: absolute_error, output: age}, worse_by_at_most: 0.25}
  - {name: fewer let in, metric: {harm: let_in}, better_by_more_than: 0, each: [gender, [gender, platform]]}
  - {name: few flips, metric: {flip: over_18, from: false, to: true}, below: 0.03, on_fail: hold}
  - {name: it answers, metric: {missing: challenger}, below: 0.001}
  - {name: it is fast, metric: {latency: p99, lane: challenger}, below: 250ms}
stages:
  - {shadow: {percent: 100}, at_least: 24h}
  - {canary: {percent: 5}, at_least: 12h}
  - {promote: {bake: 7d}}
"""


@pytest.fixture
def good() -> Document:
    """A document that is accepted."""
    document: Document = yaml.safe_load(GOOD)
    return document


@pytest.fixture
def put(good: Document) -> Callable[..., Document]:
    """put("gates.0.below", 0.05, ...) gives the good document with these changes; `...` removes a key."""

    def changed(*changes: Any) -> Document:
        document = copy.deepcopy(good)
        for path, value in zip(changes[::2], changes[1::2], strict=True):
            *outer, last = [int(step) if step.isdigit() else step for step in path.split(".")]
            place: Any = document
            for step in outer:
                place = place[step]
            if value is ...:
                del place[last]
            elif isinstance(place, list) and last == len(place):
                place.append(value)
            else:
                place[last] = value
        return document

    return changed


@pytest.fixture
def said() -> Callable[[object], dict[str, str]]:
    """Every problem of a document, path to message; empty when it is accepted."""

    def problems(document: object) -> dict[str, str]:
        try:
            parse(document, source="test", folder=Path())
        except ConfigError as error:
            assert len({problem.path for problem in error.problems}) == len(error.problems), "one problem a path"
            return {problem.path: problem.message for problem in error.problems}
        return {}

    return problems
