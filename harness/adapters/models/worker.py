"""The child of `PythonModel`: loads one function and answers requests over pipes. Run as a script; needs no package of ours.

A frame is a number and a length, eight bytes each (big endian), and that many bytes of JSON. A request is the list of the events'
data; its reply has the same number and is `{"kind": ...}`: `answers` (answers, bad: places that hold no JSON value), `raised`, or
`count` (no list of the right length). The first frame has number 0: `ready` (version), or `failed` (message) if nothing could be loaded.

What the function prints goes to stderr. It ends when its parent does. Out of memory, it ends at once: the parent starts a fresh one.
With a limit that is when the function asks for more than the limit, however much the machine has left.
When the machine is out of memory, Linux ends it before others.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

HEADER = struct.Struct(">QQ")
LARGEST_FRAME = 1 << 26  # bytes of one batch's answers
OUT_OF_MEMORY = 77  # exit code
_OUT_OF_MEMORY_LINE = b"level=warning event=model.out_of_memory\n"
_PR_SET_PDEATHSIG = 1

Function = Callable[[list[Any]], Any]


def _end_with(parent: int) -> None:
    """Ask the system to kill us when the parent dies, even inside a hanging call; elsewhere than on Linux look for it each second."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _first_to_go() -> None:
    """Ask Linux to kill us, and none of the processes beside us, when the machine has no memory left."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _limit(memory: int) -> None:
    """Ask Linux to refuse us more bytes of data than these, the interpreter's own included. Raises OSError where nothing keeps to it."""
    if os.uname().sysname != "Linux":
        raise OSError("`memory` cannot be kept to on this system; only Linux limits it")
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our ends of the pipes, out of the way of the function: its stdin is empty, its stdout is stderr."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
    return requests, replies


def _plain(value: Any) -> Any:
    """NumPy's scalars and arrays, and what else knows how to become lists, as plain values."""
    return value.tolist()


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, default=_plain, separators=(",", ":")).encode()


def _encoded_or_none(message: dict[str, Any]) -> bytes | None:
    """None if it holds no JSON values, or is too large for a frame; a conversion of the user's own type may raise anything."""
    try:
        frame = _encoded(message)
    except MemoryError:
        raise
    except Exception:
        return None
    return frame if len(frame) <= LARGEST_FRAME else None


def _answers(answers: list[Any]) -> bytes:
    """All answers; those that are no JSON value, or too large to hand over, become null and are named in `bad`."""
    frame = _encoded_or_none({"kind": "answers", "answers": answers, "bad": []})
    if frame is not None:
        return frame
    good: list[Any] = []
    bad: list[int] = []
    room = LARGEST_FRAME // 2
    for place, answer in enumerate(answers):
        plain = _encoded_or_none({"answer": answer})
        if plain is None or len(plain) > room:
            bad.append(place)
            good.append(None)
        else:
            room -= len(plain)
            good.append(answer)
    return _encoded({"kind": "answers", "answers": good, "bad": bad})


def _note(error: Exception, seen: set[tuple[str, str]]) -> None:
    """One line on stderr for each kind and place of an exception; its text may hold an event's content and stays out."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    kind, place = type(error).__name__, f"{last.filename}:{last.lineno}"
    if (kind, place) not in seen and len(seen) < 100:
        seen.add((kind, place))
        sys.stderr.write(f'level=warning event=model.raised error={kind} at="{place}"\n')


def _reply(function: Function, request: bytes, seen: set[tuple[str, str]]) -> bytes:
    try:
        data = json.loads(request)
        n = len(data)
        answers = function(data)
    except MemoryError:
        raise
    except Exception as error:
        _note(error, seen)
        return _encoded({"kind": "raised"})
    try:
        answers = list(answers) if isinstance(answers, tuple) else answers if isinstance(answers, list) else _plain(answers)
    except MemoryError:
        raise
    except Exception:
        answers = None
    if not isinstance(answers, list) or len(answers) != n:
        return _encoded({"kind": "count"})
    return _answers(answers)


def _load(target: str, argument: str) -> Function:
    """The function `package.module:name`, or what it makes of an argument. Raises whatever importing and making it raise."""
    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{target} is a {type(found).__name__}, expected a function")
    function: Function = found(argument) if argument else found
    return function


def _send(replies: BinaryIO, number: int, frame: bytes) -> None:
    replies.write(HEADER.pack(number, len(frame)) + frame)
    replies.flush()


def _serve(target: str, argument: str, memory: int, requests: BinaryIO, replies: BinaryIO) -> None:
    try:
        if memory:
            _limit(memory)
        function = _load(target, argument)
    except MemoryError:
        within = f" within `memory` ({memory >> 20} MiB)" if memory else ""
        _send(replies, 0, _encoded({"kind": "failed", "message": f"there is no memory to load it{within}"}))
        return
    except Exception as error:
        _send(replies, 0, _encoded({"kind": "failed", "message": f"{type(error).__name__}: {error}"}))
        return
    version = getattr(function, "version", None)
    _send(replies, 0, _encoded({"kind": "ready", "version": version if isinstance(version, str) else None}))
    seen: set[tuple[str, str]] = set()
    while header := requests.read(HEADER.size):
        number, size = HEADER.unpack(header)
        _send(replies, number, _reply(function, requests.read(size), seen))


def main(target: str, argument: str, parent: str, memory: str, *paths: str) -> None:
    """Serve `target` until the parent closes our stdin; with an `argument`, what `target(argument)` returns. memory: most bytes, 0 for no
    limit. `paths` come first when modules are looked for.
    """
    _end_with(int(parent))
    _first_to_go()
    requests, replies = _private_pipes()
    sys.path[:0] = paths
    try:
        _serve(target, argument, int(memory), requests, replies)
    except MemoryError:
        os.write(2, _OUT_OF_MEMORY_LINE)
        os._exit(OUT_OF_MEMORY)
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
