"""The only module that chooses adapters: addresses to roles."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import config
from harness.adapters import recordsfile
from harness.adapters.anchor import open_anchor
from harness.adapters.archive import FileArchive
from harness.adapters.codec import MsgpackCodec
from harness.adapters.models import open_model
from harness.adapters.redis.bus import RedisBus
from harness.adapters.redis.directory import RedisDirectory
from harness.adapters.redis.intake import RedisIntake
from harness.adapters.redis.journal import RedisJournal
from harness.adapters.redis.ledger import RedisLedger
from harness.adapters.redis.observations import RedisObservationLog
from harness.adapters.redis.pairlog import RedisPairLog
from harness.adapters.redis.plainids import RedisPlainIds
from harness.adapters.redis.presence import RedisPresence
from harness.adapters.redis.seats import RedisSeats
from harness.adapters.redis.shares import RedisShares
from harness.adapters.redis.tokens import RedisTokens
from harness.commands import decide, registry
from harness.commands.run import Running
from harness.commands.status import Watched
from harness.core.errors import UsageError
from harness.core.records import Author, evidence_of
from harness.core.rollout import Rollout
from harness.core.stages import State
from harness.core.table import RowLayout
from harness.ports.bus import Bus
from harness.ports.clock import Clock, SystemClock
from harness.ports.directory import Directory
from harness.ports.intake import Intake
from harness.ports.journal import Journal
from harness.ports.ledger import Ledger
from harness.ports.observations import ObservationLog
from harness.ports.pairlog import PairLog
from harness.ports.plainids import PlainIds
from harness.ports.presence import Presence
from harness.ports.shares import Shares
from harness.ports.tokens import Tokens
from harness.roles import topology
from harness.roles.analyst import Analyst
from harness.roles.analysts import Analysts
from harness.roles.anchoring import Anchoring
from harness.roles.controller import Controller, Controllers
from harness.roles.frontier import Frontier
from harness.roles.joiner import PATIENCE_S, Joiner, Joiners
from harness.roles.lane import Lane
from harness.roles.observer import Observer
from harness.roles.outbox import Outbox
from harness.roles.plainids import IdKeeper
from harness.roles.router import Router
from harness.roles.sealing import Sealer
from harness.roles.seating import Seating, beside
from harness.roles.standing import Follower
from harness.roles.topology import Topology

DEFAULT_SHARDS = 1
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
KAFKA_SCHEMES = ("kafka://", "kafka+ssl://")
CONFLUENT_SCHEMES = ("confluent+kafka://", "confluent+kafka+ssl://")


def code_version() -> str:
    """The version of the installed distribution."""
    return metadata.version("shadow-harness")


def author(via: str) -> Author:
    """Who acts from this machine: SHADOW_AUTHOR, else the name of the account."""
    return Author(name=os.environ.get("SHADOW_AUTHOR") or getpass.getuser(), via=via)


def secret() -> bytes:
    """What keys the hashes of ids and units, from SHADOW_SECRET; without it they are keyed by the rollout's name alone."""
    return os.environ.get("SHADOW_SECRET", "").encode()


def open_bus(url: str) -> Bus:
    """The bus at an address. Raises UsageError for a scheme that is not known."""
    if url.startswith(REDIS_SCHEMES):
        return RedisBus(url)
    if url.startswith(KAFKA_SCHEMES):
        from harness.adapters.kafka.bus import KafkaBus  # not a small import, and no need of one without Kafka

        return KafkaBus(url)
    if url.startswith(CONFLUENT_SCHEMES):
        try:
            from harness.adapters.kafka.confluent import ConfluentBus
        except ImportError:
            raise UsageError("bus confluent+kafka://... needs confluent-kafka: pip install 'shadow-harness[confluent]'") from None
        return ConfluentBus(url)
    raise UsageError(f"bus {url.partition('://')[0]}://...: expected one of {', '.join(REDIS_SCHEMES + KAFKA_SCHEMES + CONFLUENT_SCHEMES)}")


def open_directory(store: str) -> Directory:
    """The list of rollouts in a store."""
    _check_store(store)
    return RedisDirectory(store)


def open_journal(store: str, rollout: Rollout) -> Journal:
    """The chain of records of a rollout."""
    _check_store(store)
    return RedisJournal(store, rollout.name, keep_s=rollout.keep.records_s)


def open_tokens(store: str) -> Tokens:
    """The tokens of a store."""
    _check_store(store)
    return RedisTokens(store)


def _check_store(url: str) -> None:
    if not url.startswith(REDIS_SCHEMES):
        raise UsageError(f"store {url.partition('://')[0]}://...: expected one of {', '.join(REDIS_SCHEMES)}")


def create(rollout: Rollout, bus: str, store: str, *, shards: int | None = None) -> Wiring:
    """The rollout on its bus and store, created, or found again as it was created. Raises UsageError when it was created otherwise."""
    found = registry.register(
        rollout, shards=shards, default_shards=DEFAULT_SHARDS, directory=open_directory(store), journal=open_journal(store, rollout),
        by=author("up"), clock=SystemClock(), code_version=code_version(),
    )  # fmt: skip
    return Wiring(rollout, bus, store, found.shards)


def reopen(name: str | None, bus: str, store: str) -> Wiring:
    """A rollout that was created before, by name, or the only one there is. Raises UsageError that lists what there is."""
    found = registry.find(name, open_directory(store))
    rollout = config.parse(found.document, source=f"the stored config of {found.name}", folder=found.folder)
    return Wiring(replace(rollout, family=found.family), bus, store, found.shards)


def open_presence(store: str, rollout: Rollout) -> Presence:
    """What the roles of a rollout say of themselves. Opens no connection yet."""
    _check_store(store)
    return RedisPresence(store, rollout.mirror)


@dataclass
class Wiring:
    """One rollout on one bus and one store: opens what a role needs, when it is asked for it.

    shards: fixed when the rollout was created. trust_stated: see Router.
    """

    rollout: Rollout
    bus_url: str
    store_url: str
    shards: int
    clock: Clock = field(default_factory=SystemClock)
    trust_stated: bool = False

    def __post_init__(self) -> None:
        _check_store(self.store_url)
        self.codec = MsgpackCodec()

    @cached_property
    def bus(self) -> Bus:
        """The bus, opened when it is first needed: to read a verdict nobody needs it."""
        return open_bus(self.bus_url)

    @cached_property
    def topology(self) -> Topology:
        """The rollout's topics, created where they are missing."""
        return topology.create(self.rollout, self.shards, self.bus)

    # ------------------------------------------------------------------------------------------------------------------- ports
    @property
    def intake(self) -> Intake:
        """The router's positions."""
        return RedisIntake(self.store_url, self.rollout.mirror, keep_s=self.rollout.keep.pairs_s)

    @property
    def observations(self) -> ObservationLog:
        """What was observed of a canary's units."""
        return RedisObservationLog(self.store_url, self.rollout.name, keep_s=self.rollout.keep.pairs_s)

    @property
    def ledger(self) -> Ledger:
        """The analyst's statistics and the verdict."""
        return RedisLedger(self.store_url, self.rollout.name, keep_s=self.rollout.keep.pairs_s)

    def watched(self) -> Watched:
        """What is read to look at this rollout, opened once."""
        return Watched(
            rollout=self.rollout, topology=self.topology, roles=self.role_names(), bus=self.bus, intake=self.intake,
            pair_logs=[self.pair_log(shard) for shard in range(self.shards)], ledger=self.ledger,
            where=Follower(self.journal).now, presence=open_presence(self.store_url, self.rollout), clock=self.clock,
            code_version=code_version(), beside=self.beside,
        )  # fmt: skip

    @property
    def journal(self) -> Journal:
        """The chain of records."""
        return open_journal(self.store_url, self.rollout)

    def verdicts(self) -> Callable[[], dict[str, Any]]:
        """What reads the verdict of the moment, from the store alone: who asks for it names no bus, and creates no topic on another."""
        ledger, where = self.ledger, Follower(self.journal).now
        return lambda: decide.verdict(self.rollout, ledger, where, self.clock, code_version=code_version(), beside=self.beside)

    def waits_for(self) -> list[str]:
        """What the rollout's next move waits for, in words; from the store alone."""
        return decide.waits_for(self.rollout, self.ledger, Follower(self.journal).now, self.clock, beside=self.beside)

    @cached_property
    def others(self) -> Mapping[str, Callable[[], State]]:
        """Challenger -> asks where its rollout stands, of those that share the mirror."""
        family, keep_s = self.rollout.family, self.rollout.keep.records_s
        names = family.siblings if family is not None else ()
        return {name: Follower(RedisJournal(self.store_url, f"{self.rollout.mirror}.{name}", keep_s=keep_s)).now for name in names}

    def beside(self) -> Sequence[str]:
        """Why the challenger must not begin to serve now, in words."""
        return beside(self.others)

    def pair_log(self, shard: int) -> PairLog:
        """The joins of one shard."""
        return RedisPairLog(self.store_url, self.rollout.name, shard, layout=RowLayout(self.rollout), keep_s=self.rollout.keep.pairs_s)

    def plain_ids(self, shard: int) -> PlainIds:
        """The plain ids of one shard, where the config keeps any."""
        return RedisPlainIds(self.store_url, self.rollout.name, shard, keep_s=self.rollout.keep.pairs_s)

    def all_plain_ids(self) -> list[PlainIds]:
        """Those of every shard."""
        return [self.plain_ids(shard) for shard in range(self.shards)]

    # ------------------------------------------------------------------------------------------------------------------- roles
    def router(self) -> Router:
        """The router of all sources."""
        return Router(
            self.rollout, self.topology, bus=self.bus, intake=self.intake, codec=self.codec, clock=self.clock, secret=secret(),
            trust_stated=self.trust_stated,
        )  # fmt: skip

    def observer(self) -> Observer:
        """The observer of all sources of a canary."""
        return Observer(
            self.rollout, self.topology, bus=self.bus, log=self.observations, intake=self.intake, codec=self.codec, clock=self.clock,
            secret=secret(),
        )  # fmt: skip

    def lane(self, lane: str) -> Lane:
        """One lane, with its model opened."""
        spec = self.rollout.models.get(lane)
        if spec is None:
            raise UsageError(f"lane {lane}: the rollout has {', '.join(self.rollout.lanes)}")
        model = open_model(self.rollout.models[spec.of] if spec.of else spec, folder=self.rollout.folder)
        return Lane(lane, self.rollout, self.topology, bus=self.bus, codec=self.codec, clock=self.clock, model=model)

    def joiner(self, shard: int, *, patience_s: float = 0.0) -> Joiner:
        """The joiner of one shard. patience_s: where lanes run beside it, how long it waits for their answers."""
        ids = IdKeeper(self.rollout, self.plain_ids(shard)) if self.rollout.keep.ids != "none" else None
        return Joiner(
            self.rollout, self.topology, shard, bus=self.bus, pair_log=self.pair_log(shard), codec=self.codec, clock=self.clock,
            patience_s=patience_s, ids=ids,
        )  # fmt: skip

    def analyst(self, stage: int | None = None) -> Analyst:
        """The analyst of all shards: of the stage in which the rollout is, or of a given one, from the first event on, as in a replay."""
        where = Follower(self.journal).now if stage is None else lambda: State(stage=stage)
        logs = [self.pair_log(shard) for shard in range(self.shards)]
        return Analyst(
            self.rollout, self.topology, pair_logs=logs, intake=self.intake, ledger=self.ledger, clock=self.clock,
            code_version=code_version(), where=where, observations=self.observations,
        )  # fmt: skip

    def controller(self) -> Controller:
        """The controller. Its records go to the bus, and to a file of the data folder if there is one."""
        journal, data, keep_s = self.journal, os.environ.get("SHADOW_DATA"), self.rollout.keep.pairs_s
        keep = partial(recordsfile.bring_up, Path(data) / f"{self.rollout.name}.{recordsfile.NAME}") if data else None
        place = os.environ.get("SHADOW_ANCHOR")
        anchor = Anchoring(self.rollout.name, open_anchor(place), self.clock) if place else None
        sealer = self.sealer()

        def outbox() -> Outbox:
            return Outbox(
                self.rollout.name, self.topology.records, journal=journal, bus=self.bus, keep=keep, anchor=anchor,
                intake=RedisIntake(self.store_url, self.rollout.name, keep_s=keep_s),
            )  # fmt: skip

        def evidence(state: State, verdict: Mapping[str, Any]) -> Mapping[str, Any]:
            said = evidence_of(self.rollout, state, verdict, code_version=code_version())
            return {**said, **sealer.rests_on(journal, state, verdict)}

        return Controller(
            self.rollout, journal=journal, ledger=self.ledger, clock=self.clock, outbox=outbox, code_version=code_version(),
            evidence=evidence, frontier=lambda: Frontier(self.topology, self.bus, self.intake), words=partial(sealer.word, journal),
            seating=self.seating(),
        )  # fmt: skip

    def seating(self) -> Seating | None:
        """Which of several challengers may serve; None for one that is alone."""
        family = self.rollout.family
        if family is None or not family.siblings:
            return None
        return Seating(family, RedisSeats(self.store_url, family.name, keep_s=self.rollout.keep.records_s), self.others)

    def sealer(self) -> Sealer:
        """What seals what a decision rests on: into the folder that SHADOW_ARCHIVE names, or `archive` of the data folder."""
        data = os.environ.get("SHADOW_DATA")
        folder = os.environ.get("SHADOW_ARCHIVE") or (str(Path(data) / "archive") if data else None)
        return Sealer(
            self.rollout, pair_logs=[self.pair_log(shard) for shard in range(self.shards)],
            archive=FileArchive(Path(folder)) if folder else None, code_version=code_version(), observations=self.observations,
        )  # fmt: skip

    def role_names(self) -> tuple[str, ...]:
        """Every role of this rollout, as `--roles` names them."""
        observer = ("observer",) if self.rollout.exposures else ()
        lanes = (f"lane:{self.rollout.spoken(lane)}" for lane in self.rollout.lanes)
        own = "" if self.rollout.family is None else f":{self.rollout.family.challenger}"
        return ("router", *lanes, *(f"{role}{own}" for role in ("joiner", *observer, "analyst", "controller")))

    def commands(self, config_file: Path, roles: Iterable[str]) -> dict[str, list[str]]:
        """Role -> the command that runs it in a process of its own, which must be told `environment`."""
        tail = ["--config", str(config_file), "--shards", str(self.shards)]
        return {role: [sys.executable, "-m", "harness", "role", role, *tail] for role in roles}

    @property
    def environment(self) -> dict[str, str]:
        """The addresses, which may hold passwords: everybody on a machine can read a command line."""
        return {"SHADOW_BUS": self.bus_url, "SHADOW_STORE": self.store_url}

    def running(self, role: str) -> Running:
        """A role, made, holding nothing yet. Raises UsageError for a name that is none."""
        kind, _, lane = role.partition(":") if role in self.role_names() else ("", "", "")
        shards = tuple(str(shard) for shard in range(self.shards))
        match kind:
            case "router":
                router = self.router()
                return Running(parts=tuple(self.topology.sources), hold=router.hold, step=router.step, close=router.close)
            case "observer":
                observer = self.observer()
                return Running(parts=tuple(self.topology.observed), hold=observer.hold, step=observer.step, close=observer.close)
            case "lane":
                part = self.lane(next(each for each in self.rollout.lanes if self.rollout.spoken(each) == lane))
                return Running(parts=shards, hold=lambda held: part.hold(map(int, held)), step=part.step, close=part.close, drains=True)
            case "joiner":
                joiners = Joiners(partial(self.joiner, patience_s=PATIENCE_S))
                return Running(
                    parts=shards, hold=lambda held: joiners.hold(map(int, held)), step=joiners.step, close=joiners.close,
                    busy=joiners.busy, drains=True,
                )  # fmt: skip
            case "analyst":
                analysts = Analysts(self.analyst)
                return Running(parts=("verdict",), hold=analysts.hold, step=analysts.step, close=analysts.close)
            case "controller":
                controllers = Controllers(self.controller, self.clock)
                return Running(parts=("stage",), hold=controllers.hold, step=controllers.step, close=controllers.close)
        raise UsageError(f"role {role!r}: expected one of {', '.join(self.role_names())}")

    def shares(self) -> Shares:
        """Which worker of a role does which part."""
        return RedisShares(self.store_url, self.rollout.mirror)
