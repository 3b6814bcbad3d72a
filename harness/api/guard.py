"""Who may ask: bearer tokens by scope. What is refused says why, never with which token."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from harness.api.errors import ApiError
from harness.api.ingest import Refusals
from harness.commands import tokens as commands
from harness.ports.clock import Clock
from harness.ports.tokens import Scope, Token, Tokens

ASK = {"WWW-Authenticate": 'Bearer realm="shadow-harness"'}


class Guard:
    """The door of one API. closed: whether reading needs a token too; moving a rollout always does."""

    def __init__(self, tokens: Tokens, clock: Clock, *, closed: bool) -> None:
        self._tokens, self._clock, self._closed = tokens, clock, closed
        self._refusals = Refusals("api.refused")  # one log line a second, however many try

    def reading(self, request: Request) -> None:
        """Lets a reader in. Raises ApiError 401, 403; StoreUnavailable: who cannot be looked up does not get in."""
        if self._closed:
            self._token(request, "read")

    def allows(self, scope: Scope) -> Callable[[Request], Token]:
        """What finds the token of a request that needs `scope`."""
        return lambda request: self._token(request, scope)

    def _token(self, request: Request, scope: Scope) -> Token:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        try:
            return commands.check(self._tokens, self._clock, text.strip() if kind.lower() == "bearer" else None, scope=scope)
        except commands.NotAllowed as error:
            refused = ApiError(403, str(error))
        except commands.Unknown as error:
            refused = ApiError(401, f"{error}; send it as Authorization: Bearer TOKEN", ASK)
        self._refusals.add(request.path_params.get("name", ""), refused)
        raise refused
