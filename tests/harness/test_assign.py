"""Assignment: sticky, monotone, uniform, reproducible in another language, and the incumbent on any doubt."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import LONG_S

from harness.assign import Arm, Assigner, Latest, choose, read, secret_check
from harness.commands.assignment import document
from harness.core.errors import UsageError
from harness.core.rollout import Stage
from harness.core.routing import Hasher
from harness.core.stages import Standing, State
from harness.testing.samples import rollout

ROOT = Path(__file__).resolve().parents[2]
VECTORS = json.loads((ROOT / "docs" / "assignment-vectors.json").read_text())
NAME = "sample"
HASHER = Hasher(NAME)


def told(percent: float = 50.0, as_of: str = "t1", hasher: Hasher = HASHER, **more: Any) -> dict[str, Any]:
    return {
        "rollout": NAME, "percent": percent, "standing": "running", "stage": 1, "kind": "canary", "config_sha256": "c" * 64,
        "head": "h" * 64, "as_of": as_of, "secret_check": secret_check(NAME, hasher), **more,
    }  # fmt: skip


def arm(unit: object, percent: float, hasher: Hasher = HASHER) -> Arm:
    return choose(read(told(percent, hasher=hasher), NAME, hasher), unit, hasher)


UNITS = [f"u{n}" for n in range(20_000)]
OURS = next(unit for unit in UNITS if arm(unit, 50.0).arm == "challenger")


# ---------------------------------------------------------------------------------------------------------------------- the hash
@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: f"{v['rollout']}-{v['secret_hex'][:4]}-{v['unit'][:8]!r}")
def test_the_arms_are_those_that_were_published(vector):
    """A service in another language follows the recipe of the page, here with hashlib alone, and comes to the same arm."""
    secret = bytes.fromhex(vector["secret_hex"])
    key = blake2b(secret + vector["rollout"].encode(), digest_size=32, person=b"shadow-rollout").digest()
    digest = blake2b(vector["unit"].encode(), digest_size=8, key=key, person=b"arm").digest()
    assert (key.hex(), digest.hex()) == (vector["key_hex"], vector["digest_hex"])
    assert (int.from_bytes(digest, "big") >> 11) / 2**53 == vector["fraction"]
    hasher = Hasher(vector["rollout"], secret)
    assert hasher.fraction(b"arm", vector["unit"]) == vector["fraction"]
    for percent, expected in vector["arms"].items():
        found = {**told(float(percent), hasher=hasher), "rollout": vector["rollout"]}
        found["secret_check"] = secret_check(vector["rollout"], hasher)
        assert choose(read(found, vector["rollout"], hasher), vector["unit"], hasher).arm == expected


def test_the_vectors_in_the_page_are_those_of_the_file():
    """Who copies from the page copies what is tested; and the published checks of secrets hold."""
    page = (ROOT / "docs" / "assignment.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (?:`([0-9a-f]*)`|none) \| `([^`]+)` \| `([0-9a-f]{16})` \| ([\d.]+) \|", page, re.M)
    known = {(v["rollout"], v["secret_hex"], v["unit"], v["digest_hex"], repr(v["fraction"])) for v in VECTORS["vectors"]}
    assert len(rows) >= 6
    assert set(rows) <= known
    for check in VECTORS["checks"]:
        assert secret_check(check["rollout"], Hasher(check["rollout"], bytes.fromhex(check["secret_hex"]))) == check["secret_check"]


def test_a_percent_of_the_units_is_that_percent():
    """Within four standard errors, at each of the usual stages; and 64 equal cells, chi-square below its 0.9999 quantile (113.6)."""
    fractions = np.array([HASHER.fraction(b"arm", unit) for unit in UNITS])
    for percent in (1.0, 10.0, 50.0):
        share = np.mean([arm(unit, percent).arm == "challenger" for unit in UNITS])
        assert abs(share - percent / 100) < 4 * np.sqrt(percent / 100 * (1 - percent / 100) / len(UNITS))
    cells = np.bincount((fractions * 64).astype(int), minlength=64)
    assert ((cells - len(UNITS) / 64) ** 2 / (len(UNITS) / 64)).sum() < 113.6


@given(st.text(min_size=1), st.floats(0, 100), st.floats(0, 100), st.binary(max_size=20))
def test_a_unit_keeps_its_arm_and_a_larger_percent_keeps_everybody(unit, a, b, secret):
    """Sticky: a second process says the same. Monotone: nobody who has the challenger loses it when the percent grows."""
    small, large = sorted((a, b))
    before, again, after = (arm(unit, percent, Hasher(NAME, secret)) for percent in (small, small, large))
    assert before == again
    assert before.arm == "incumbent" or after.arm == "challenger"


def test_a_secret_gives_other_arms():
    """Who knows a unit's id but not the secret cannot tell its arm."""
    keyed = Hasher(NAME, b"secret")
    same = np.mean([arm(unit, 50.0).arm == arm(unit, 50.0, keyed).arm for unit in UNITS[:4_000]])
    assert abs(same - 0.5) < 4 * 0.5 / np.sqrt(4_000)


# --------------------------------------------------------------------------------------------------------------------- the document
STAGES = (Stage(kind="shadow"), Stage(kind="canary", percent=12.5), Stage(kind="promote"))
AT = {**dict.fromkeys(Standing, 0.0), Standing.PROMOTED: 100.0, Standing.RUNNING: 12.5, Standing.PAUSED: 12.5}


@pytest.mark.parametrize("standing", Standing)
def test_the_document_of_a_rollout_is_read_back_as_it_stands(standing):
    """Percent by standing: after every end but promotion, nobody."""
    found = replace(rollout(), stages=STAGES)
    made = document(found, State(standing=standing, stage=1, head="ab", n_records=3), at=1, hasher=HASHER)
    said = read(json.loads(json.dumps(made)), NAME, HASHER)
    assert (said.percent, said.standing, said.stage, said.kind, said.head) == (AT[standing], standing.value, 1, "canary", "ab")
    assert (said.config_sha256, said.as_of) == (found.sha256, "1970-01-01T00:00:00.000001Z")
    assert document(found, State(), at=1, hasher=HASHER)["percent"] == 0.0


WRONG = [
    (None, "no JSON object"), ([], "no JSON object"), ({}, "another rollout"), (told(rollout="other"), "another rollout"),
    (told(hasher=Hasher(NAME, b"x")), "different secrets"), (told(secret_check=None), "different secrets"),
    *((told(percent), "percent") for percent in (-1e-9, 100.1, float("nan"), float("inf"))),
    *((told(percent=percent), "percent") for percent in (True, "10", None)),
    (told(stage="1"), "stage"), (told(stage=True), "stage"), (told(as_of=""), "as_of"), (told(head=7), "head"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "why"), WRONG, ids=range(len(WRONG)))
def test_a_document_that_cannot_be_trusted_is_the_incumbent_at_once(found, why):
    """Also when a good one came before: what has changed for the worse must not be served on."""
    latest = Latest(NAME, HASHER, stale_after_s=10.0)
    latest.take(told(100.0), asked=0.0)
    assert latest.arm("u", now=0.0).arm == "challenger"
    latest.take(found, asked=1.0)
    said = latest.arm("u", now=1.0)
    assert (said.arm, said.reason, why in said.says) == ("incumbent", "error", True)
    latest.take(told(100.0), asked=2.0)
    assert latest.arm("u", now=2.0).arm == "challenger"


def test_without_a_document_everybody_has_the_incumbent():
    """Before the first answer, and when none ever comes."""
    latest = Latest(NAME, HASHER, stale_after_s=10.0)
    assert latest.arm(OURS, now=0.0) == Arm(arm="incumbent", reason="error", says="no document yet")
    latest.missed("the API does not answer (TimeoutError)")
    assert latest.arm(OURS, now=0.0).says == "the API does not answer (TimeoutError)"


def test_an_old_document_is_the_incumbent_and_a_repeated_one_grows_old():
    """What cannot hear of a rollback must not serve on; an answer from a cache says the same for ever, and is not news."""
    latest = Latest(NAME, HASHER, stale_after_s=10.0)
    latest.take(told(as_of="t1"), asked=100.0)
    for now in range(101, 111):
        latest.take(told(as_of="t1"), asked=float(now))
        assert latest.arm(OURS, now=float(now)).arm == "challenger"
    stale = latest.arm(OURS, now=110.5)
    assert (stale.arm, stale.reason, stale.says) == ("incumbent", "stale", "nothing new for 10.5 s")
    latest.missed("the API answered 503")
    assert latest.arm(OURS, now=111.0).says == "nothing new for 11.0 s: the API answered 503"
    latest.take(told(as_of="t2"), asked=112.0)
    assert latest.arm(OURS, now=112.0).arm == "challenger"


def test_an_older_answer_that_comes_later_takes_nobody_back_to_the_challenger():
    """A cache on the way, or a second API whose clock is behind: a rollback that was heard stays heard. What is less is taken at once."""
    latest = Latest(NAME, HASHER, stale_after_s=10.0)
    before, after = "2026-03-02T06:00:00.5Z", "2026-03-02T06:00:01Z"
    latest.take(told(100.0, before), asked=100.0)
    latest.take(told(0.0, after, standing="rolled_back"), asked=101.0)
    latest.take(told(100.0, before), asked=102.0)
    assert latest.arm("u", now=102.0).arm == "incumbent"
    latest.take(told(100.0, "2026-03-02T06:00:03Z"), asked=103.0)
    assert latest.arm("u", now=103.0).arm == "challenger"
    latest.take(told(0.0, before), asked=104.0)
    assert latest.arm("u", now=104.0).arm == "incumbent"
    latest.take(told(100.0, "2026-03-02T05:00:00Z"), asked=115.0)
    assert latest.arm("u", now=115.0).arm == "challenger", "an API whose clock was put right is not shut out for good"


@pytest.mark.parametrize("unit", ["", None, 17, b"u", ["u"]])
def test_a_unit_that_is_none_is_the_incumbent_in_a_split_and_no_matter_otherwise(unit):
    """A split needs somebody to split by; before the canary and after promotion everybody has one arm."""
    assert (arm(unit, 50.0).arm, arm(unit, 50.0).reason) == ("incumbent", "no_unit")
    assert (arm(unit, 0.0).arm, arm(unit, 0.0).reason) == ("incumbent", "static")
    assert (arm(unit, 100.0).arm, arm(unit, 100.0).reason) == ("challenger", "static")


@given(st.text(alphabet=st.characters(), min_size=1))
def test_no_text_is_too_strange_to_be_assigned(unit):
    """Ids come from anywhere; production must not fail because of one."""
    assert arm(unit, 50.0).reason == "split"
    assert arm("\ud800" + unit, 50.0).reason == "split"


# ----------------------------------------------------------------------------------------------------------------------- the thread
class Source:
    """A source of documents that a test steers, and which says when it has been asked again."""

    def __init__(self) -> None:
        self.says: Any = told(100.0)
        self._n, self._asked = 0, threading.Condition()

    def __call__(self) -> Any:
        with self._asked:
            self._n += 1
            self._asked.notify_all()
        if isinstance(self.says, Exception):
            raise self.says
        return {**self.says, "as_of": f"t{self._n}"}

    def forked(self) -> None:
        """Nobody who held the lock is here any more."""
        self._asked = threading.Condition()

    def asked_again(self) -> None:
        """Waits until what is said now has been taken: the second request from now has begun."""
        with self._asked:
            until = self._n + 2
            assert self._asked.wait_for(lambda: self._n >= until, timeout=LONG_S)


@pytest.fixture
def source():
    return Source()


def test_the_thread_takes_what_is_new_and_lives_through_a_source_that_fails(source):
    """A rollback is heard at the next poll, also after errors of any kind; on_change hears each change once, and may fail."""
    heard: list[tuple[str, str]] = []

    def hear(now: Arm) -> None:
        heard.append((now.arm, now.reason))
        raise RuntimeError("theirs")

    assigner = Assigner(source, NAME, poll_s=0.01, on_change=hear)
    try:
        assert assigner.wait(LONG_S)
        assert assigner.arm("u").arm == "challenger"
        source.says = RuntimeError("broken")
        source.asked_again()
        assert assigner.arm("u").arm == "challenger"
        source.says = told(0.0)
        source.asked_again()
        assert (assigner.arm("u").arm, assigner.arm("u").reason) == ("incumbent", "static")
    finally:
        assigner.close()
    assert heard == [("challenger", "static"), ("incumbent", "static")]


def test_a_forked_worker_asks_for_itself(source):
    """Servers fork after loading: a child without a thread would serve an old percent until it is stale."""
    assigner = Assigner(source, NAME, poll_s=0.01)
    assert assigner.wait(LONG_S)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            source.forked()
            assigner.arm("u")
            source.says = told(0.0)
            source.asked_again()
            os.write(writing, assigner.arm("u").arm.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert answer.read() == "incumbent"
    os.waitpid(child, 0)
    assigner.close()


class Elsewhere(BaseHTTPRequestHandler):
    """What may stand where the API should be."""

    seen: list[str | None] = []  # noqa: RUF012 - filled by the server's threads

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("authorization"))
        answers = {"moved": (302, b""), "page": (200, b"<html>"), "huge": (200, b" " * 100_000), "error": (503, b"{}")}
        status, content = answers[self.path.split("/")[1]]
        self.send_response(status)
        if status == 302:
            self.send_header("location", f"http://127.0.0.1:{self.server.server_address[1]}/page/")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.mark.parametrize(
    ("path", "why"),
    [("moved", "the API answered 302"), ("error", "the API answered 503"), ("page", "no JSON object"), ("huge", "no JSON object")],
)
def test_what_is_not_the_api_is_a_doubt_and_gets_no_token_by_redirect(path, why):
    """A login page, another service, an endless answer: the incumbent, and the token goes nowhere else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    changed = threading.Event()
    Elsewhere.seen = []
    url = f"http://127.0.0.1:{server.server_address[1]}/{path}"
    assigner = Assigner(url, NAME, token="t", timeout_s=LONG_S, poll_s=3_600.0, on_change=lambda _: changed.set())
    try:
        assert changed.wait(LONG_S)
        said = assigner.arm(OURS)
        assert (said.arm, said.reason, why in said.says) == ("incumbent", "error", True)
        assert Elsewhere.seen == ["Bearer t"]
    finally:
        assigner.close()
        server.shutdown()
        server.server_close()


def test_an_address_that_is_none_of_http_is_wrong_use():
    """A file must not be taken for the API."""
    for url in ("file:///etc/passwd", "shadow-api:8686", ""):
        with pytest.raises(UsageError, match="expected the address of the API"):
            Assigner(url, NAME)


def test_it_imports_next_to_nothing():
    """It runs inside production: no NumPy, no client of a bus or a store, nothing of ours but two modules."""
    code = "import sys, harness.assign; print(*sorted(m for m in sys.modules))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(child.stdout.split())
    assert {name for name in loaded if name.startswith(("harness", "analysis"))} == {
        "harness", "harness.assign", "harness.core", "harness.core.errors", "harness.core.routing",
    }  # fmt: skip
    assert not {"numpy", "msgspec", "structlog", "redis", "pydantic"} & loaded
