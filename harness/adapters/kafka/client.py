"""kafka-python's settings, and its errors in our words. No message holds a password or a record."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import errors
from kafka.net.compat import KafkaNetClient

from harness.adapters.kafka.address import Address
from harness.core.errors import BusUnavailable, Overrun, ShadowError, TooLarge, UsageError

REQUEST_MS = 8_000  # one request and its answer
BOOTSTRAP_MS = 8_000
LARGEST_RECORD = 16 << 20  # bytes; a frame is 512 KiB, unless one event alone is larger

# kafka-python logs every retry as an error, and at its lowest level records and passwords: what matters is raised here in our words.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

_REFUSED = (errors.AuthorizationError, errors.SecurityDisabledError)
_LOGIN = (errors.SaslAuthenticationFailedError, errors.UnsupportedSaslMechanismError, errors.IllegalSaslStateError)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)


def made(kind: Callable[..., Any], address: Address, **settings: Any) -> Any:
    """A client of this kind. One that cannot be made leaves no thread behind; kafka-python's own would go on connecting for ever."""
    connections: list[KafkaNetClient] = []

    def connection(**configs: Any) -> KafkaNetClient:
        connections.append(KafkaNetClient(**configs))
        return connections[-1]

    try:
        return kind(**common(address), **settings, kafka_client=connection)
    except BaseException:
        for each in connections:
            each.close()
        raise


def common(address: Address) -> dict[str, Any]:
    """What every kind of client is made with."""
    made: dict[str, Any] = {
        "bootstrap_servers": list(address.servers),
        "client_id": "shadow-harness",
        "security_protocol": address.protocol,
        "request_timeout_ms": REQUEST_MS,
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
        "reconnect_backoff_max_ms": 1_000,  # its own 30 s would keep a role away long after its broker is back
        "metadata_max_age_ms": 60_000,
    }
    if address.mechanism:
        made |= {"sasl_mechanism": address.mechanism, "sasl_plain_username": address.user, "sasl_plain_password": address.password}
    if address.tls:
        made["ssl_context"] = _tls(address)
    return made


def _tls(address: Address) -> ssl.SSLContext:
    files = address.files
    try:
        context = ssl.create_default_context(cafile=files.get("ca_file"))
        if "cert_file" in files:
            context.load_cert_chain(files["cert_file"], files.get("key_file"), password=lambda: address.key_password or "")
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"{address.where}: {', '.join(sorted(files))}: no usable PEM file ({type(error).__name__})") from None
    return context


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Errors of kafka-python inside become ours."""
    try:
        yield
    except ShadowError:
        raise
    except errors.KafkaError as error:
        raise _ours(address, error) from None
    except (OSError, ssl.SSLError) as error:
        raise BusUnavailable(f"{address.where}: Kafka does not answer ({type(error).__name__}){address.doubts}") from None


def _ours(address: Address, error: errors.KafkaError) -> ShadowError:
    """What an error of the client means to us. Everything that is not known to be for good is worth another try."""
    where, name = address.where, type(error).__name__.removesuffix("Error")
    if isinstance(error, errors.OffsetOutOfRangeError | errors.LogTruncationError):
        return Overrun(f"{where}: records were gone before they were read ({name})")
    if isinstance(error, _LOGIN):
        return UsageError(f"{where}: Kafka refused the login ({name}); see SHADOW_KAFKA_USERNAME, SHADOW_KAFKA_PASSWORD, sasl_mechanism")
    if isinstance(error, _REFUSED) or "AuthorizationFailed" in str(error):  # a producer wraps what it met first
        return UsageError(f"{where}: this user may not do that ({name}); docs/kafka.md lists the rights that each role needs")
    if isinstance(error, _TOO_LARGE):
        return TooLarge(f"{where}: a record is larger than its topic takes; raise the topic's max.message.bytes")
    if isinstance(error, errors.InvalidTopicError):
        return UsageError(f"{where}: Kafka takes no topic of this name; letters, digits, `.`, `_` and `-` are allowed")
    if isinstance(error, errors.UnsupportedVersionError | errors.UnrecognizedBrokerVersion):
        return UsageError(f"{where}: this Kafka is too old ({name}); 2.4 or later is needed")
    if isinstance(error, errors.InvalidRecordError):
        return UsageError(f"{where}: Kafka refused the records; a topic of ours must have cleanup.policy=delete")
    return BusUnavailable(f"{where}: Kafka does not answer ({name}){address.doubts}")
