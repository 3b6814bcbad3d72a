"""An OpenFeature provider: the flag is a rollout, its value the arm. Needs the extra `openfeature`; `harness.assign` does the work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from harness.assign import CHALLENGER, INCUMBENT, STALE_AFTER_S, Arm, Assigner

_REASONS = {"split": Reason.SPLIT, "static": Reason.STATIC, "stale": Reason.STALE, "error": Reason.ERROR, "no_unit": Reason.ERROR}
_GOOD = ("split", "static", "no_unit")
T = TypeVar("T")


class ShadowProvider(AbstractProvider):
    """Resolves string flags whose keys are rollouts to `incumbent` or `challenger`; the targeting key is the unit.

    source: where the API is, or what returns a rollout's assignment document. rollouts: the flags there are. ready_within_s: how long
    `initialize` waits for the first documents; the other arguments are those of `Assigner`.
    """

    def __init__(
        self, source: str | Callable[[str], object], rollouts: Iterable[str], *, secret: bytes = b"", token: str | None = None,
        stale_after_s: float = STALE_AFTER_S, ready_within_s: float = 5.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self._source, self._rollouts, self._secret, self._token = source, tuple(rollouts), secret, token
        self._stale_after_s, self._ready_within_s = stale_after_s, ready_within_s
        self._assigners: Mapping[str, Assigner] = {}
        self._was_good: dict[str, bool] = {}
        self._initialized = threading.Event()

    def get_metadata(self) -> Metadata:
        """Its name."""
        return Metadata("shadow-harness")

    # -------------------------------------------------------------------------------------------------------------------- its life
    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Begins to ask for each rollout, and waits for the documents. Raises ProviderNotReadyError; it goes on asking."""
        self.shutdown()
        self._assigners = {rollout: self._assigner(rollout) for rollout in self._rollouts}
        waited = [rollout for rollout, assigner in self._assigners.items() if not assigner.wait(self._ready_within_s)]
        self._initialized.set()
        if waited:
            raise ProviderNotReadyError(f"no assignment document yet of {', '.join(waited)}; the incumbent serves")

    def shutdown(self) -> None:
        """Stops asking."""
        self._initialized.clear()
        for assigner in self._assigners.values():
            assigner.close()
        self._assigners, self._was_good = {}, {}

    def _assigner(self, rollout: str) -> Assigner:
        source = self._source
        return Assigner(
            source if isinstance(source, str) else lambda: source(rollout), rollout, secret=self._secret, token=self._token,
            stale_after_s=self._stale_after_s, on_change=lambda now: self._changed(rollout, now),
        )  # fmt: skip

    def _changed(self, rollout: str, now: Arm) -> None:
        """Tells the SDK, and by it whoever has taken the answer along."""
        good, before = now.reason in _GOOD, self._was_good.get(rollout)
        self._was_good[rollout] = good
        if not self._initialized.is_set():
            return  # the SDK tells of the first documents itself
        details = ProviderEventDetails(flags_changed=[rollout], message=f"{rollout}: {now.says}")
        if not good and now.reason == "stale":
            self.emit_provider_stale(details)
        elif not good:
            details.error_code = ErrorCode.GENERAL
            self.emit_provider_error(details)
        elif not before:
            self.emit_provider_ready(details)
        else:
            self.emit_provider_configuration_changed(details)

    # ------------------------------------------------------------------------------------------------------------------ resolving
    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """The arm of the unit that the targeting key names; the incumbent on any doubt."""
        if flag_key not in self._rollouts:
            return _error(default_value, ErrorCode.FLAG_NOT_FOUND, f"this provider has {', '.join(self._rollouts) or 'no rollouts'}")
        assigner = self._assigners.get(flag_key)
        if assigner is None:
            return FlagResolutionDetails(INCUMBENT, reason=Reason.ERROR, variant=INCUMBENT)
        found = assigner.arm(evaluation_context.targeting_key if evaluation_context else None)
        if found.reason == "no_unit":
            return _error(default_value, ErrorCode.TARGETING_KEY_MISSING, "a canary needs a targeting key: the unit, as text")
        return FlagResolutionDetails(found.arm, reason=_REASONS[found.reason], variant=found.arm, flag_metadata=_metadata(flag_key, found))

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """A rollout is a string flag."""
        return _mismatch(default_value)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """A rollout is a string flag."""
        return _mismatch(default_value)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """A rollout is a string flag."""
        return _mismatch(default_value)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """A rollout is a string flag."""
        return _mismatch(default_value)


def _metadata(rollout: str, found: Arm) -> dict[str, bool | int | float | str]:
    """What to log with the exposure."""
    said: dict[str, bool | int | float | str] = {"rollout": rollout, "says": found.says}
    document = found.document
    if document is not None:
        said |= {"config_sha256": document.config_sha256, "stage": document.stage, "kind": document.kind}
        said |= {"percent": document.percent, "head": document.head}
        said |= {"challenger": document.challenger} if document.challenger != CHALLENGER else {}
    return said


def _error(value: T, code: ErrorCode, message: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(value, error_code=code, error_message=message, reason=Reason.ERROR)


def _mismatch(value: T) -> FlagResolutionDetails[T]:
    return _error(value, ErrorCode.TYPE_MISMATCH, "a rollout is a string flag: incumbent or challenger")
