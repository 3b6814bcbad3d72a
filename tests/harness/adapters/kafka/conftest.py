"""What the tests of the Kafka adapter share."""

from __future__ import annotations

from contextlib import suppress

import pytest

from harness.adapters.kafka import admin, bus, client, reader


@pytest.fixture
def impatient(monkeypatch):
    """The same waits, shorter: for tests that sit them out."""
    monkeypatch.setattr(client, "REQUEST_MS", 1_500)
    monkeypatch.setattr(client, "BOOTSTRAP_MS", 1_500)
    monkeypatch.setattr(reader, "REQUEST_MS", 1_500)
    monkeypatch.setattr(reader, "LOOK_S", 0.5)
    with suppress(ImportError):
        from harness.adapters.kafka import confluent

        monkeypatch.setattr(confluent, "REQUEST_MS", 1_500)
        monkeypatch.setattr(confluent, "LINGER_MS", 1_000)
    monkeypatch.setattr(admin, "PATIENCE_S", 1.0)
    for name, value in {"linger_ms": 1_000, "delivery_timeout_ms": 3_000, "max_block_ms": 1_500}.items():
        monkeypatch.setitem(bus.PRODUCER, name, value)
