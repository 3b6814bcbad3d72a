"""People's moves by HTTP: a token by scope, a record, and an answer that says what became of it."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient

from harness import config
from harness.api.app import create_app
from harness.api.service import Service
from harness.commands import tokens as commands
from harness.core.stages import Standing
from harness.ports.clock import ManualClock, SystemClock
from harness.ports.journal import ROOT
from harness.roles.standing import Follower
from harness.wiring import create, open_journal, open_tokens

NAME = "age-regression"
CONFIG = Path(__file__).resolve().parents[3] / "configs" / f"{NAME}.yaml"
MOVES = ("approve", "waive", "pause", "resume", "rollback")
BODIES = {
    "approve": {"reason": "so", "stage": 1}, "waive": {"reason": "so", "gate": "it answers", "expires": "24h"},
    "pause": {"reason": "so"}, "resume": {"reason": "so"}, "rollback": {"reason": "so"},
}  # fmt: skip


class World:
    """A rollout whose stages ask for approval, registered by ada, and the API on it; reading open, and closed."""

    def __init__(self, url: str) -> None:
        self.rollout = config.load(CONFIG)
        create(self.rollout, url, url)
        self.journal = open_journal(url, self.rollout)
        self.clock = ManualClock(SystemClock().now())
        service = Service(bus=url, store=url, topic=self.rollout.events.topic, clock=self.clock)
        self.open, self.closed = (TestClient(create_app(service, closed=closed), raise_server_exceptions=False) for closed in (False, True))
        self.kept = open_tokens(url)

    def token(self, name: str = "bea", scope: Any = "approve", roles: tuple[str, ...] = ("policy",), **more: Any) -> str:
        return commands.create(self.kept, self.clock, name=name, roles=roles, scope=scope, **more)[1]

    def post(self, move: str, body: Any = None, by: str | None = None, **headers: str) -> Any:
        headers = {"authorization": f"Bearer {by}", **headers} if by else headers
        content = body if isinstance(body, bytes) else json.dumps(BODIES[move] if body is None else body).encode()
        return self.open.post(f"/v1/rollouts/{NAME}/{move}", content=content, headers=headers)

    @property
    def state(self) -> Any:
        return Follower(self.journal).now()


@pytest.fixture
def world(redis_url, redis_db, monkeypatch):
    monkeypatch.setenv("SHADOW_AUTHOR", "ada")
    return World(redis_url)


def test_each_move_is_a_record_in_the_name_of_the_token(world):
    """Who, in which role, by the API, and why; the answer says where the rollout stands."""
    bea, cyd = world.token(), world.token("cyd")
    for move, by, said in (
        ("approve", bea, "1 of 2 people"), ("approve", cyd, "it has the approvals it needs"), ("waive", bea, "1 of 2 people have"),
        ("pause", cyd, "paused in stage 0"), ("resume", bea, "resumed in stage 0"), ("rollback", cyd, "rolled back from stage 0"),
    ):  # fmt: skip
        answer = world.post(move, by=by)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["rollout"], found["recorded"], found["head"]) == (NAME, True, world.state.head)
        assert said in found["says"]
        last = json.loads(world.journal.read()[-1].body)
        assert (last["by"]["name"], last["by"]["role"], last["by"]["via"]) == ("bea" if by == bea else "cyd", "policy", "api")
        assert last["reason"] == "so"
    assert world.state.standing is Standing.ROLLED_BACK
    again = world.post("rollback", by=bea)
    assert (again.status_code, again.json()["recorded"], again.json()["standing"]) == (200, False, "rolled_back")


@pytest.mark.parametrize("move", MOVES)
def test_without_a_token_of_scope_approve_nothing_moves(move, world):
    """401 for nobody, 403 for somebody who may not; both say what to do, and none repeats the token."""
    reader = world.token("cyd", "read")
    for headers in ({}, {"authorization": "Basic YTpi"}, {"authorization": "Bearer"}, {"authorization": reader}):
        answer = world.post(move, **headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="shadow-harness"')
        assert answer.json() == {"error": "a token is needed, and none was given; send it as Authorization: Bearer TOKEN"}
    wrong = world.post(move, by=reader[:-3] + "xyz")
    assert (wrong.status_code, "not known here" in wrong.json()["error"]) == (401, True)
    answer = world.post(move, by=reader)
    assert (answer.status_code, answer.json()) == (403, {"error": "this needs a token of scope approve; this one has read"})
    short = world.token("dan", lasts_s=1.0)
    world.clock.move_to(world.clock.now() + 1_000_000)
    expired = world.post(move, by=short)
    assert (expired.status_code, "the token expired at" in expired.json()["error"]) == (401, True)
    assert len(world.journal.read()) == 1


def test_a_token_in_the_address_is_no_token(world):
    """Addresses stand in the logs of proxies."""
    answer = world.open.post(f"/v1/rollouts/{NAME}/pause?token={world.token()}&access_token=x", content=b'{"reason": "so"}')
    assert answer.status_code == 401


def test_no_log_line_holds_a_token_and_many_refusals_are_one_line(world):
    """Logs are read by more people than may approve; and somebody who tries tokens all night fills no disk."""
    text = world.token("cyd", "read")
    with structlog.testing.capture_logs() as lines:
        for _ in range(30):
            world.post("pause", by=text)
            world.post("pause", by=text[:-3] + "xyz")
    assert 1 <= len(lines) <= 5
    assert {line["event"] for line in lines} == {"api.refused"}
    assert text[-40:-3] not in repr(lines)


@pytest.mark.parametrize(
    ("move", "body", "why"),
    [
        ("approve", {"reason": "so", "stage": 0}, "stage 0 (shadow) has begun already"),
        ("approve", {"reason": "so", "stage": 2}, "only that one can be approved"),
        ("resume", {"reason": "so"}, None),
    ],
)
def test_what_cannot_count_now_is_a_conflict(move, body, why, world):
    """409: the request is well-formed and the rollout stands elsewhere. What is done already is no conflict."""
    answer = world.post(move, body, by=world.token())
    assert answer.status_code == (409 if why else 200)
    assert not why or why in answer.json()["error"]
    assert len(world.journal.read()) == 1


def test_the_author_of_the_config_cannot_approve_it(world):
    """Also not with a token and by HTTP."""
    answer = world.post("approve", by=world.token("ada"))
    assert (answer.status_code, "the author's own approval does not count" in answer.json()["error"]) == (409, True)
    answer = world.post("approve", by=world.token("cyd", roles=("sales",)))
    assert (answer.status_code, "in the role policy; the token of cyd has sales" in answer.json()["error"]) == (409, True)


@pytest.mark.parametrize("move", MOVES)
def test_a_body_that_is_not_as_expected_is_refused_whole(move, world):
    """Each field, its kind, nothing more; and nothing of it comes back."""
    by = world.token()
    good = BODIES[move]
    wrong = [b"", b"{", b"[]", b"\xff", b"[" * 10_000, {**good, "reason": 7}, {**good, "MARKER": 1}, {}, {**good, "reason": None}]
    wrong += [{**good, "stage": True}, {**good, "stage": "1"}] if move == "approve" else []
    for body in wrong:
        answer = world.post(move, body, by=by)
        assert (answer.status_code, answer.json()["error"][:5]) == (400, "body:"), body
        assert "MARKER" not in answer.text
    assert world.post(move, {**good, "reason": "  "}, by=by).json() == {"error": "reason: empty; say why, it stands in the record for good"}
    assert world.post(move, {**good, "reason": "x" * 20_000}, by=by).status_code == 413
    assert len(world.journal.read()) == 1


def test_an_unknown_rollout_is_404_only_for_whoever_may_move_one(world):
    """Without a token nobody learns which there are."""
    path = "/v1/rollouts/other/pause"
    assert world.open.post(path, content=b'{"reason": "so"}').status_code == 401
    answer = world.open.post(path, content=b'{"reason": "so"}', headers={"authorization": f"Bearer {world.token()}"})
    assert (answer.status_code, answer.json()["error"]) == (404, f"no such rollout; this store has {NAME}")


def test_a_revoked_token_is_worthless_at_the_next_request(world):
    """Every API of the store asks each time."""
    text = world.token()
    assert world.post("pause", by=text).status_code == 200
    commands.revoke(world.kept, world.clock, id=text.split("_")[1])
    assert world.post("resume", by=text).status_code == 401
    assert world.state.standing is Standing.PAUSED


def test_anybody_can_recompute_the_chain_from_the_records(world):
    """Each record stands in the answer byte for byte: SHA-256 of the hash before it and of its bytes is its hash."""
    world.post("pause", by=world.token())
    text = world.open.get(f"/v1/rollouts/{NAME}/records").text
    found = json.loads(text)
    assert (found["rollout"], found["start"], found["next"]) == (NAME, 0, None)
    previous = ROOT
    for row in found["records"]:
        body = json.dumps(row["record"], sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        assert body.decode() in text
        assert (row["previous"], row["hash"]) == (previous, sha256(previous.encode() + body).hexdigest())
        previous = row["hash"]
    assert [row["record"]["kind"] for row in found["records"]] == ["registered", "paused"]
    later = world.open.get(f"/v1/rollouts/{NAME}/records?start=1").json()
    assert (later["start"], later["records"]) == (1, found["records"][1:])
    assert world.open.get(f"/v1/rollouts/{NAME}/records?start=-1").status_code == 400


READING = ("/v1/rollouts", *(f"/v1/rollouts/{NAME}{path}" for path in ("", "/verdict", "/report", "/ready", "/records")), "/metrics")


@pytest.mark.parametrize("path", READING)
def test_an_api_that_is_closed_shows_nothing_without_a_token(path, world):
    """`--read-needs-token`: every page of it; open is the default, on this machine only."""
    assert world.open.get(path).status_code not in (401, 403)
    refused = world.closed.get(path)
    assert (refused.status_code, list(refused.json())) == (401, ["error"])
    for scope in ("read", "approve", "admin"):
        headers = {"authorization": f"bearer {world.token(scope, scope, by=the_admin(world))}"}
        assert world.closed.get(path, headers=headers).status_code == world.open.get(path).status_code


def the_admin(world: World) -> Any:
    """The admin token of the store, if there is one: only it makes others."""
    return next((token for token in world.kept.all() if token.scope == "admin"), None)


def test_a_closed_api_still_says_whether_it_lives_and_takes_events(world):
    """Load balancers and mirrors hold no tokens; what they may see names no rollout."""
    assert world.closed.get("/healthz").status_code == 200
    ready = world.closed.get("/readyz")
    assert NAME not in ready.text
    event = {"specversion": "1.0", "id": "e1", "source": "/x", "type": "t", "subject": "u"}
    headers = {"content-type": "application/cloudevents+json"}
    answer = world.closed.post(f"/v1/rollouts/{NAME}/events", content=json.dumps(event), headers=headers)
    assert answer.status_code == 202, answer.text
