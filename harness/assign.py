"""Which model serves a unit, in the process that serves it. Imports the standard library and one hash, starts one thread, never raises.

    assigner = Assigner("http://shadow-api:8686", "age-regression", secret=SECRET)
    assigner.arm("user-17").arm     # "incumbent" or "challenger"

Sticky: the same unit, the same arm, in every process and language. Monotone: a larger percent keeps everybody that a smaller one had.
On any doubt (no document yet, one that is too old or cannot be read, another secret, no unit) it is the incumbent, and says why.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from harness.core.errors import UsageError
from harness.core.routing import Hasher

INCUMBENT, CHALLENGER = "incumbent", "challenger"
POLL_S = 0.5
STALE_AFTER_S = 10.0
MOST_BYTES = 65_536

Reason = Literal["split", "static", "stale", "error", "no_unit"]
"""split: the unit's hash decided. static: everybody has this arm now. stale, error, no_unit: a doubt, so the incumbent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The assignment document: what share of the units the challenger serves, and by which record. as_of: when it was read, RFC 3339.

    arms: the rollout whose hash decides; of several challengers that of the one which serves now, if any, as in `age.fast`. challenger: its
    name, as the config writes it, and as an exposure of its arm must say it.
    """

    rollout: str
    percent: float
    standing: str
    stage: int
    kind: str
    config_sha256: str
    head: str
    as_of: str
    arms: str = ""
    challenger: str = CHALLENGER


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Which model serves a unit. says: why, for people. document: by which it was decided; None when there is none."""

    arm: str
    reason: Reason
    says: str
    document: Assignment | None = None


def secret_check(rollout: str, hasher: Hasher) -> str:
    """16 hex digits by which two sides see that they hold the same secret."""
    return hasher.digest(b"check", rollout, 8).hex()


def read(found: object, rollout: str, hasher: Hasher) -> Assignment:
    """The assignment in a document as parsed from JSON. Raises ValueError that says what is wrong, never with what stood there."""
    if not isinstance(found, Mapping):
        raise ValueError("the document is no JSON object")
    if found.get("rollout") != rollout:
        raise ValueError("the document is of another rollout")
    if found.get("secret_check") != secret_check(rollout, hasher):
        raise ValueError("this process and the API hold different secrets")
    percent, stage = found.get("percent"), found.get("stage")
    if not isinstance(percent, (int, float)) or isinstance(percent, bool) or not 0.0 <= percent <= 100.0:
        raise ValueError("percent: expected a number from 0 to 100")
    if type(stage) is not int:
        raise ValueError("stage: expected a whole number")
    texts = {name: found.get(name) for name in ("standing", "kind", "config_sha256", "head", "as_of")}
    for name, text in texts.items():
        if not isinstance(text, str) or not text:
            raise ValueError(f"{name}: expected text")
    arms = found.get("arms", rollout)
    if not isinstance(arms, str) or (arms != rollout and not arms.startswith(f"{rollout}.")):
        raise ValueError("arms: expected the rollout, or one of its challengers")
    challenger = found.get("challenger", CHALLENGER if arms == rollout else arms.removeprefix(f"{rollout}."))
    if not isinstance(challenger, str) or not challenger:
        raise ValueError("challenger: expected text")
    return Assignment(rollout=rollout, percent=float(percent), stage=stage, arms=arms, challenger=challenger, **texts)  # type: ignore[arg-type]


def choose(document: Assignment, unit: object, hasher: Hasher) -> Arm:
    """The arm of a unit by this document."""
    where = f"stage {document.stage} ({document.kind}), {document.standing}, {document.percent:g} %"
    if document.percent <= 0.0 or document.percent >= 100.0:
        arm = CHALLENGER if document.percent > 0.0 else INCUMBENT
        return Arm(arm=arm, reason="static", says=where, document=document)
    if not isinstance(unit, str) or not unit:
        return Arm(arm=INCUMBENT, reason="no_unit", says="no unit: expected text that is not empty", document=document)
    if document.arms and document.arms != document.rollout:
        hasher = hasher.of(document.arms)
    mine = hasher.fraction(b"arm", unit) * 100.0 < document.percent
    return Arm(arm=CHALLENGER if mine else INCUMBENT, reason="split", says=where, document=document)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What is known at a moment, replaced whole. since: monotonic seconds, just before the document was asked for."""

    document: Assignment | None = None
    since: float = -math.inf
    says: str = "no document yet"


class Latest:
    """The document last seen, and how old it is: since it first came, so that an answer repeated by something in between grows old."""

    def __init__(self, rollout: str, hasher: Hasher, *, stale_after_s: float) -> None:
        self._rollout, self._hasher, self._stale_after_s = rollout, hasher, stale_after_s
        self._held = _Held()

    def take(self, found: object, *, asked: float) -> None:
        """A document has come. One that cannot be read is a doubt at once, and not when the last one has grown old."""
        before = self._held.document
        try:
            document = read(found, self._rollout, self._hasher)
        except ValueError as error:
            self._held = _Held(says=str(error))
            return
        fresh = before is not None and asked - self._held.since <= self._stale_after_s
        if before is not None and fresh and document.percent > before.percent and _older(document, before):
            self.missed("an answer came that is older than the last one")
        elif before is None or document.as_of != before.as_of:
            self._held = _Held(document=document, since=asked, says="")

    def missed(self, says: str) -> None:
        """None has come: the last one holds until it is too old."""
        held = self._held
        self._held = _Held(document=held.document, since=held.since, says=says)

    def arm(self, unit: object, *, now: float) -> Arm:
        """The arm of a unit. now: monotonic seconds."""
        held = self._held
        if held.document is None:
            return Arm(arm=INCUMBENT, reason="error", says=held.says)
        if now - held.since > self._stale_after_s:
            why = f": {held.says}" if held.says else ""
            return Arm(arm=INCUMBENT, reason="stale", says=f"nothing new for {now - held.since:.1f} s{why}", document=held.document)
        return choose(held.document, unit, self._hasher)


def _older(document: Assignment, before: Assignment) -> bool:
    """Whether a document was read before another one: a cache, or an API whose clock is behind, may answer with what was true."""
    try:
        return datetime.fromisoformat(document.as_of) < datetime.fromisoformat(before.as_of)
    except (ValueError, TypeError):
        return False


class Assigner:
    """The arms of one rollout, kept up to date by a thread of its own.

    source: where the API is, as in http://shadow-api:8686, or what returns an assignment document as parsed from JSON. secret: that of
    SHADOW_SECRET. token: of scope read, when the API asks for one. stale_after_s: how long the last document holds when none comes.
    on_change: called by the thread when the answer may be another one from now on.
    """

    def __init__(
        self, source: str | Callable[[], object], rollout: str, *, secret: bytes = b"", token: str | None = None, poll_s: float = POLL_S,
        timeout_s: float = POLL_S, stale_after_s: float = STALE_AFTER_S, on_change: Callable[[Arm], object] | None = None,
    ) -> None:  # fmt: skip
        self.rollout = rollout
        self._ask = _Asked(source, rollout, token, timeout_s) if isinstance(source, str) else source
        self._latest = Latest(rollout, Hasher(rollout, secret), stale_after_s=stale_after_s)
        self._poll_s, self._on_change = poll_s, on_change
        self._told: tuple[object, ...] | None = None
        self._begin()

    def arm(self, unit: object) -> Arm:
        """Which model serves a unit: text, the same as in `events.unit`. Never raises, never waits."""
        if os.getpid() != self._pid:  # a worker that was forked has no thread
            self._begin()
        return self._latest.arm(unit, now=time.monotonic())

    def wait(self, timeout_s: float) -> bool:
        """Waits for the first document, and says whether it came."""
        return self._first.wait(timeout_s)

    def close(self) -> None:
        """Stops asking. What was seen last holds until it is too old."""
        self._stop.set()

    def _begin(self) -> None:
        self._pid, self._stop, self._first = os.getpid(), threading.Event(), threading.Event()
        threading.Thread(target=self._run, args=(self._stop,), name=f"assign-{self.rollout}", daemon=True).start()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            asked = time.monotonic()
            try:
                self._latest.take(self._ask(), asked=asked)
            except Exception as error:  # whatever a source does: the thread goes on, and the document grows old
                self._latest.missed(_why(error))
            self._tell()
            stop.wait(max(0.0, self._poll_s - (time.monotonic() - asked)))

    def _tell(self) -> None:
        """Sets `wait` free, and calls `on_change` for what is new."""
        now = self._latest.arm("", now=time.monotonic())
        if now.document is not None:
            self._first.set()
        is_good = now.reason in ("split", "static", "no_unit")
        state = (is_good, now.document and (now.document.percent, now.document.head))
        if self._on_change is None or state == self._told:
            return
        self._told = state
        try:
            self._on_change(now)
        except Exception:  # theirs: it must not stop the thread
            logging.getLogger(__name__).exception("on_change of the assigner of %s failed", self.rollout)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere, least of all with a token."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Asked:
    """Asks the API for the assignment document: one request, at most `timeout_s` for each of its steps."""

    def __init__(self, url: str, rollout: str, token: str | None, timeout_s: float) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise UsageError("source: expected the address of the API, as in http://shadow-api:8686")
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._request = urllib.request.Request(f"{url.rstrip('/')}/v1/rollouts/{quote(rollout, safe='')}/assignment", headers=headers)
        self._opener, self._timeout_s = urllib.request.build_opener(_NoRedirect), timeout_s

    def __call__(self) -> object:
        with self._opener.open(self._request, timeout=self._timeout_s) as answer:
            content = answer.read(MOST_BYTES)
        try:
            return json.loads(content)
        except ValueError:
            return None


def _why(error: Exception) -> str:
    """In words, without an address: those may hold passwords."""
    if isinstance(error, urllib.error.HTTPError):
        with error:
            return f"the API answered {error.code}"
    if isinstance(error, OSError):
        return f"the API does not answer ({type(getattr(error, 'reason', error)).__name__})"
    return f"the source failed ({type(error).__name__})"
