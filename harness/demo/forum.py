"""The moderation demo's traffic: a fortnight of a forum's posts, and what reviewers say of them, late.

Made up, seeded: the texts with their true class (`posts`), the authors, when they write, and when a reviewer reads it. Most authors write
once or twice and a few very often; most are never rude, and a few are it often. Reviewers read four of five posts, chosen by chance and not
by what a detector says, so what they find speaks of all posts. The same seed gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.demo import posts, traffic
from harness.demo.traffic import EVENTS, HOUR, OUTCOMES, SEED, Array, Built

SOURCE = "/demo/forum"
AUTHORS = 4_000
MOST_POSTS = 40
REVIEWED = 0.8  # share of the posts that a reviewer reads
SLOWEST_REVIEW_DAYS = 7
SURFACES = {"post": 0.35, "reply": 0.45, "chat": 0.20}
AT_HOME = 0.85  # share of an author's posts in the community that is theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who writes what where, columns of one length; times in seconds since START, NaN where nobody reviews.

    number: the post's number, unique and in no order.
    """

    author: NDArray[np.int64]
    community: tuple[str, ...]
    surface: tuple[str, ...]
    violating: NDArray[np.bool_]
    number: NDArray[np.int64]
    happened: Array
    arrived: Array
    reviewed: Array


def build(folder: Path, seed: int = SEED) -> Built:
    """Writes events.jsonl.gz and outcomes.jsonl.gz: structured CloudEvents, one a line.

    Events stand in order of arrival (`recordedtime`), a few of them hours after they were written (`time`); outcomes in order of their
    `time`. `subject` is the author.

    Args:
        folder: Where the files go; made if it is not there.
        seed: Decides everything.
    """
    plan = plan_posts(seed)
    rng = np.random.default_rng([seed, 5])
    texts = [_text(rng, plan, i) for i in range(len(plan.author))]
    folder.mkdir(parents=True, exist_ok=True)
    arriving = np.lexsort((plan.number, plan.arrived))
    n_events = traffic.write(folder / EVENTS, (_event(plan, i, texts[i]) for i in arriving))
    known = np.lexsort((plan.number, plan.reviewed))[: np.isfinite(plan.reviewed).sum()]  # NaN, never reviewed, sorts last
    n_outcomes = traffic.write(folder / OUTCOMES, (_outcome(plan, i) for i in known))
    n_people = len(np.unique(plan.author))
    return Built(events=folder / EVENTS, outcomes=folder / OUTCOMES, n_events=n_events, n_people=n_people, n_outcomes=n_outcomes)


def plan_posts(seed: int) -> Plan:
    """Authors with 1 to 40 posts each, a home and a temper, and the posts' places, classes and times."""
    rng = np.random.default_rng([seed, 4])
    names = tuple(posts.COMMUNITIES)
    n_posts = np.minimum(1 + np.floor(rng.pareto(1.4, AUTHORS)).astype(np.int64), MOST_POSTS)
    author = rng.permutation(np.repeat(np.arange(AUTHORS), n_posts))
    n = len(author)
    home, temper = rng.integers(0, len(names), AUTHORS), rng.gamma(0.6, 1 / 0.6, AUTHORS)  # temper: mean 1, most far below it
    place = np.where(rng.random(n) < AT_HOME, home[author], rng.integers(0, len(names), n))
    community = tuple(names[k] for k in place)
    share = np.array([posts.COMMUNITIES[name][0] for name in community])
    happened = traffic.happenings(rng, n)
    arrived = happened + traffic.delays(rng, n)
    wait = np.minimum(np.exp(rng.normal(np.log(20 * HOUR), 0.9, n)), SLOWEST_REVIEW_DAYS * traffic.DAY)
    return Plan(
        author=author,
        community=community,
        surface=tuple(rng.choice(list(SURFACES), size=n, p=list(SURFACES.values())).tolist()),
        violating=rng.random(n) < np.minimum(share * temper[author], 0.95),
        number=rng.permutation(n),
        happened=happened,
        arrived=arrived,
        reviewed=np.where(rng.random(n) < REVIEWED, arrived + wait, np.nan),
    )


def _text(rng: np.random.Generator, plan: Plan, i: int) -> str:
    community = plan.community[i]
    kind = posts.kind_of(rng, community, violating=bool(plan.violating[i]))
    return posts.text(rng, community, kind, surface=plan.surface[i])


def _event(plan: Plan, i: int, text: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": _event_id(plan, i),
        "source": SOURCE,
        "type": "post.submitted",
        "subject": f"author-{int(plan.author[i]):05d}",
        "time": traffic.time_words(plan.happened[i]),
        "recordedtime": traffic.time_words(plan.arrived[i]),
        "datacontenttype": "application/json",
        "data": {"text": text, "segments": {"community": plan.community[i], "surface": plan.surface[i]}},
    }


def _outcome(plan: Plan, i: int) -> dict[str, Any]:
    event_id = _event_id(plan, i)
    return {
        "specversion": "1.0",
        "id": f"{event_id}/review",
        "source": f"{SOURCE}/reviews",
        "type": "post.reviewed",
        "time": traffic.time_words(plan.reviewed[i]),
        "datacontenttype": "application/json",
        "data": {"event_id": event_id, "violating": bool(plan.violating[i])},
    }


def _event_id(plan: Plan, i: int) -> str:
    return f"post-{int(plan.number[i]):06d}"
