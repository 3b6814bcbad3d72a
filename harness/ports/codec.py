"""Bytes to core objects and back, for the records of the bus. Versioned: what a release wrote, every later one reads."""

from __future__ import annotations

from typing import Any, Protocol

from harness.core.events import AnswerFrame, Frame


class Codec(Protocol):
    """The wire format of frames, and strict JSON."""

    def encode_frame(self, frame: Frame) -> bytes:
        """A mirror frame as one record's value."""

    def decode_frame(self, value: bytes) -> Frame:
        """Raises RecordError when it is no mirror frame."""

    def encode_answers(self, frame: AnswerFrame) -> bytes:
        """An answer frame as one record's value."""

    def decode_answers(self, value: bytes) -> AnswerFrame:
        """Raises RecordError when it is no answer frame."""

    def lane_of(self, value: bytes) -> str:
        """The lane of an answer frame, without its answers. Raises RecordError when it is none."""

    def json(self, value: bytes) -> Any:
        """Strict JSON in UTF-8 to plain values. Raises RecordError, whose message never holds what was read."""
