"""The circuit breaker: by itself with a clock moved by hand, and in front of a real server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from model_servers import CLOSE, Script, ScriptedServer, answer
from structlog.testing import capture_logs

from harness.adapters.models.breaker import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker
from harness.adapters.models.http import HttpModel
from harness.ports.model import Call


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("challenger", now=clock)


def make(breaker: Breaker, *failures: str | None) -> list[bool]:
    """Makes calls one after the other, each with this end; which of them were admitted."""
    admitted = []
    for failure in failures:
        ticket = breaker.admit()
        admitted.append(ticket is not None)
        if ticket is not None:
            breaker.report(ticket, failure)
    return admitted


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    """A server that is down is not asked by every event, and the lane does not wait for each."""
    assert make(breaker, *["timeout"] * FAILURES) == [True] * FAILURES
    assert make(breaker, None, None) == [False, False]


def test_a_success_in_between_keeps_it_closed(breaker: Breaker) -> None:
    """A server that fails now and then is judged by its tallies: every event is asked."""
    assert all(make(breaker, *([*["HTTP 500"] * (FAILURES - 1), None] * 20)))


def test_one_probe_at_a_time_and_its_answer_closes_it(breaker: Breaker, clock: Clock) -> None:
    """A server that comes back is not met by all that waited."""
    make(breaker, *["timeout"] * FAILURES)
    clock.now_s += FIRST_PAUSE_S - 0.01
    assert breaker.admit() is None
    clock.now_s += 0.02
    probe = breaker.admit()
    assert probe is not None
    assert breaker.admit() is None
    breaker.report(probe, None)
    assert make(breaker, None, None) == [True, True]


def test_the_pause_doubles_up_to_its_longest_and_starts_anew_after_a_recovery(breaker: Breaker, clock: Clock) -> None:
    """Short outages cost little, long ones are not hammered; half a minute after it came back a server is asked again at the latest."""
    make(breaker, *["timeout"] * FAILURES)
    pauses, pause_s = [], FIRST_PAUSE_S
    for _ in range(12):
        clock.now_s += pause_s - 1e-6
        assert breaker.admit() is None
        clock.now_s += 2e-6
        assert make(breaker, "timeout") == [True]
        pauses.append(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    assert pauses[:3] == [0.5, 1.0, 2.0] and pauses[-1] == LONGEST_PAUSE_S == 30.0
    clock.now_s += LONGEST_PAUSE_S
    assert make(breaker, None) == [True]
    make(breaker, *["timeout"] * FAILURES)
    clock.now_s += FIRST_PAUSE_S
    assert make(breaker, None) == [True]


def test_calls_from_before_it_opened_decide_nothing(breaker: Breaker, clock: Clock) -> None:
    """With many calls at once the last ones end while it is open: their failures must not lengthen the pause, nor their luck end it."""
    late = [breaker.admit() for _ in range(20)]
    make(breaker, *["timeout"] * FAILURES)
    for n, ticket in enumerate(late):
        assert ticket is not None
        breaker.report(ticket, "timeout" if n % 2 else None)
    assert breaker.admit() is None
    clock.now_s += FIRST_PAUSE_S
    assert make(breaker, None) == [True]


def test_each_change_is_one_log_line(clock: Clock) -> None:
    """Whoever asks why a lane has errors without a call finds when and why."""
    with capture_logs() as lines:
        breaker = Breaker("challenger", now=clock)
        make(breaker, *["HTTP 503"] * FAILURES, None, None)
        clock.now_s += FIRST_PAUSE_S
        make(breaker, "timeout", None)
        clock.now_s += 2 * FIRST_PAUSE_S
        make(breaker, None, None)
    assert [(line["event"], line.get("failure"), line.get("failures"), line.get("pause_s")) for line in lines] == [
        ("breaker.opened", "HTTP 503", FAILURES, 0.5), ("breaker.opened", "timeout", FAILURES + 1, 1.0),
        ("breaker.closed", None, None, None),
    ]  # fmt: skip
    assert {line["lane"] for line in lines} == {"challenger"}


# -------------------------------------------------------------------------------------------------------------- with a real server
def ask(model: HttpModel, n: int) -> list[str]:
    return [model.call([Call(event_id=f"e{k}", event={"data": {}})], timeout_s=20.0)[0].status for k in range(n)]


@pytest.mark.parametrize(("script"), [lambda _: [answer({}, code=503)], lambda _: [answer({}, code=429)], lambda _: [CLOSE]])
def test_a_failing_server_is_spared_and_every_event_is_tallied(
    script: Script, breaker: Breaker, clock: Clock, serve: Callable[..., ScriptedServer]
) -> None:
    """Refused calls are errors, not silence; once it answers again all is as before."""
    server = serve(script)
    model = HttpModel(f"http://{server.address}/", lane="challenger", breaker=breaker)
    assert ask(model, 50) == ["error"] * 50
    assert len(server.requests) == FAILURES
    server.script = lambda _: [answer({})]
    assert ask(model, 3) == ["error"] * 3
    clock.now_s += FIRST_PAUSE_S
    assert ask(model, 3) == ["answered"] * 3
    assert len(server.requests) == FAILURES + 3
    model.close()


@pytest.mark.parametrize("script", [lambda _: [answer({"error": "field missing"}, code=422)], lambda _: [answer(b"<html>")]])
def test_a_server_that_refuses_or_lies_is_alive(script: Script, breaker: Breaker, serve: Callable[..., ScriptedServer]) -> None:
    """Five odd events in a row say nothing of the sixth: it is asked."""
    server = serve(script)
    model = HttpModel(f"http://{server.address}/", lane="challenger", breaker=breaker)
    ask(model, 20)
    model.close()
    assert len(server.requests) == 20
