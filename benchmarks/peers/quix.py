"""The same job on Quix Streams, as its documentation teaches it: two lanes by `apply`, a join by a stateful `apply` on two topics put
together by `concat`, and its Redis sink. Run by `peer.py` in an environment of its own; knows nothing of us.

Of its settings only `commit_interval` is not the default: pairs reach Redis with a commit, by default every 5 s.
"""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application, State
from quixstreams.sinks.community.redis import RedisSink

LANES = ("old", "new")


def application(broker: str, name: str, role: str) -> Application:
    """One process of it."""
    return Application(
        broker_address=broker, consumer_group=f"{name}-{role}", auto_offset_reset="earliest", commit_interval=1.0, loglevel="WARNING"
    )


def lane(app: Application, name: str, field: str) -> None:
    """Calls the trivial model: what stands in the event."""
    events, answers = app.topic(f"{name}.events"), app.topic(f"{name}.{field}")
    answered = app.dataframe(events).apply(lambda event: {"lane": field, "age": event["data"][field]["age"]})
    answered.to_topic(answers)
    app.run()


def pair(answer: dict[str, Any], state: State) -> dict[str, Any] | None:
    """The pair when the second answer of an event comes; the state's key is the event's id."""
    answers = {**state.get("answers", {}), answer["lane"]: answer["age"]}
    if len(answers) < len(LANES):
        state.set("answers", answers)
        return None
    state.delete("answers")
    return answers


def joiner(app: Application, name: str, redis_port: int, redis_db: int) -> None:
    """Joins both lanes and writes each pair to Redis."""
    old, new = (app.dataframe(app.topic(f"{name}.{field}")) for field in LANES)
    pairs = old.concat(new).apply(pair, stateful=True).filter(lambda found: found is not None)
    pairs.sink(RedisSink(host="127.0.0.1", port=redis_port, db=redis_db))
    app.run()


if __name__ == "__main__":
    role, broker, port, db, name = sys.argv[1:]
    app = application(broker, name, role)
    if role == "joiner":
        joiner(app, name, int(port), int(db))
    else:
        lane(app, name, role)
