"""What the records about one event's label come to: the last label by time, and whether and with what chance one was asked for.

Any order of the same records comes to the same, so that neither a replay nor a redelivery moves a number. With requests the smallest of
the chances that were stated counts: whoever asks another reviewer about an event that was drawn at 0.2 is sure to ask, and the event was
drawn at 0.2 all the same. A label that states its own chance is its own request; one that states none and was never asked for stays beside
its pair, and no gate that speaks of all traffic takes it.
"""

from __future__ import annotations

from harness.core.accounting import Tally
from harness.core.events import Outcome


def is_label(outcome: Outcome) -> bool:
    """Whether it says what is true; else it only says that this was asked."""
    return any(truth is not None for truth in outcome.truths)


def merged(old: Outcome | None, new: Outcome, *, requests: bool) -> Outcome:
    """What is known once `new` has come; without a label its time is -1, as in a row. requests: whether the rollout records them; else
    a label replaces all of the one before."""
    if old is None:
        return new if is_label(new) or not requests else new._replace(time=-1, number=0)
    labels = [outcome for outcome in (old, new) if is_label(outcome)]
    last = max(labels, key=lambda outcome: (outcome.time, outcome.number), default=old)
    if not requests:
        return last
    return last._replace(propensity=min((o.propensity for o in (old, new) if o.propensity is not None), default=None))


def count(tally: Tally, old: Outcome | None, new: Outcome) -> None:
    """Counts what has become of a record whose event is known."""
    if not is_label(new):
        tally.add("requests")
    else:
        tally.add("revised" if old is not None and is_label(old) else "joined")


def count_apart(tally: Tally, what: str, outcome: Outcome, n: int = 1) -> None:
    """Counts n more records that have no event: what is waiting or orphaned."""
    tally.add(what if is_label(outcome) else f"requests_{what}", n)


def count_orphaned(tally: Tally, outcome: Outcome) -> None:
    """Counts a record that has waited for its event long enough."""
    count_apart(tally, "waiting", outcome, -1)
    count_apart(tally, "orphaned", outcome)
