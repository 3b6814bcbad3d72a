"""Real Apache Kafka for the tests that need one: KRaft mode, loopback only, from Maven artifacts that are kept in a cache folder.

SHADOW_TEST_KAFKA=host:port names a running broker for the tests that only use one; tests that stop, secure or multiply brokers start
their own all the same. Without Java or Maven they skip at home, loudly, and fail where CI is set.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from absent import missing
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from ports import free_ports

VERSION = "4.3.0"
START_S = 240.0
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
  </dependencies>
</project>
"""
SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "broker.heartbeat.interval.ms": "250",
    "broker.session.timeout.ms": "2500",  # after so long a broker that was killed is given up
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": str(8 << 20),
}


def libraries() -> Path:
    """The folder of Kafka's jars, downloaded once. It gets its name when it is whole, so a broken download is never used."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None:
        missing("NO KAFKA: no `java` on the PATH (17 or later); or name a running broker in SHADOW_TEST_KAFKA=host:port")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "shadow-harness")
    libs = cache / f"kafka-{VERSION}"
    if libs.is_dir():
        return libs
    if maven is None:
        missing("NO KAFKA: no `mvn` on the PATH to download it; or name a running broker in SHADOW_TEST_KAFKA=host:port")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        Path(scratch, "pom.xml").write_text(POM, encoding="utf-8")
        command = ["mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies", f"-DoutputDirectory={scratch}/libs"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            missing(f"NO KAFKA: Maven could not download it:\n{done.stdout[-2000:]}")
        try:
            Path(scratch, "libs").rename(libs)
        except OSError:
            if not libs.is_dir():  # else another run was faster
                raise
    return libs


def _until_killed() -> list[str]:
    """On Linux: a broker does not outlive tests that were killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


class Broker:
    """One node, broker and controller, that can be stopped, killed and started again on its data."""

    def __init__(
        self, folder: Path, node: int, port: int, controllers: Sequence[int], cluster_id: str, settings: Mapping[str, str], heap: str,
        listeners: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.port, self._heap, self._folder, self._process = port, heap, folder, None
        self.ports = {"PLAINTEXT": port, **dict(zip(listeners, free_ports(len(listeners)), strict=True))}
        folder.mkdir(parents=True, exist_ok=True)
        addresses = ",".join(f"{name}://127.0.0.1:{at}" for name, at in self.ports.items())
        everything = {
            **SETTINGS,
            "node.id": str(node),
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{p}" for n, p in enumerate(controllers, 1)),
            "listeners": f"{addresses},CONTROLLER://127.0.0.1:{controllers[node - 1]}",
            "advertised.listeners": addresses,
            "log.dirs": str(folder / "data"),
            **settings,
        }
        self._config = folder / "server.properties"
        self._config.write_text("".join(f"{key}={value}\n" for key, value in everything.items()), encoding="utf-8")
        self._libs = libraries()
        # with =: one id in sixty-four begins with a dash
        self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", str(self._config)).communicate()

    def _java(self, *command: str) -> subprocess.Popen:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*_until_killed(), "java", f"-Xmx{self._heap}", *JVM, "-cp", f"{self._libs}/*", *command],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._folder, start_new_session=True,
            )  # fmt: skip

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def ended(self) -> bool:
        """Whether there is no process."""
        return self._process is None or self._process.poll() is not None

    @property
    def log(self) -> str:
        """What the broker printed."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Starts the process; `wait` tells when it answers."""
        self._process = self._java("kafka.Kafka", str(self._config))

    def wait(self) -> None:
        """Returns when the broker answers."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                with KafkaAdminClient(bootstrap_servers=self.address, bootstrap_timeout_ms=2_000) as client:
                    if client.describe_cluster()["controller_id"] >= 0:
                        return
            except (KafkaError, OSError):
                pass
            if time.monotonic() > deadline or self.ended:
                pytest.fail(f"Kafka did not start:\n{self.log[-3000:]}")
            time.sleep(0.1)

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Ends the process and all it started."""
        if self.ended:
            return
        os.killpg(self._process.pid, signal_number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def kill(self) -> None:
        """Ends the process without a word."""
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        """Stops it, starts it again on the same data and port, and waits until it answers."""
        self.stop()
        self.start()
        self.wait()


class Cluster:
    """Brokers that know each other. listeners: beside PLAINTEXT, on the first broker."""

    def __init__(
        self, folder: Path, n: int, settings: Mapping[str, str] | None = None, heap: str = "256m", listeners: Sequence[str] = ()
    ) -> None:
        ports = free_ports(2 * n)
        replicas = str(min(3, n))
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
        shared = {
            "default.replication.factor": replicas,
            "min.insync.replicas": "2" if n > 1 else "1",
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": "1",
            **(settings or {}),
        }
        self.brokers = [
            Broker(folder / str(k), k, ports[k - 1], ports[n:], cluster_id, shared, heap, listeners if k == 1 else ())
            for k in range(1, n + 1)
        ]

    @property
    def url(self) -> str:
        """Where clients start from: all of its brokers."""
        return "kafka://" + ",".join(broker.address for broker in self.brokers)

    def __enter__(self) -> Cluster:
        for broker in self.brokers:
            broker.start()
        for broker in self.brokers:
            broker.wait()
        return self

    def __exit__(self, *_: object) -> None:
        for broker in self.brokers:
            broker.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of our own, for tests that restart it; it runs when a test begins and must run when the test ends."""
    with Cluster(tmp_path_factory.mktemp("kafka"), 1, heap="512m") as cluster:
        yield cluster.brokers[0]


@pytest.fixture(scope="session")
def kafka_url(request: pytest.FixtureRequest) -> str:
    """The URL of a running broker."""
    if address := os.environ.get("SHADOW_TEST_KAFKA"):
        return f"kafka://{address}"
    return f"kafka://{request.getfixturevalue('kafka_broker').address}"


@pytest.fixture(scope="module")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers: each partition on all of them, and a write needs two."""
    with Cluster(tmp_path_factory.mktemp("kafka-cluster"), 3) as cluster:
        yield cluster
