"""The provider, through the real OpenFeature SDK: what a service gets, and what it is told when that changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationDetails, Reason
from openfeature.provider import ProviderStatus
from patience import LONG_S, until

from harness.assign import secret_check
from harness.core.routing import Hasher
from harness.openfeature import ShadowProvider

NAME = "age-regression"
SECRET = b"0123456789abcdef"
HASHER = Hasher(NAME, SECRET)


class Chain:
    """An API as a function: says what a test says, and waits for nobody."""

    def __init__(self) -> None:
        self.percent: float | None = 50.0
        self.more: dict[str, str] = {}
        self._n = 0

    def __call__(self, rollout: str) -> dict[str, Any]:
        if self.percent is None:
            raise ConnectionError
        self._n += 1
        return {
            "rollout": rollout, "percent": self.percent, "standing": "running", "stage": 2, "kind": "canary", "config_sha256": "c" * 64,
            "head": f"h{self.percent:g}", "as_of": f"t{self._n}", "secret_check": secret_check(NAME, HASHER),
            **self.more,
        }  # fmt: skip


class Heard:
    """The events of a client, each to be waited for."""

    def __init__(self, client: OpenFeatureClient) -> None:
        self._changed, self._seen = threading.Condition(), list[tuple[ProviderEvent, EventDetails]]()
        for event in ProviderEvent:
            client.add_handler(event, lambda details, event=event: self._note(event, details))

    def _note(self, event: ProviderEvent, details: EventDetails) -> None:
        with self._changed:
            self._seen.append((event, details))
            self._changed.notify_all()

    def next(self, event: ProviderEvent) -> EventDetails:
        """Waits for this event and forgets all up to it."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(seen == event for seen, _ in self._seen), timeout=LONG_S), event
            at = next(n for n, (seen, _) in enumerate(self._seen) if seen == event)
            details = self._seen[at][1]
            del self._seen[: at + 1]
            return details


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def client(chain, request: pytest.FixtureRequest) -> Iterator[OpenFeatureClient]:
    """A client of the SDK with our provider, ready; after how long it is stale is its parameter."""
    api.set_provider_and_wait(ShadowProvider(chain, [NAME], secret=SECRET, stale_after_s=getattr(request, "param", LONG_S)))
    yield api.get_client()
    api.clear_providers()


def ask(client: OpenFeatureClient, unit: str | None, default: str = "incumbent", flag: str = NAME) -> FlagEvaluationDetails[str]:
    return client.get_string_details(flag, default, EvaluationContext(targeting_key=unit))


def unit_of(arm: str) -> str:
    return next(f"u{n}" for n in range(1_000) if (HASHER.fraction(b"arm", f"u{n}") * 100.0 < 50.0) == (arm == "challenger"))


@pytest.mark.parametrize("arm", ["incumbent", "challenger"])
def test_in_a_canary_a_unit_has_its_arm_as_value_and_variant(arm, client):
    """Reason SPLIT, and what to log with the exposure."""
    found = ask(client, unit_of(arm))
    assert (found.value, found.variant, found.reason, found.error_code) == (arm, arm, Reason.SPLIT, None)
    assert dict(found.flag_metadata) == {
        "rollout": NAME, "config_sha256": "c" * 64, "stage": 2, "kind": "canary", "percent": 50.0, "head": "h50",
        "says": "stage 2 (canary), running, 50 %",
    }  # fmt: skip
    assert all(type(value) in (bool, int, float, str) for value in found.flag_metadata.values())


def test_of_several_challengers_the_metadata_name_the_one_that_serves(chain, client):
    """An exposure must say this name, and nobody else knows it."""
    assert "challenger" not in ask(client, unit_of("challenger")).flag_metadata
    chain.more = {"arms": f"{NAME}.fast", "challenger": "fast"}
    found = until(lambda: ask(client, "u").flag_metadata.get("challenger"))
    assert found == "fast"


def test_a_split_without_a_targeting_key_is_the_default_and_says_so(client):
    """Whoever forgets the key must see it, not get an arm at random."""
    for found in (ask(client, None), ask(client, ""), client.get_string_details(NAME, "incumbent")):
        assert (found.value, found.reason, found.error_code) == ("incumbent", Reason.ERROR, ErrorCode.TARGETING_KEY_MISSING)


def test_a_flag_that_is_no_rollout_and_a_type_that_is_no_string_are_the_default(client):
    """With the codes of the specification."""
    found = ask(client, "u", flag="other")
    assert (found.value, found.reason, found.error_code) == ("incumbent", Reason.ERROR, ErrorCode.FLAG_NOT_FOUND)
    context = EvaluationContext(targeting_key="u")
    for details, default in (
        (client.get_boolean_details, False), (client.get_integer_details, 7), (client.get_float_details, 0.5),
        (client.get_object_details, {"a": 1}),
    ):  # fmt: skip
        found = details(NAME, default, context)
        assert (found.value, found.reason, found.error_code) == (default, Reason.ERROR, ErrorCode.TYPE_MISMATCH)


@pytest.mark.parametrize("client", [1.5], indirect=True)
def test_changes_are_told_and_the_incumbent_serves_while_nothing_new_comes(client, chain):
    """A rollback, an API that is away and one that is back: each an event, and a value that holds until the next."""
    heard, ours = Heard(client), unit_of("challenger")

    def serves(unit: str | None, value: str, reason: Reason) -> bool:  # a machine that stalls makes it stale for a moment
        found = ask(client, unit, default="challenger" if value == "incumbent" else "incumbent")
        return (found.value, found.reason, found.error_code) == (value, reason, None)

    chain.percent = 0.0
    assert heard.next(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED).flags_changed == [NAME]
    until(lambda: serves(None, "incumbent", Reason.STATIC))
    chain.percent = 100.0
    heard.next(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED)
    until(lambda: serves(None, "challenger", Reason.STATIC))
    chain.percent = None
    assert "nothing new for" in (heard.next(ProviderEvent.PROVIDER_STALE).message or "")
    until(lambda: serves(ours, "incumbent", Reason.STALE))
    assert client.get_provider_status() is ProviderStatus.STALE
    found = ask(client, ours, default="challenger")
    assert (found.value, found.variant, found.reason, found.error_code) == ("incumbent", "incumbent", Reason.STALE, None)
    chain.percent = 50.0
    heard.next(ProviderEvent.PROVIDER_READY)
    until(lambda: client.get_provider_status() is ProviderStatus.READY)
    until(lambda: serves(ours, "challenger", Reason.SPLIT))


def test_without_a_document_the_provider_is_not_ready_and_the_incumbent_serves(chain):
    """Whatever default was passed; and as soon as a document comes it is ready by itself."""
    chain.percent = None
    provider = ShadowProvider(chain, [NAME], secret=SECRET, ready_within_s=0.05)
    try:
        with pytest.raises(ProviderNotReadyError, match="no assignment document yet of age-regression; the incumbent serves"):
            api.set_provider_and_wait(provider)
        client = api.get_client()
        heard = Heard(client)
        found = provider.resolve_string_details(NAME, "challenger", EvaluationContext(targeting_key="u"))
        assert (found.value, found.variant, found.reason) == ("incumbent", "incumbent", Reason.ERROR)
        chain.percent = 100.0
        heard.next(ProviderEvent.PROVIDER_READY)
        assert ask(client, "u").value == "challenger"
    finally:
        api.clear_providers()


def test_another_secret_is_a_doubt(chain):
    """Two processes with two secrets would serve one person two models."""
    provider = ShadowProvider(chain, [NAME], secret=b"another", ready_within_s=0.05)
    with pytest.raises(ProviderNotReadyError):
        provider.initialize(EvaluationContext())
    found = provider.resolve_string_details(NAME, "challenger", EvaluationContext(targeting_key="u"))
    provider.shutdown()
    assert (found.value, found.reason) == ("incumbent", Reason.ERROR)
    assert found.flag_metadata["says"] == "this process and the API hold different secrets"


def test_before_and_after_its_life_the_provider_says_incumbent(chain):
    """Asked directly, past the SDK: no answer is the incumbent."""
    provider = ShadowProvider(chain, [NAME], secret=SECRET)
    assert provider.resolve_string_details(NAME, "challenger").value == "incumbent"
    provider.initialize(EvaluationContext())
    provider.shutdown()
    assert provider.resolve_string_details(NAME, "challenger").value == "incumbent"
    assert provider.get_metadata().name == "shadow-harness"
