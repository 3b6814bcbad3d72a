"""What a request is answered when it cannot be served. A message names a header, a field or an index, never what stood there."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """An answer other than success: HTTP status, one line for people, and extra headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def away(message: str) -> ApiError:
    """503: whoever asks again in a second may be served."""
    return ApiError(503, message, {"Retry-After": "1"})
