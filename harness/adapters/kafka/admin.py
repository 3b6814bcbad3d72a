"""Topics, ends and committed offsets: what one asks a Kafka cluster beside reading and appending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.structs import OffsetAndMetadata, TopicPartition

from harness.adapters.kafka.address import LEAST_RETENTION_H, Address
from harness.adapters.kafka.client import LARGEST_RECORD, made, translated
from harness.core.errors import BusUnavailable, ShadowError, UsageError
from harness.ports.bus import BEFORE_ALL, Partition

LATEST = -1  # the wire's word for the end of a log
READ_COMMITTED = "read_committed"
PATIENCE_S = 5.0  # for what a cluster says while it elects a leader or loads a coordinator
_PAUSE_S = 0.1
_FORBIDDEN = (errors.AuthorizationError, errors.PolicyViolationError, errors.SecurityDisabledError)
T = TypeVar("T")


class Admin:
    """What `KafkaBus` does through Kafka's admin protocol. Thread-safe; connects with the first call, anew after a failure."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: Any = None
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------------------------------------------ topics
    def ensure(self, topic: str, partitions: int | None, keep_s: float = 0.0) -> int:
        """Creates the topic if it is not there and returns how many partitions it has. With a number it is one of ours, and its
        settings are checked; without, it is somebody's source, and only created when missing.

        Raises UsageError when it has another number, may not be created, or would lose our records.
        """
        found = self._count(topic)
        if found == 0:
            self._create(topic, partitions or 1, ours=partitions is not None)
            found = self._count_new(topic)
        if partitions is not None:
            if found != partitions:
                raise UsageError(
                    f"topic {topic}: has {found} partitions, not {partitions}; partitions are fixed when a topic is created. "
                    "Give the rollout another name, or delete the topic while the rollout is down"
                )
            self._check(topic, max(keep_s / 3_600, LEAST_RETENTION_H))
        elif keep_s and 0 <= (retention_h := self._retention_h(self._configs(topic))) * 3_600 < keep_s:
            structlog.get_logger().warning(
                "topic.short_retention", topic=topic, retention_h=round(retention_h, 3), need_h=round(keep_s / 3_600, 3),
                now=f"goes on; a router that is away for longer loses events. Set retention.ms to {int(keep_s * 1_000)} or more",
            )  # fmt: skip
        return found

    def _count(self, topic: str) -> int:
        """How many partitions a topic has; 0 when there is none of this name."""

        def look(client: Any) -> int:
            described = client.describe_topics([topic])[0]
            error = errors.for_code(described["error_code"])
            if error is errors.UnknownTopicOrPartitionError:
                return 0
            if error is not errors.NoError:
                raise error()
            return len(described["partitions"])

        return self._call(look)

    def _count_new(self, topic: str) -> int:
        """The same of a topic that was just created: brokers hear of it one after the other, and any of them may be asked."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self._count(topic)):
            if time.monotonic() > deadline:
                raise BusUnavailable(f"{self._address.where}: topic {topic} was created, and is not there after {PATIENCE_S:g} s")
            time.sleep(_PAUSE_S)
        return found

    def _create(self, topic: str, partitions: int, *, ours: bool) -> None:
        """Creates a topic; somebody else may have been faster."""
        configs = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(LARGEST_RECORD)}
        if ours:
            configs |= {"cleanup.policy": "delete", "retention.ms": str(self._address.retention_ms), "retention.bytes": "-1"}
        if self._address.replication > 1:
            configs["min.insync.replicas"] = str(self._address.replication - 1)
        wanted = {"num_partitions": partitions, "replication_factor": self._address.replication, "configs": configs}

        def create(client: Any) -> None:
            try:
                client.create_topics({topic: wanted})
            except errors.TopicAlreadyExistsError:
                pass
            except _FORBIDDEN as error:
                raise UsageError(self._by_hand(topic, partitions, configs, type(error).__name__)) from None
            except (errors.InvalidReplicationFactorError, errors.InvalidConfigurationError) as error:
                raise UsageError(f"topic {topic}: Kafka refuses to create it ({type(error).__name__}); see ?replication=") from None
            client.wait_for_topics([topic], timeout_ms=int(PATIENCE_S * 1_000))

        self._call(create)

    @staticmethod
    def _by_hand(topic: str, partitions: int, configs: Mapping[str, str], reason: str) -> str:
        settings = " ".join(f"--config {name}={value}" for name, value in configs.items())
        return (
            f"topic {topic}: is missing, and this cluster forbids us to create it ({reason}). Have it created with: "
            f"kafka-topics.sh --create --topic {topic} --partitions {partitions} {settings}"
        )

    def _configs(self, topic: str) -> dict[str, str]:
        """A topic's settings; empty without the right to see them."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = self._call(lambda client: client.describe_configs([resource], config_filter="all"))
        return {name: config["value"] for name, config in found.get("topic", {}).get(topic, {}).items()}

    @staticmethod
    def _retention_h(configs: Mapping[str, str]) -> float:
        """Hours that records are kept; below zero without end, or when it is not known."""
        return int(configs.get("retention.ms", -1)) / 3_600_000

    def _check(self, topic: str, need_h: float) -> None:
        """Raises UsageError when a topic of ours would lose records. Without the right to see its settings there is nothing to check."""
        configs = self._configs(topic)
        if "compact" in configs.get("cleanup.policy", ""):
            raise UsageError(f"topic {topic}: is compacted and would refuse our records; set cleanup.policy=delete")
        retention_h = self._retention_h(configs)
        if 0 <= retention_h < need_h:
            raise UsageError(
                f"topic {topic}: keeps records for {retention_h:.3g} h only, and who is behind for longer would lose them; it needs "
                f"{need_h:.3g} h: set retention.ms to {int(need_h * 3_600_000)} or more ({self._address.retention_ms} is our own choice)"
            )

    # ----------------------------------------------------------------------------------------------------------------- offsets
    def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The position of the last record of each, BEFORE_ALL when it never had one."""
        wanted = {TopicPartition(each.topic, each.number): LATEST for each in partitions}
        if not wanted:
            return {}
        found = self._call(lambda client: client.list_partition_offsets(wanted, isolation_level=READ_COMMITTED))
        return {each: found[TopicPartition(each.topic, each.number)].offset - 1 for each in partitions}

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Commits for a group that nobody joins. Kafka's offset is that of the next record, ours that of the last one."""
        offsets = {TopicPartition(each.topic, each.number): OffsetAndMetadata(at + 1, "", -1) for each, at in positions.items()}

        def commit(client: Any) -> None:
            for error in client.alter_group_offsets(group, offsets).values():
                if error is not errors.NoError:
                    raise error()

        if offsets:
            self._call(commit)

    def committed(self, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """What a group committed, BEFORE_ALL where nothing."""
        wanted = [TopicPartition(each.topic, each.number) for each in partitions]
        if not wanted:
            return {}
        found = self._call(lambda client: client.list_group_offsets({group: wanted}))[group]
        offsets = (found[each].offset if each in found else -1 for each in wanted)
        return {each: offset - 1 if offset >= 0 else BEFORE_ALL for each, offset in zip(partitions, offsets, strict=True)}

    # -------------------------------------------------------------------------------------------------------------- connection
    def _call(self, ask: Callable[[Any], T]) -> T:
        """Asks, and asks again while the cluster says that it is not ready, for at most PATIENCE_S. All questions may be repeated."""
        deadline = time.monotonic() + PATIENCE_S
        with translated(self._address), self._lock:
            while True:
                try:
                    if self._client is None:
                        self._client = made(KafkaAdminClient, self._address)
                    return ask(self._client)
                except ShadowError:
                    raise
                except Exception as error:
                    self._forget()  # with what it believes of leaders and coordinators
                    if not getattr(error, "retriable", False) or time.monotonic() > deadline:
                        raise
                    time.sleep(_PAUSE_S)

    def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def close(self) -> None:
        """Lets go of the connection."""
        with self._lock:
            self._forget()
