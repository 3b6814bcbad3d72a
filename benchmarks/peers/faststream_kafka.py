"""The same job on FastStream with Kafka, as its documentation teaches it: subscribers and publishers in batches, Pydantic models for
messages. It has no join of its own: the answers of an event meet in Redis, a pipeline a batch. Run by `peer.py` in an environment of
its own; knows nothing of us.
"""

from __future__ import annotations

import asyncio
import sys

from faststream import FastStream
from faststream.kafka import KafkaBroker
from pydantic import BaseModel
from redis.asyncio import Redis

LANES = ("old", "new")


class Output(BaseModel):
    """What a model says."""

    age: float


class Data(BaseModel):
    """What the models are given; here their answers stand in it."""

    region: str
    old: Output
    new: Output


class Event(BaseModel):
    """One event."""

    id: str
    data: Data


class Answer(BaseModel):
    """One lane's answer."""

    id: str
    lane: str
    age: float


def lane(broker: KafkaBroker, name: str, field: str) -> None:
    """Calls the trivial model: what stands in the event."""

    @broker.subscriber(f"{name}.events", group_id=f"{name}-{field}", auto_offset_reset="earliest", batch=True)
    @broker.publisher(f"{name}.{field}", batch=True)
    async def answer(events: list[Event]) -> list[Answer]:
        return [Answer(id=event.id, lane=field, age=getattr(event.data, field).age) for event in events]


def joiner(broker: KafkaBroker, name: str, redis: Redis) -> None:
    """Joins both lanes in Redis: a hash an event, a pair when it has both."""

    @broker.subscriber(*(f"{name}.{field}" for field in LANES), group_id=f"{name}-joiner", auto_offset_reset="earliest", batch=True)
    async def join(answers: list[Answer]) -> None:
        async with redis.pipeline(transaction=False) as pipe:
            for answer in answers:
                pipe.hset(answer.id, answer.lane, answer.age)
                pipe.hlen(answer.id)
            found = await pipe.execute()
        complete = sum(n == len(LANES) for n in found[1::2])
        if complete:
            await redis.incrby("complete", complete)


if __name__ == "__main__":
    role, address, port, db, name = sys.argv[1:]
    broker = KafkaBroker(address, max_batch_size=1 << 20)  # its 16 KiB hold 120 answers, and it refuses a longer list
    if role == "joiner":
        joiner(broker, name, Redis(port=int(port), db=int(db)))
    else:
        lane(broker, name, role)
    asyncio.run(FastStream(broker).run())
