"""The demo's people and traffic: nobody trained on is judged by, labels come late, and every run gives the same bytes."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.core.errors import UsageError
from harness.demo import people, stream
from harness.demo.age_models import SEED

MATURES = timedelta(days=16)  # of harness/demo/age.yaml


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture(scope="module")
def everybody(demo: Any) -> pd.DataFrame:
    return people.load()


def test_the_same_seed_gives_the_same_bytes(demo: Any, tmp_path: Path):
    """Runs repeat: a verdict that somebody saw can be seen again."""
    again = stream.build(tmp_path)
    assert again.events.read_bytes() == demo.built.events.read_bytes()
    assert again.outcomes.read_bytes() == demo.built.outcomes.read_bytes()


def test_another_seed_gives_another_stream(demo: Any, tmp_path: Path):
    """The seed must reach everything, or the test above could not fail."""
    assert stream.build(tmp_path, SEED + 1).events.read_bytes() != demo.built.events.read_bytes()


def test_nobody_of_the_stream_was_trained_on(everybody: pd.DataFrame, demo: Any):
    """A model is better on people it has seen: the comparison would flatter both."""
    trained_on, audience = people.split(everybody, SEED)
    visitors = set(stream.plan_visits(everybody, SEED).row.tolist())
    assert visitors.isdisjoint(trained_on.tolist())
    assert visitors == set(audience.tolist())
    assert len(trained_on) + len(audience) == len(everybody)
    assert demo.training.n_people == len(trained_on)


def test_the_stream_has_the_promised_size(demo: Any):
    """The demo says about 9,000 events of about 4,200 people, most of them with a label."""
    subjects = Counter(event["subject"] for event in demo.events)
    assert 8_500 < len(demo.events) == demo.built.n_events < 9_500
    assert 4_000 < len(subjects) == demo.built.n_people < 4_400
    assert (min(subjects.values()), max(subjects.values())) == (1, stream.MOST_VISITS)
    checked = {outcome["subject"] for outcome in demo.outcomes}
    assert 0.82 < len(checked) / len(subjects) < 0.88
    assert len(demo.outcomes) == demo.built.n_outcomes


def test_events_are_cloudevents_in_order_of_arrival(demo: Any):
    """What the router reads: required attributes, one identity each, arrival sorted, the time it happened not."""
    wanted = {"specversion", "id", "source", "type", "subject", "time", "recordedtime", "datacontenttype", "data"}
    assert all(set(event) == wanted for event in demo.events)
    assert len({event["id"] for event in demo.events}) == len(demo.events)
    arrivals = [event["recordedtime"] for event in demo.events]
    assert arrivals == sorted(arrivals)
    happened = [event["time"] for event in demo.events]
    assert happened != sorted(happened)
    assert all(moment(event["time"]) < moment(event["recordedtime"]) for event in demo.events)


def test_an_event_holds_signals_and_segments_and_no_age(demo: Any):
    """The truth comes later; with it in the event the models would be judged on what they were told."""
    assert all(set(event["data"]) == {*people.FEATURES, "segments"} for event in demo.events)
    assert {event["data"]["segments"]["gender"] for event in demo.events} == {"female", "male"}
    assert all(set(event["data"]["segments"]) == {"gender", "race_eth", "platform"} for event in demo.events)


def test_signals_are_partly_missing(demo: Any):
    """Real traffic has holes; each signal must be there mostly and not always."""
    missing = {name: np.mean([event["data"][name] is None for event in demo.events]) for name in people.FEATURES}
    assert all(0.03 < share < 0.5 for share in missing.values()), missing


def test_a_person_keeps_platform_and_age(demo: Any):
    """A unit is one person on one platform; its labels agree."""
    platforms = {(event["subject"], event["data"]["segments"]["platform"]) for event in demo.events}
    assert len(platforms) == demo.built.n_people
    ages = {(outcome["subject"], outcome["data"]["age"]) for outcome in demo.outcomes}
    assert len(ages) == len({outcome["subject"] for outcome in demo.outcomes})


def test_labels_come_late_and_before_they_must(demo: Any):
    """After the event, in order, hours later for the most part, and within what the config calls mature."""
    happened = {event["id"]: moment(event["time"]) for event in demo.events}
    times = [moment(outcome["time"]) for outcome in demo.outcomes]
    assert times == sorted(times)
    waits = [time - happened[outcome["data"]["event_id"]] for time, outcome in zip(times, demo.outcomes, strict=True)]
    assert min(waits) >= timedelta(seconds=59)
    assert max(waits) < MATURES
    assert np.mean([wait > timedelta(hours=6) for wait in waits]) > 0.3


def test_a_missing_distribution_is_named_with_what_to_install():
    """The people are an extra: who lacks it must read one line, not a traceback."""
    with pytest.raises(UsageError, match=r"pip install 'shadow-harness\[demo\]'"):
        people.data_file("no-such-distribution-as-this")


def test_another_table_is_refused(tmp_path: Path):
    """A newer survey with other columns must not become people without measurements."""
    table = tmp_path / "other.tsv"
    table.write_text("SEQN\tGender\n1\tMale\n")
    with pytest.raises(UsageError, match=r"other\.tsv: not the table"):
        people.load(table)
