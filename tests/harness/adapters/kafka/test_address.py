"""Addresses of Kafka: what they may say, and that a secret is in none of them, nor in what is said about them."""

from __future__ import annotations

import pytest

from harness.adapters.kafka.address import parse
from harness.adapters.kafka.client import common
from harness.core.errors import UsageError

SECRET = "hunter2-do-not-print"
LOGIN = {"SHADOW_KAFKA_USERNAME": "shadow", "SHADOW_KAFKA_PASSWORD": SECRET}


def test_an_address_may_name_several_brokers():
    """A client that knows one broker only cannot start while that one is down."""
    address = parse("kafka://one:9092,two:9093", {})
    assert (address.servers, address.protocol, address.replication) == (("one:9092", "two:9093"), "PLAINTEXT", -1)
    assert address.where == "kafka://one:9092,two:9093"


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("kafka://h:1", "PLAINTEXT"),
        ("kafka+ssl://h:1", "SSL"),
        ("kafka://h:1?sasl_mechanism=PLAIN", "SASL_PLAINTEXT"),
        ("kafka+ssl://h:1/?sasl_mechanism=SCRAM-SHA-512", "SASL_SSL"),
    ],
)
def test_scheme_and_mechanism_say_how_kafka_is_spoken_with(url, protocol):
    """Kafka's four protocols are two choices: TLS or not, a login or not."""
    assert parse(url, LOGIN).protocol == protocol


def test_options_for_our_topics_are_numbers():
    """A cluster of three wants three replicas, and a week on the bus may be more or less than a team may keep payloads."""
    address = parse("kafka://h:1?replication=3&retention_h=72", {})
    assert (address.replication, address.retention_ms) == (3, 72 * 3_600_000)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kafka://", "host:port"),
        ("kafka://h", "host:port"),
        ("kafka://h:99999", "host:port"),
        ("kafka://h:1,", "host:port"),
        ("kafka://h:1/topic", "host:port"),
        ("kafka://h:1?replicas=3", "unknown option replicas"),
        ("kafka://h:1?replication", "name=value"),
        ("kafka://h:1?replication=0", "1 or more"),
        ("kafka://h:1?replication=three", "1 or more"),
        ("kafka://h:1?retention_h=0", "1 or more"),
        ("kafka://h:1?replication=1&replication=3", "twice"),
        ("kafka://h:1?sasl_mechanism=GSSAPI", "one of PLAIN"),
        ("kafka://h:1?ca_file=/etc/hosts", "kafka\\+ssl"),
        ("kafka+ssl://h:1?ca_file=/no/such/file", "no such file"),
        ("kafka+ssl://h:1?key_file=/etc/hosts", "needs cert_file"),
    ],
)
def test_a_wrong_address_is_named_with_what_it_should_say(url, words):
    """Anything that is passed over in silence, above all a misspelt option, is a rollout on other terms than somebody believes."""
    with pytest.raises(UsageError, match=words):
        parse(url, LOGIN)


@pytest.mark.parametrize("url", [f"kafka://shadow:{SECRET}@h:1", f"kafka://h:1?sasl_password={SECRET}", f"kafka://h:1?password={SECRET}"])
def test_a_secret_in_an_address_is_refused_and_not_repeated(url):
    """Addresses stand in process lists, shell histories and logs."""
    with pytest.raises(UsageError, match="SHADOW_KAFKA_PASSWORD") as refused:
        parse(url, {})
    assert SECRET not in str(refused.value)


def test_a_login_comes_from_the_environment_or_from_a_file(tmp_path):
    """Orchestrators hand secrets over in one of the two ways; a file's last line end is not part of the password."""
    path = tmp_path / "password"
    path.write_text(SECRET + "\n")
    url = "kafka://h:1?sasl_mechanism=PLAIN"
    for environment in (LOGIN, {"SHADOW_KAFKA_USERNAME": "shadow", "SHADOW_KAFKA_PASSWORD_FILE": str(path)}):
        made = common(parse(url, environment))
        assert (made["sasl_plain_username"], made["sasl_plain_password"]) == ("shadow", SECRET)


@pytest.mark.parametrize("environment", [{}, {"SHADOW_KAFKA_USERNAME": "shadow"}, {"SHADOW_KAFKA_PASSWORD": SECRET}])
def test_a_login_without_its_secrets_is_refused(environment):
    """Going on without would look like a broker that is away."""
    with pytest.raises(UsageError, match="SHADOW_KAFKA_USERNAME"):
        parse("kafka://h:1?sasl_mechanism=PLAIN", environment)


def test_a_password_file_that_is_not_there_is_named_by_its_variable(tmp_path):
    """The path may be a secret's mount point; the variable is what has to be set right."""
    with pytest.raises(UsageError, match="SHADOW_KAFKA_PASSWORD_FILE"):
        parse("kafka://h:1?sasl_mechanism=PLAIN", {"SHADOW_KAFKA_USERNAME": "a", "SHADOW_KAFKA_PASSWORD_FILE": str(tmp_path / "none")})


def test_an_address_never_prints_its_secrets():
    """Somebody will print one while looking for an error."""
    address = parse("kafka+ssl://h:1?sasl_mechanism=PLAIN", {**LOGIN, "SHADOW_KAFKA_KEY_PASSWORD": SECRET + "2"})
    assert address.password == SECRET and address.key_password == SECRET + "2"
    assert SECRET not in repr(address) and SECRET not in str(address) and SECRET not in address.where


def test_a_file_that_is_no_certificate_is_named(tmp_path):
    """A TLS library's own words for it name no file."""
    path = tmp_path / "ca.pem"
    path.write_text("not a certificate")
    with pytest.raises(UsageError, match="ca_file"):
        common(parse(f"kafka+ssl://h:1?ca_file={path}", {}))
