"""CloudEvents 1.0 over HTTP to the records that topics carry: one structured event in JSON each. Bytes of data pass as they are.

Structured (`application/cloudevents+json`) and batch (`application/cloudevents-batch+json`) bodies are cut, not rewritten; of a binary
message (`ce-*` headers, the body is the data) the attributes are put around the body. A plain JSON body without any `ce-*` header, as a
mirror sends it, may be given attributes here.

Source: cloudevents/spec, bindings/http-protocol-binding.md 3 and formats/json-format.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from harness.api.errors import ApiError
from harness.core.errors import RecordError

STRUCTURED, BATCH, JSON = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_UNREADABLE = (ValueError, RecursionError, OverflowError)

Headers = Sequence[tuple[bytes, bytes]]
"""Lower-case names and values, as they came."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One event: its record, the same decoded, and where it stood in a batch."""

    record: bytes
    document: Any
    where: str = ""


def cut(headers: Headers, body: bytes, *, decode: Callable[[bytes], Any], attributes: Callable[[], Mapping[str, str]] | None) -> list[Cut]:
    """The events of one request.

    Args:
        decode: Strict JSON to plain values, raises RecordError: the one that will read the topic.
        attributes: Makes those of a plain JSON body that has none; None where such a body is refused.

    Raises:
        ApiError: 400 or 415, naming the header or the index.
    """
    content_type = _content_type(headers)
    match content_type:
        case "application/cloudevents+json":
            return [Cut(body, _decoded(body, decode, "body"))]
        case "application/cloudevents-batch+json":
            return [Cut(item, _decoded(item, decode, f"[{n}]"), f"[{n}]: ") for n, item in enumerate(_items(body))]
    if content_type.startswith("application/cloudevents"):
        raise ApiError(415, f"content-type: of the CloudEvents formats only {STRUCTURED} and {BATCH} can be read")
    if content_type != JSON and not content_type.endswith("+json"):
        raise ApiError(415, f"content-type: expected {STRUCTURED}, {BATCH}, or {JSON} with ce- headers")
    stated = _attributes(headers)
    data = _decoded(body, decode, "body") if body else None
    if not stated:
        stated = _made(data, body, attributes)
    stated.setdefault("datacontenttype", content_type)
    return [_joined(stated, data, body)]


def _made(data: Any, body: bytes, attributes: Callable[[], Mapping[str, str]] | None) -> dict[str, str]:
    """Attributes for a body that came without."""
    if isinstance(data, dict) and "specversion" in data:
        raise ApiError(415, f"content-type: the body looks like a structured CloudEvent, which is sent as {STRUCTURED}")
    if attributes is None:
        raise ApiError(400, "ce-id: missing, and so are all ce- headers")
    if not body:
        raise ApiError(400, "body: empty, and no ce- header says what it is")
    return dict(attributes())


def _joined(stated: Mapping[str, str], data: Any, body: bytes) -> Cut:
    """One structured event: attributes in front, the bytes of the body as `data`."""
    head = json.dumps(stated, ensure_ascii=False).encode()
    if not body:
        return Cut(head, dict(stated))
    return Cut(head[:-1] + b', "data": ' + body.strip(b" \t\r\n") + b"}", {**stated, "data": data})


def _content_type(headers: Headers) -> str:
    """The media type in lower case. Raises ApiError 415 for none, several, another charset than UTF-8, or an encoded body."""
    values = [value for name, value in headers if name == b"content-type"]
    if len(values) != 1:
        raise ApiError(415, f"content-type: expected one, got {len(values)}")
    if any(name == b"content-encoding" and value.strip().lower() != b"identity" for name, value in headers):
        raise ApiError(415, "content-encoding: the body must not be compressed")
    kind, *parameters = values[0].decode("latin-1").split(";")
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "us-ascii"):
            raise ApiError(415, "content-type: the charset must be utf-8")
    return kind.strip().lower()


def _attributes(headers: Headers) -> dict[str, str]:
    """The context attributes of a binary message, empty if it has none."""
    found: dict[str, str] = {}
    for name, value in headers:
        if not name.startswith(b"ce-"):
            continue
        header = name.decode("latin-1")
        attribute = header[3:]
        if _ATTRIBUTE.fullmatch(attribute) is None or attribute in ("data", "datacontenttype"):
            raise ApiError(400, "a ce- header is no attribute: names are letters a to z and digits, and neither data nor datacontenttype")
        if attribute in found:
            raise ApiError(400, f"{header}: given twice")
        found[attribute] = _value(header, value)
    missing = [f"ce-{name}" for name in ("id", "source", "type", "specversion") if not found.get(name)]
    if found and missing:
        raise ApiError(400, f"{', '.join(missing)}: missing")
    return found


def _value(header: str, value: bytes) -> str:
    """A header's value as text: unquoted, percent-decoded, UTF-8."""
    text = value.strip()
    try:
        if _QUOTED.fullmatch(text.decode()):
            text = re.sub(rb"\\(.)", rb"\1", text[1:-1])
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ApiError(400, f"{header}: expected UTF-8, percent-encoded") from None


def _items(body: bytes) -> list[bytes]:
    try:
        return [bytes(item) for item in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except _UNREADABLE:
        raise ApiError(400, "body: expected a JSON array of CloudEvents") from None


def _decoded(value: bytes, decode: Callable[[bytes], Any], what: str) -> Any:
    try:
        return decode(value)
    except RecordError as error:
        raise ApiError(400, f"{what}: {error}") from None
