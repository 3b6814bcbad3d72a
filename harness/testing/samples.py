"""A small rollout with one of everything, and events, answers and outcomes for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.events import ANSWERED, Answer, Event, Outcome
from harness.core.rollout import Choice, Events, Line, Model, Outcomes, Output, Policy, Reader, Rollout, Segment
from harness.core.routing import Hasher

START = 1_700_000_000_000_000  # microseconds since 1970
SECOND = 1_000_000


def rollout(*, matures_s: float = 3_600.0, replica_percent: float = 50.0, requests: bool = False) -> Rollout:
    """Three lanes, a number, a label and scores, lines by segment and by model, recorded decisions, a truth with bins; with requests, or
    labels alone."""
    asking: dict[str, Any] = {"requested": "/requested", "propensity": "/p", "least": 0.1} if requests else {}
    lanes = ("incumbent", "challenger", "replica")
    field = {lane: Reader(how="field", pointer="/x") for lane in lanes}
    lines = {lane: Line(default=18.0) for lane in (*lanes, "truth")}
    by_region = Line(default=16.0, by="region", values={"ES": 14.0, "SE": 13.0})
    choices = (Choice(decision="allow", at_least=Line(default=25.0)), Choice(decision="check", at_least=Line(default=18.0)))
    policies = (
        Policy(name="over_18", output="age", lines={**lines, "challenger": Line(default=18.4)}),
        Policy(name="consent", output="age", lines=dict.fromkeys(lines, by_region)),
        Policy(name="adult", output="age", lines=lines, choices=(*choices, Choice(decision="block")), recorded={"incumbent": "/action"}),
        Policy(name="toxic", output="scores", lines={name: Line(default=0.5) for name in lines}, label="toxic"),
        Policy(name="banned", output="kind", lines=lines, is_one_of=("spam", "scam")),
    )
    models = {lane: Model(lane=lane, uri=f"python:models:{lane}") for lane in lanes}
    models["replica"] = replace(models["replica"], of="incumbent", percent=replica_percent)
    outputs = (
        Output(name="age", type="number", readers=field, range=(0.0, 120.0)),
        Output(name="kind", type="label", readers=field, labels=("ham", "spam")),
        Output(name="scores", type="scores", readers=field, labels=("toxic", "rude")),
    )
    return Rollout(
        name="sample",
        events=Events(
            topic="sample.events",
            unit="subject",
            segments=(
                Segment(name="region", field="/region"),
                Segment(name="gender", field="/gender", values=("female", "male")),
                Segment(name="true_age", truth="age", bins=(0.0, 13.0, 18.0, 120.0)),
            ),
        ),
        models=models,
        outputs={output.name: output for output in outputs},
        policies={policy.name: policy for policy in policies},
        harms={},
        outcomes=Outcomes(
            topic="sample.labels", event="/event_id", truth={"age": "/age", "toxic": "/toxic"}, matures_s=matures_s, **asking,
        ),
        sample_percent=100.0,
        window_s=30.0,
        gates=(),
        stages=(),
        sha256="0" * 64,
        folder=Path("."),
        document={},
    )


_HASHER = Hasher("sample")


def key(id: str, source: str = "here") -> bytes:
    """The key of an event of the sample rollout."""
    return _HASHER.key(source, id)


def event(
    position: int, id: str, *, source: str = "here", arrived: int | None = None, region: str = "SE", gender: str = "female",
    action: str | None = None, payload: bytes = b'{"id": "x"}',
) -> Event:  # fmt: skip
    """An event; arrives `position` seconds after START unless said otherwise."""
    return Event(
        position=position, key=key(id, source), unit=_HASHER.unit(id), id=id, segments=(region, gender), decisions=(action,),
        arrived=START + position * SECOND if arrived is None else arrived, payload=payload,
    )  # fmt: skip


def answer(id: str, *, source: str = "here", status: str = ANSWERED, age: float = 20.0, kind: str = "ham", toxic: float = 0.25) -> Answer:
    """One lane's answer; without outputs unless its status is "answered"."""
    outputs = (age, kind, (toxic, 0.125)) if status == ANSWERED else ()
    return Answer(key=key(id, source), status=status, outputs=outputs, latency_ms=12.5 if status == ANSWERED else None)


def outcome(position: int, id: str, *, time: int | None = None, number: int = 0, age: float | bool | None = 17.0) -> Outcome:
    """What was learnt of an event; at `position` seconds after START unless said otherwise."""
    found = START + position * SECOND if time is None else time
    return Outcome(position=position, key=key(id)[:10], time=found, number=number, truths=(age, None), propensity=0.5)


def request(position: int, id: str, *, propensity: float = 0.5) -> Outcome:
    """That a label of an event was asked for."""
    return Outcome(
        position=position, key=key(id)[:10], time=START + position * SECOND, number=0, truths=(None, None), propensity=propensity
    )  # fmt: skip
