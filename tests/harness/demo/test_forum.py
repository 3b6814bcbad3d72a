"""The moderation demo's posts and traffic: classes by construction, labels that come late and by chance, and the same bytes every run."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.demo import forum, posts, traffic

CONFIG = yaml.safe_load((Path(forum.__file__).parent / "moderation.yaml").read_text())


@pytest.fixture(scope="module")
def events(forum_stream: traffic.Built, records: Any) -> list[dict[str, Any]]:
    return records(forum_stream.events)


@pytest.fixture(scope="module")
def outcomes(forum_stream: traffic.Built, records: Any) -> list[dict[str, Any]]:
    return records(forum_stream.outcomes)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(forum_stream: traffic.Built, tmp_path: Path):
    """Runs repeat: a verdict that somebody saw can be seen again."""
    again, other = forum.build(tmp_path / "a"), forum.build(tmp_path / "b", traffic.SEED + 1)
    assert again.events.read_bytes() == forum_stream.events.read_bytes()
    assert again.outcomes.read_bytes() == forum_stream.outcomes.read_bytes()
    assert other.events.read_bytes() != forum_stream.events.read_bytes()


def test_the_stream_has_the_promised_size_and_some_write_very_often(forum_stream: traffic.Built, events: list[dict[str, Any]]):
    """About 10,000 posts of 4,000 authors; a gate that counted posts would count a few authors."""
    written = Counter(event["subject"] for event in events)
    assert 9_000 < len(events) == forum_stream.n_events < 11_000
    assert len(written) == forum_stream.n_people == forum.AUTHORS
    assert (min(written.values()), max(written.values())) == (1, forum.MOST_POSTS)
    busiest = sorted(written.values())[-len(written) // 20 :]
    assert sum(busiest) > 0.25 * len(events)


def test_an_event_holds_a_text_and_segments_and_no_class(events: list[dict[str, Any]]):
    """The class comes with the review; the segments are those that the config lists."""
    assert all(set(event["data"]) == {"text", "segments"} for event in events)
    listed = CONFIG["events"]["segments"]
    for name in ("community", "surface"):
        assert {event["data"]["segments"][name] for event in events} == set(listed[name]["values"])
    arrivals = [event["recordedtime"] for event in events]
    assert arrivals == sorted(arrivals)
    assert len({event["id"] for event in events}) == len(events)


def test_reviews_come_late_and_before_they_must(events: list[dict[str, Any]], outcomes: list[dict[str, Any]]):
    """After the post, in order, hours later for the most part, and within what the config calls mature."""
    arrived = {event["id"]: datetime.fromisoformat(event["recordedtime"]) for event in events}
    times = [datetime.fromisoformat(outcome["time"]) for outcome in outcomes]
    assert times == sorted(times)
    waits = [time - arrived[outcome["data"]["event_id"]] for time, outcome in zip(times, outcomes, strict=True)]
    assert min(waits) > timedelta(0)
    assert max(waits) < timedelta(days=int(CONFIG["outcomes"]["matures"].removesuffix("d")))
    assert np.mean([wait > timedelta(hours=6) for wait in waits]) > 0.7


def test_who_is_reviewed_does_not_depend_on_the_post(events: list[dict[str, Any]], outcomes: list[dict[str, Any]]):
    """Labels by chance speak of all posts; chosen by a detector they would flatter it."""
    plan = forum.plan_posts(traffic.SEED)
    reviewed = np.isfinite(plan.reviewed)
    assert len(outcomes) == reviewed.sum()
    for rows in (plan.violating, ~plan.violating, *(np.array(plan.surface) == name for name in forum.SURFACES)):
        assert abs(np.mean(reviewed[rows]) - forum.REVIEWED) < 0.04


@pytest.mark.parametrize("community", posts.COMMUNITIES)
def test_every_community_has_its_share_of_violating_posts(community: str):
    """About what the table says, also with authors of different tempers."""
    plan = forum.plan_posts(traffic.SEED)
    here = np.array(plan.community) == community
    assert abs(np.mean(plan.violating[here]) - posts.COMMUNITIES[community][0]) < 0.05
    assert all(sum(mix) == pytest.approx(1.0) for mix in posts.COMMUNITIES[community][1:])


@pytest.mark.parametrize("kind", (*posts.HARMLESS, *posts.VIOLATING))
def test_a_post_is_a_sentence_with_nothing_left_to_fill(kind: str):
    """A slot without a word would be a hole in the demo's text."""
    rng = np.random.default_rng(7)
    for community in posts.COMMUNITIES:
        written = [posts.text(rng, community, kind, surface=surface) for surface in forum.SURFACES for _ in range(40)]
        assert all(len(text) > 10 and "{" not in text and "  " not in text for text in written)
        assert len(set(written)) > 40


def test_a_disguised_word_keeps_its_length_and_loses_a_letter():
    """Digits stand where letters stood, at least one; a word without such a letter stays."""
    rng = np.random.default_rng(7)
    found = {posts.disguised(rng, "idiot") for _ in range(200)}
    assert all(len(word) == 5 and word != "idiot" for word in found) and len(found) > 5
    assert posts.disguised(rng, "dumb") == "dumb"
