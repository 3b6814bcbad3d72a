"""JSON pointers (RFC 6901) into plain values."""

from __future__ import annotations

from typing import Any, Final


class _Missing:
    """The type of MISSING; there is one."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


def resolve(document: Any, pointer: str) -> Any:
    """The value at a pointer, MISSING when there is none. The empty pointer is the document."""
    if pointer == "":
        return document
    for raw in pointer.removeprefix("/").split("/"):
        part = raw.replace("~1", "/").replace("~0", "~") if "~" in raw else raw
        if isinstance(document, dict):
            document = document.get(part, MISSING)
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return MISSING
        if document is MISSING:
            return MISSING
    return document
