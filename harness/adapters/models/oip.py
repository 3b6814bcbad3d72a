"""A model server that speaks the Open Inference Protocol, version 2, over REST: KServe, Triton, MLServer.

The mapping, one request for all events of a call whose data have the same fields of the same types:

    a field of the event's data      ->  an input of that name         number -> FP64, text -> BYTES, true or false -> BOOL
      one value                            shape [n, 1]
      a list of k values of one type       shape [n, k]
      null, an object, a mixed or empty list: no input
    data with a list under "inputs"  ->  sent as it is ("parameters" and "outputs" too), one request an event
    an output with shape [n, ...]    ->  a key of each event's answer: one value, or (nested) lists
    an output of another first dimension: no key

Strict in what is sent, lenient in what is read: `data` nested or flat, `shape`, `model_name` and `id` present or not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any
from urllib.parse import urlsplit

from harness.adapters.models.breaker import Breaker
from harness.adapters.models.http import batch_key, event_headers
from harness.adapters.models.server import Posted, Server, encoded, version
from harness.core.errors import UsageError
from harness.ports.model import Call, Reply

Signature = tuple[tuple[str, str, int], ...]  # name, datatype and width of each input
_MODEL = re.compile(r".*/v2/models/[^/]+(/versions/[^/]+)?")
_PASSED_ON = ("inputs", "outputs", "parameters")


class OipModel:
    """A model of an inference server. `call` may be used by as many threads as there are `connections`."""

    def __init__(self, url: str, *, lane: str, connections: int = 1, breaker: Breaker | None = None) -> None:
        """`url` is http(s)://HOST[:PORT]/v2/models/NAME[/versions/V]. Opens no connection. Raises UsageError for another form."""
        base = url.rstrip("/").removesuffix("/infer")
        self._server = Server(f"{base}/infer", lane=lane, connections=connections, breaker=breaker)
        parts = urlsplit(base)
        if parts.query or parts.fragment or not _MODEL.fullmatch(parts.path):
            self.close()
            raise UsageError(f"oip+{url}: expected oip+http://HOST[:PORT]/v2/models/NAME[/versions/VERSION]")

    def call(self, calls: Sequence[Call], *, timeout_s: float) -> Sequence[Reply]:
        """One reply a call. All of them together have `timeout_s`; data from which no input can be made is an error."""
        deadline = time.monotonic() + timeout_s
        replies = [Reply(status="error")] * len(calls)
        groups: dict[object, list[int]] = {}
        for place, call in enumerate(calls):
            if isinstance(call.data, dict) and isinstance(call.data.get("inputs"), list):
                groups[place] = [place]
            elif signature := _signature(call.data):
                groups.setdefault(signature, []).append(place)
        for key, places in groups.items():
            asked = [calls[place] for place in places]
            found = self._passed_on(asked[0], deadline) if isinstance(key, int) else self._asked(asked, deadline)
            for place, reply in zip(places, found, strict=True):
                replies[place] = reply
        return replies

    def _asked(self, calls: Sequence[Call], deadline: float) -> list[Reply]:
        signature = _signature(calls[0].data)
        inputs = []
        for name, datatype, width in signature:
            cells = [value for call in calls for value in _cells(call.data[name])]
            inputs.append({"name": name, "shape": [len(calls), width], "datatype": datatype, "data": cells})
        posted = self._post(calls, {"inputs": inputs}, deadline)
        answers = _answers(posted.document, len(calls))
        return _replies(posted, [None] * len(calls) if answers is None else answers, good=answers is not None)

    def _passed_on(self, call: Call, deadline: float) -> list[Reply]:
        """Inputs that stand in the event. Its answer is that of the one item if each input has one, else the outputs as they are."""
        request = {name: call.data[name] for name in _PASSED_ON if name in call.data}
        posted = self._post([call], request, deadline)
        single = all(isinstance(each, dict) and _first(each.get("shape")) == 1 for each in request["inputs"])
        answers: Sequence[Any] | None = _answers(posted.document, 1 if single else None)
        return _replies(posted, answers or [None], good=answers is not None)

    def _post(self, calls: Sequence[Call], request: Mapping[str, Any], deadline: float) -> Posted:
        """The answer's document; an answer that names another request is a bad output."""
        id = calls[0].event_id if len(calls) == 1 else batch_key([call.event_id for call in calls])
        body = encoded({"id": id, **request})
        if body is None:
            return Posted(status="error")
        headers = event_headers(calls[0]) if len(calls) == 1 else [(b"Idempotency-Key", id.encode())]
        posted = self._server.post(body, headers, deadline=deadline, events=len(calls))
        document = posted.document
        if posted.status == "answered" and isinstance(document, dict) and document.get("id") not in (None, "", id):
            return Posted(status="bad_output", latency_ms=posted.latency_ms)
        return posted

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()


def _replies(posted: Posted, answers: Sequence[Any], *, good: bool) -> list[Reply]:
    found = version(posted.document.get("model_version")) if isinstance(posted.document, dict) else None
    status = "bad_output" if posted.status == "answered" and not good else posted.status
    return [posted.reply(answer, status=status, version=found) for answer in answers]


def _datatype(value: object) -> str | None:
    if isinstance(value, bool):
        return "BOOL"
    if isinstance(value, int | float):
        return "FP64"
    return "BYTES" if isinstance(value, str) else None


def _cells(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _signature(data: object) -> Signature:
    """The inputs that can be made of an event's data; empty if there is none."""
    found = []
    for name, value in data.items() if isinstance(data, dict) else ():
        datatypes = {_datatype(cell) for cell in _cells(value)}
        if len(datatypes) == 1 and (datatype := datatypes.pop()):
            found.append((name, datatype, len(_cells(value))))
    return tuple(sorted(found))


def _first(shape: object) -> int | None:
    """The first dimension of a shape, if it is one."""
    if not isinstance(shape, list) or not shape or not all(type(n) is int and n >= 0 for n in shape):
        return None
    first: int = shape[0]
    return first


def _answers(document: object, n: int | None) -> list[dict[str, Any]] | None:
    """An answer for each of `n` events (None: one answer, with the outputs as they are); None if the document holds no such thing."""
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, list):
        return None
    answers: list[dict[str, Any]] = [{} for _ in range(1 if n is None else n)]
    for output in outputs:
        rows = _rows(output, n) if isinstance(output, dict) and isinstance(output.get("name"), str) else None
        for answer, row in zip(answers, rows or (), strict=False):
            answer[output["name"]] = row
    return answers if all(answers) else None


def _rows(output: Mapping[str, Any], n: int | None) -> list[Any] | None:
    """One output's values, an entry an event; None if it does not have `n` rows."""
    data, shape = output.get("data"), output.get("shape")
    if not isinstance(data, list):
        return None
    if _first(shape) is None or shape is None:
        return [data] if n is None else [_one(row) for row in data] if len(data) == n else None
    flat = _flat(data, depth=len(shape))
    if len(flat) != prod(shape):
        return None
    rows = _shaped(flat, shape) if len(shape) > 1 else flat
    if n is None:
        return [rows]
    return [_one(row) for row in rows] if shape[0] == n else None


def _one(row: Any) -> Any:
    """A row that holds one value, as that value."""
    while isinstance(row, list) and len(row) == 1:
        row = row[0]
    return row


def _flat(data: list[Any], depth: int) -> list[Any]:
    """The values of nested lists, row by row, at most as deep as the shape says."""
    for _ in range(depth - 1):
        if not any(isinstance(each, list) for each in data):
            break
        data = [value for each in data for value in (each if isinstance(each, list) else [each])]
    return data


def _shaped(flat: list[Any], shape: Sequence[int]) -> list[Any]:
    """Flat values as nested lists of this shape."""
    for width in reversed(shape[1:]):
        flat = [flat[start : start + width] for start in range(0, len(flat), width)] if width else []
    return flat
