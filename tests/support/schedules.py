"""Seeded schedules of faults: `Schedule.draw(seed)` says what happens to a rollout, and when; `tests/system/faults.py` lets it happen.

The same seed draws the same schedule; the moments of a machine are its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proxy import FATES

ROLES = ("router", "lane:incumbent", "lane:challenger", "joiner", "analyst", "controller")
SENDING_S = 2.5
ROLE_FAULTS = ("kill", "stop", "add", "repeat")
STORE_FAULTS = ("redis.kill", "redis.full")
CLOCK_CHANCE = 0.25
MINUTE_S, HOUR_S = 60.0, 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong. target: a role, where it is about one; worker: its first or its second; at_s: when, from the first
    record on; lasts_s: how long, where it has a length; ahead_s: how far a clock is set, of a role or of all."""

    kind: str
    at_s: float
    target: str = ""
    worker: int = 0
    lasts_s: float = 0.0
    ahead_s: float = 0.0

    def __str__(self) -> str:
        if self.kind == "clock":
            return f"{self.at_s:.1f}s clock of {self.target or 'all'} {self.ahead_s:+.0f} s for {self.lasts_s:.1f}s"
        who = f" {self.target}{'#2' if self.worker else ''}" if self.target else ""
        return f"{self.at_s:.1f}s {self.kind}{who}" + (f" for {self.lasts_s:.1f}s" if self.lasts_s else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A rollout and its faults. bus: redis, embedded or kafka; second: roles that have two workers from the start."""

    seed: int
    bus: str
    shards: int
    second: tuple[str, ...]
    proxied: bool
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        more = f", two workers of {' '.join(self.second)}" if self.second else ""
        return f"seed {self.seed}: {self.bus}, {self.shards} shards{more}: {'; '.join(map(str, self.faults))}"

    @classmethod
    def draw(cls, seed: int) -> Schedule:
        """What a seed stands for."""
        rng = random.Random(f"schedule {seed}")
        bus = rng.choices(("redis", "embedded", "kafka"), (5, 2, 3))[0]
        second = tuple(sorted(rng.sample(ROLES, rng.choice((0, 1, 1, 2)))))
        kinds = [*ROLE_FAULTS, "kill", "stop", *STORE_FAULTS]
        kinds += [f"proxy.{fate}" for fate in FATES] if bus != "embedded" else []
        kinds += ["kafka.kill"] * 2 if bus == "kafka" else []
        kinds += ["remove"] if second else []
        faults = [_drawn(rng, kinds, second) for _ in range(rng.randint(2, 5))]
        shards = rng.randint(1, 4)
        faults += _clocks(random.Random(f"clocks {seed}"))
        return cls(
            seed=seed, bus=bus, shards=shards, second=second, faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
            proxied=any(fault.kind.startswith("proxy.") for fault in faults),
        )  # fmt: skip

    @property
    def overtakes(self) -> bool:
        """Whether a clock is set by more than an event may be in flight, so that the lanes find some too old (`shed`) or are found silent
        (`no_answer`): that of a lane ahead, that of a router at all."""
        clocks = [fault for fault in self.faults if fault.kind == "clock" and abs(fault.ahead_s) > 9 * MINUTE_S]
        return any(fault.target in ("", "router") or (fault.target.startswith("lane:") and fault.ahead_s > 0) for fault in clocks)


def _clocks(rng: random.Random) -> list[Fault]:
    """One jump of a clock in some schedules, drawn apart so that the seeds of before mean what they meant."""
    if rng.random() >= CLOCK_CHANCE:
        return []
    ahead_s = rng.choice((-1, 1)) * rng.choice((rng.uniform(1, 8) * MINUTE_S, rng.uniform(1, 12) * HOUR_S))
    target = rng.choice(("", *ROLES))
    return [Fault(kind="clock", at_s=rng.uniform(0.1, SENDING_S), target=target, lasts_s=rng.uniform(0.3, 3.0), ahead_s=ahead_s)]


def _drawn(rng: random.Random, kinds: Sequence[str], second: Sequence[str]) -> Fault:
    kind, at_s = rng.choice(kinds), rng.uniform(0.1, SENDING_S)
    match kind:
        case "kill" | "stop":
            role = rng.choice(ROLES)
            worker = int(role in second and rng.random() < 0.5)
            return Fault(kind=kind, at_s=at_s, target=role, worker=worker, lasts_s=rng.uniform(0.5, 4.0) if kind == "stop" else 0.0)
        case "add" | "remove":
            return Fault(kind=kind, at_s=at_s, target=rng.choice(ROLES if kind == "add" else second), worker=1)
        case "redis.full":
            return Fault(kind=kind, at_s=at_s, lasts_s=rng.uniform(0.3, 1.2))
        case "redis.kill" | "kafka.kill":
            return Fault(kind=kind, at_s=at_s, lasts_s=rng.uniform(0.05, 0.8))
        case "repeat":
            return Fault(kind=kind, at_s=at_s)
    return Fault(kind=kind, at_s=at_s, lasts_s=rng.uniform(0.5, 2.0))


def seeds(first: int, n: int) -> Iterator[Schedule]:
    """The schedules of `n` seeds in a row."""
    return map(Schedule.draw, range(first, first + n))
