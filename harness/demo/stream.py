"""The demo's traffic: a fortnight of visits of people whom no model was trained on, and their ages, learnt late.

Real: the people, their measurements and ages. Made up, seeded: when they come and how often, what a visit shows of them, their
platform, how long an age check takes and who never passes one. The same seed gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.demo import traffic
from harness.demo.people import FEATURES, load, observe, split
from harness.demo.traffic import DAY, EVENTS, HOUR, OUTCOMES, SEED, Array, Built

SOURCE = "/demo/age"
MOST_VISITS = 9
CHECKED = 0.85  # share of the people who ever pass an age check
SLOWEST_CHECK_DAYS = 14

_PLATFORMS = {"android": 0.38, "ios": 0.32, "web": 0.20, "tv": 0.10}


@dataclass(frozen=True, slots=True)
class _Person:
    """What an event or an outcome says of who is behind it."""

    subject: str
    age: int
    gender: str
    race_eth: str
    platform: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """The visits, columns of one length; times in seconds since START, NaN where a person's age is never checked.

    row: the person, as in `people.load`. number: the event's number, unique and in no order.
    """

    row: NDArray[np.int64]
    number: NDArray[np.int64]
    happened: Array
    arrived: Array
    checked: Array


def build(folder: Path, seed: int = SEED) -> Built:
    """Writes events.jsonl.gz and outcomes.jsonl.gz: structured CloudEvents, one a line, about 9,000 and 7,700.

    Events stand in order of arrival (`recordedtime`), a few of them hours after they happened (`time`); outcomes in order of their `time`.
    `subject` is the person: a made-up code, nothing of the survey's own.

    Args:
        folder: Where the files go; made if it is not there.
        seed: The one that the models were trained with, so that nobody of the stream was trained on.

    Raises:
        UsageError: the people are not installed.
    """
    people = load()
    visits = plan_visits(people, seed)
    rng = np.random.default_rng([seed, 3])
    audience = np.unique(visits.row)
    codes = dict(zip(rng.permutation(audience).tolist(), range(len(audience)), strict=True))
    people = people.assign(platform=rng.choice(list(_PLATFORMS), size=len(people), p=list(_PLATFORMS.values())))
    seen = observe(people, visits.row, rng)
    facts = zip(*(people[column].tolist() for column in ("age", "gender", "race_eth", "platform")), strict=True)
    persons = [_Person(f"p-{codes.get(row, 0):05d}", *known) for row, known in enumerate(facts)]
    folder.mkdir(parents=True, exist_ok=True)
    arriving = np.lexsort((visits.number, visits.arrived))
    n_events = traffic.write(folder / EVENTS, (_event(persons[visits.row[i]], visits, i, seen[i]) for i in arriving))
    learnt = np.lexsort((visits.number, visits.checked))[: np.isfinite(visits.checked).sum()]  # NaN, never checked, sorts last
    n_outcomes = traffic.write(folder / OUTCOMES, (_outcome(persons[visits.row[i]], visits, i) for i in learnt))
    return Built(events=folder / EVENTS, outcomes=folder / OUTCOMES, n_events=n_events, n_people=len(audience), n_outcomes=n_outcomes)


def plan_visits(people: pd.DataFrame, seed: int) -> Visits:
    """1 to 9 visits of each person whom no model was trained on, the young more often, with a rhythm of day and night.

    A person is checked once, some hours or days after the first visit; the age behind a later visit is known about a minute after it.
    """
    _, audience = split(people, seed)
    rng = np.random.default_rng([seed, 2])
    age = people["age"].to_numpy()
    often = np.where(age[audience] < 13, 1.7, np.where(age[audience] < 25, 2.4, 0.65))
    row = rng.permutation(np.repeat(audience, np.minimum(1 + rng.poisson(often), MOST_VISITS)))
    n = len(row)
    happened, delay = traffic.happenings(rng, n), traffic.delays(rng, n)
    first = pd.Series(happened).groupby(row).min()
    check = np.minimum(np.exp(rng.normal(np.log(30 * HOUR), 1.0, len(first))), SLOWEST_CHECK_DAYS * DAY)
    passed = (first + check).where(rng.random(len(first)) < CHECKED)
    checked = np.maximum(passed.loc[row].to_numpy(), happened + 60.0 + rng.random(n) * 30.0)
    return Visits(row=row, number=rng.permutation(n), happened=happened, arrived=happened + delay, checked=checked)


def _event(person: _Person, visits: Visits, i: int, seen: Array) -> dict[str, Any]:
    data = {name: _plain(value) for name, value in zip(FEATURES, seen.tolist(), strict=True)}
    segments = {"gender": person.gender, "race_eth": person.race_eth, "platform": person.platform}
    return {
        "specversion": "1.0",
        "id": _event_id(visits, i),
        "source": SOURCE,
        "type": "age.requested",
        "subject": person.subject,
        "time": traffic.time_words(visits.happened[i]),
        "recordedtime": traffic.time_words(visits.arrived[i]),
        "datacontenttype": "application/json",
        "data": {**data, "segments": segments},
    }


def _outcome(person: _Person, visits: Visits, i: int) -> dict[str, Any]:
    event_id = _event_id(visits, i)
    return {
        "specversion": "1.0",
        "id": f"{event_id}/id_check",
        "source": f"{SOURCE}/checks",
        "type": "age.verified",
        "subject": person.subject,
        "time": traffic.time_words(visits.checked[i]),
        "datacontenttype": "application/json",
        "data": {"event_id": event_id, "age": person.age},
    }


def _event_id(visits: Visits, i: int) -> str:
    return f"age-{int(visits.number[i]):06d}"


def _plain(value: float) -> int | float | None:
    """A number as JSON writes it best: null for not seen, no `.0` after a whole number."""
    if np.isnan(value):
        return None
    return int(value) if value.is_integer() else value
