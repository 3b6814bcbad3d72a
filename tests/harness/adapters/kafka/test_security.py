"""TLS, logins and rights, on a real broker with a certificate authority of its own."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import time
from types import SimpleNamespace

import pytest
from absent import missing
from kafka.admin import ACL, ACLOperation, ACLPermissionType, KafkaAdminClient, ResourcePattern, ResourceType
from kafka_broker import Cluster
from patience import tried

from harness.adapters.kafka.bus import KafkaBus
from harness.core.errors import BusUnavailable, UsageError
from harness.ports.bus import BEFORE_ALL, Partition
from harness.wiring import open_bus

PASSWORD, OTHER_PASSWORD = "marker-4711-open", "marker-4712-open"
WAIT_S = 60.0  # a record ends it at once


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """ca.pem and other-ca.pem; broker.pem for 127.0.0.1 and client.pem, each key and certificate in one file."""
    if shutil.which("openssl") is None:
        missing("no `openssl` on the PATH to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(line):
        subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)

    signs = "-addext keyUsage=critical,keyCertSign"  # Python 3.13 takes no authority whose certificate leaves that out
    for ca in ("ca", "other-ca"):
        openssl(f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={ca} {signs} -keyout {ca}.key -out {ca}.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")  # nor a certificate without its key's name
    for name in ("broker", "client"):
        openssl(f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr")
        openssl(f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.crt")
        (folder / f"{name}.pem").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())
    return folder


@pytest.fixture(scope="module")
def secured(certificates, tmp_path_factory):
    """A broker with TLS, logins and access lists: `shadow` may do all, `guest` nothing, and so whoever shows the client certificate."""
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    settings = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
        "listener.name.ssl.ssl.client.auth": "required",
        **{
            f"listener.name.{listener}.{name}": value
            for listener in ("sasl_ssl", "sasl_plaintext")
            for name, value in {
                "sasl.enabled.mechanisms": "PLAIN",
                "plain.sasl.jaas.config": f'{module} required user_shadow="{PASSWORD}" user_guest="{OTHER_PASSWORD}";',
            }.items()
        },
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:shadow;User:CN=client",  # ANONYMOUS is the plain listener: broker, controller, these tests
    }
    with Cluster(tmp_path_factory.mktemp("secured"), 1, settings, listeners=("SSL", "SASL_SSL", "SASL_PLAINTEXT")) as cluster:
        broker = cluster.brokers[0]
        login = f"kafka+ssl://127.0.0.1:{broker.ports['SASL_SSL']}?sasl_mechanism=PLAIN"
        yield SimpleNamespace(
            plain=broker.address,
            plain_login=f"kafka://127.0.0.1:{broker.ports['SASL_PLAINTEXT']}?sasl_mechanism=PLAIN",
            login=f"{login}&ca_file={certificates / 'ca.pem'}",
            stranger=f"{login}&ca_file={certificates / 'other-ca.pem'}",
            certificate=f"kafka+ssl://127.0.0.1:{broker.ports['SSL']}?ca_file={certificates / 'ca.pem'}",
            tls_port=broker.ports["SASL_SSL"],
        )


def log_in(monkeypatch, user, password):
    monkeypatch.setenv("SHADOW_KAFKA_USERNAME", user)
    monkeypatch.setenv("SHADOW_KAFKA_PASSWORD", password)


def error_of(ask, words):
    """What is raised, by the first try whose words these are: an impatient client may give up a broker that is only slow."""

    def trial():
        with pytest.raises((UsageError, BusUnavailable)) as refused:
            ask()
        return str(refused.value)

    found = tried(trial, lambda said: re.search(words, said))
    assert re.search(words, found), found
    return found


def assert_works(bus):
    """Every port of the bus, once."""
    topic = f"t{time.time_ns()}"
    bus.ensure(topic, 1)
    partition = Partition(topic, 0)
    bus.append(partition, [b"a", b"b"])
    bus.commit("group", {partition: 0})
    reader = bus.reader(bus.committed("group", [partition]))
    assert [record.value for record in reader.read(limit=10, wait_s=WAIT_S)] == [b"b"]
    reader.close()
    bus.close()


@pytest.fixture(params=["", "confluent+"], ids=["kafka-python", "librdkafka"])
def client(request):
    """The client that an address chooses."""
    if request.param:
        pytest.importorskip("confluent_kafka")
    return request.param


def test_a_login_over_tls_opens_everything(client, secured, monkeypatch):
    """Topics, appends, reads and commits each have a connection of their own; all of them must log in."""
    log_in(monkeypatch, "shadow", PASSWORD)
    assert_works(open_bus(client + secured.login))


def test_a_client_certificate_opens_everything(client, secured, certificates):
    """Many clusters know their clients by certificate alone."""
    files = f"&cert_file={certificates / 'client.crt'}&key_file={certificates / 'client.key'}"
    assert_works(open_bus(client + secured.certificate + files))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("over", ["plain_login", "login"])
def test_a_wrong_password_is_named_as_one_and_never_shown(over, secured, monkeypatch, caplog, capfd):
    """Who reads that Kafka does not answer looks at networks for an hour; and the password may be that of something else.

    kafka-python may drop the broker's last words before it hangs up: then all one can say is that it may be the password.
    """
    caplog.set_level(logging.DEBUG)
    log_in(monkeypatch, "shadow", OTHER_PASSWORD)
    bus = KafkaBus(getattr(secured, over))
    reader = bus.reader({Partition("t", 0): 0})
    for ask in (lambda: bus.ensure("t"), lambda: bus.append(Partition("t", 0), [b"x"]), lambda: reader.read(limit=1, wait_s=0)):
        assert OTHER_PASSWORD not in error_of(ask, r"refused the login|wrong user or password")
    written = capfd.readouterr()
    assert OTHER_PASSWORD not in caplog.text + written.out + written.err


def test_no_record_and_no_password_reaches_a_log(secured, monkeypatch, caplog):
    """At its lowest level kafka-python logs settings and records: not even who turns everything on may find them in a log."""
    caplog.set_level(logging.DEBUG)
    log_in(monkeypatch, "shadow", PASSWORD)
    bus = KafkaBus(secured.login)
    bus.ensure("logs")
    bus.append(Partition("logs", 0), [b"marker-payload"])
    reader = bus.reader({Partition("logs", 0): BEFORE_ALL})
    assert len(reader.read(limit=10, wait_s=WAIT_S)) == 1
    reader.close()
    bus.close()
    assert PASSWORD not in caplog.text and "marker-payload" not in caplog.text


@pytest.mark.usefixtures("impatient")
def test_a_broker_that_another_authority_vouches_for_is_not_spoken_with(secured, monkeypatch):
    """Else the password goes to whoever answers on that address."""
    log_in(monkeypatch, "shadow", PASSWORD)
    error_of(lambda: KafkaBus(secured.stranger).ensure("t"), "certificate")


@pytest.mark.usefixtures("impatient")
def test_plain_words_to_a_tls_port_are_unavailable(secured):
    """The commonest slip in an address: it must end, and say where."""
    with pytest.raises(BusUnavailable, match=str(secured.tls_port)):
        KafkaBus(f"kafka://127.0.0.1:{secured.tls_port}").ensure("t")


# -------------------------------------------------------------------------------------------------------------------------- rights
def allow(secured, topic, *operations):
    with KafkaAdminClient(bootstrap_servers=secured.plain) as client:
        pattern = ResourcePattern(ResourceType.TOPIC, topic)
        client.create_acls([ACL("User:guest", "*", operation, ACLPermissionType.ALLOW, pattern) for operation in operations])


def test_a_cluster_that_forbids_creating_topics_says_which_one_to_create(secured, monkeypatch):
    """In many companies topics are made by another team: they need the name, the partitions and the settings, not a stack trace."""
    log_in(monkeypatch, "guest", OTHER_PASSWORD)
    allow(secured, "demo.mirror", ACLOperation.DESCRIBE, ACLOperation.DESCRIBE_CONFIGS)
    bus = KafkaBus(secured.login)
    with pytest.raises(UsageError, match=r"forbids us to create it .*--topic demo\.mirror --partitions 4 .*cleanup\.policy=delete"):
        bus.ensure("demo.mirror", 4)
    with KafkaAdminClient(bootstrap_servers=secured.plain) as client:
        client.create_topics({"demo.mirror": {"num_partitions": 4}})
    assert bus.ensure("demo.mirror", 4) == 4
    bus.close()


def test_a_right_that_is_missing_is_named_as_one(secured, monkeypatch):
    """A reader without the right to read would wait for ever, and look idle."""
    log_in(monkeypatch, "shadow", PASSWORD)
    KafkaBus(secured.login).ensure("closed", 1)
    log_in(monkeypatch, "guest", OTHER_PASSWORD)
    allow(secured, "closed", ACLOperation.DESCRIBE)
    bus, partition = KafkaBus(secured.login), Partition("closed", 0)
    asks = (lambda: bus.append(partition, [b"x"]), lambda: bus.reader({partition: BEFORE_ALL}).read(limit=1, wait_s=WAIT_S),
            lambda: bus.commit("g", {partition: 0}), lambda: bus.ensure("unseen"))  # fmt: skip
    for ask in asks:
        with pytest.raises(UsageError, match="may not do that"):
            ask()
    bus.close()
