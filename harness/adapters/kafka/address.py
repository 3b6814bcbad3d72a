"""Where a Kafka is and how to speak with it: from a URL, and secrets from the environment only.

    kafka://host:port[,host:port...]       plain, for a network that is trusted
    kafka+ssl://host:port                  TLS; the broker's certificate and name are checked

Options, as `?name=value&...`: `sasl_mechanism` (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512), `ca_file`, `cert_file`, `key_file` (PEM), and for
topics that we create `replication` (default: the cluster's) and `retention_h` (hours that mirror and predictions are kept).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from harness.core.errors import UsageError

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
OPTIONS = ("sasl_mechanism", "ca_file", "cert_file", "key_file", "replication", "retention_h")
RETENTION_H = 7 * 24
LEAST_RETENTION_H = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A Kafka cluster. Its secrets are no part of what it prints.

    where: as messages may show it. replication: of topics we create, -1 for the cluster's default. retention_ms: of internal topics.
    """

    where: str
    servers: tuple[str, ...]
    tls: bool = False
    mechanism: str | None = None
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    files: Mapping[str, str] = field(default_factory=dict)
    key_password: str | None = field(default=None, repr=False)
    replication: int = -1
    retention_ms: int = RETENTION_H * 3_600_000

    @property
    def protocol(self) -> str:
        """Kafka's own word for how it is spoken with."""
        return ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")

    @property
    def doubts(self) -> str:
        """What else may be wrong when nobody answers: over TLS a broker that refuses is told from one that is away by nothing."""
        doubts = ["a certificate that ca_file does not vouch for, or for another name"] if self.tls else []
        doubts += ["a wrong user or password (SHADOW_KAFKA_USERNAME, SHADOW_KAFKA_PASSWORD; sasl_mechanism)"] if self.mechanism else []
        return f"; that may also be {' or '.join(doubts)}" if doubts else ""


def parse(url: str, environment: Mapping[str, str] = os.environ) -> Address:
    """The address in a URL. Raises UsageError for one that cannot be used; no message repeats what may be a secret."""
    scheme, _, rest = url.partition("://")
    hosts, _, query = rest.partition("?")
    hosts = hosts.rstrip("/")
    if "@" in hosts:
        raise UsageError(f"bus {scheme}://...: no user or password in an address; set SHADOW_KAFKA_USERNAME and SHADOW_KAFKA_PASSWORD")
    where = f"{scheme}://{hosts}"
    servers = tuple(_server(where, part) for part in hosts.split(","))
    options = _options(where, query)
    mechanism = options.get("sasl_mechanism")
    if mechanism is not None and mechanism not in MECHANISMS:
        raise UsageError(f"{where}: sasl_mechanism must be one of {', '.join(MECHANISMS)}")
    user, password = _secrets(where, environment) if mechanism else (None, None)
    files = {name: path for name, path in options.items() if name.endswith("_file")}
    _check_files(where, files, tls=scheme == "kafka+ssl")
    retention_h = _number(where, options, "retention_h", least=LEAST_RETENTION_H, default=RETENTION_H)
    return Address(
        where=where, servers=servers, tls=scheme == "kafka+ssl", mechanism=mechanism, user=user, password=password, files=files,
        key_password=environment.get("SHADOW_KAFKA_KEY_PASSWORD"), retention_ms=retention_h * 3_600_000,
        replication=_number(where, options, "replication", least=1, default=-1),
    )  # fmt: skip


def _server(where: str, part: str) -> str:
    host, _, port = part.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536 or "/" in part:
        raise UsageError(f"{where}: expected kafka://host:port, or several host:port with commas between them")
    return part


def _options(where: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError(f"{where}: the options after the ? must read name=value&name=value") from None
    options = dict(pairs)
    unknown = sorted(name for name in options if name not in OPTIONS)
    if unknown:
        secret = any("pass" in name or "user" in name or "secret" in name for name in unknown)
        hint = "; user and password come from SHADOW_KAFKA_USERNAME and SHADOW_KAFKA_PASSWORD" if secret else ""
        raise UsageError(f"{where}: unknown option {', '.join(unknown)}; known are {', '.join(OPTIONS)}{hint}")
    if len(options) < len(pairs):
        raise UsageError(f"{where}: an option stands there twice")
    return options


def _number(where: str, options: Mapping[str, str], name: str, *, least: int, default: int) -> int:
    text = options.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{where}: {name} must be a whole number, {least} or more")
    return int(text)


def _secrets(where: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """User and password, from the environment or the file it names."""
    user = environment.get("SHADOW_KAFKA_USERNAME")
    password = environment.get("SHADOW_KAFKA_PASSWORD")
    path = environment.get("SHADOW_KAFKA_PASSWORD_FILE")
    if password is None and path is not None:
        try:
            password = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise UsageError(f"{where}: SHADOW_KAFKA_PASSWORD_FILE cannot be read ({type(error).__name__})") from None
    if not user or not password:
        raise UsageError(f"{where}: sasl_mechanism needs SHADOW_KAFKA_USERNAME and SHADOW_KAFKA_PASSWORD (or SHADOW_KAFKA_PASSWORD_FILE)")
    return user, password


def _check_files(where: str, files: Mapping[str, str], *, tls: bool) -> None:
    if files and not tls:
        raise UsageError(f"{where}: {', '.join(sorted(files))} are for TLS; say kafka+ssl://")
    if "key_file" in files and "cert_file" not in files:
        raise UsageError(f"{where}: key_file needs cert_file")
    for name, path in files.items():
        if not Path(path).is_file():
            raise UsageError(f"{where}: {name} {path}: no such file")
