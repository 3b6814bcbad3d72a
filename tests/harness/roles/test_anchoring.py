"""The head of the chain at somebody else's place: a file, a server; slow, broken or away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from patience import LONG_S

from harness.adapters.anchor import FileAnchor, WebAnchor, open_anchor
from harness.core.errors import Unavailable
from harness.ports.clock import ManualClock
from harness.roles.anchoring import RETRY, Anchoring

HEADS = ["a" * 64, "b" * 64, "c" * 64]


class Server(HTTPServer):
    """Answers what it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.notes, self.answers = 204, [], threading.Event()
        self.answers.set()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        note = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.answers.wait(LONG_S)
        self.server.notes.append(note)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.answers.set()
    found.shutdown()
    thread.join()
    found.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/secret-token"


def test_a_file_gets_a_line_for_each_head(tmp_path: Path):
    """What an auditor gives to verify as --head."""
    path = tmp_path / "elsewhere" / "heads.jsonl"
    anchoring = Anchoring("small", open_anchor(str(path)), ManualClock())
    for number, head in enumerate(HEADS):
        anchoring.tell(number, head)
        assert anchoring.settle(LONG_S)
        anchoring.tell(number, head)
        anchoring.settle(LONG_S)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(note["rollout"], note["record"], note["head"]) for note in found] == [("small", n, head) for n, head in enumerate(HEADS)]
    assert all(note["at"].endswith("Z") for note in found)


def test_a_server_gets_it_posted(server: Server):
    """Any answer of success means noted."""
    anchor = open_anchor(url(server))
    anchor.put("small", 3, HEADS[0])
    assert [(note["rollout"], note["record"], note["head"]) for note in server.notes] == [("small", 3, HEADS[0])]


def test_an_anchor_that_fails_is_tried_again_and_then_gets_the_newest_head(server: Server):
    """A head covers every record before it."""
    clock, server.status = ManualClock(), 503
    anchoring = Anchoring("small", WebAnchor(url(server), timeout_s=LONG_S), clock)
    anchoring.tell(0, HEADS[0])
    assert not anchoring.settle(LONG_S)
    anchoring.tell(1, HEADS[1])
    anchoring.settle(LONG_S)
    assert len(server.notes) == 1
    server.status = 200
    clock.move_to(RETRY)
    anchoring.tell(1, HEADS[1])
    assert anchoring.settle(LONG_S)
    assert [note["head"] for note in server.notes] == HEADS[:2]


def test_an_anchor_that_hangs_holds_up_nobody(server: Server):
    """A rollback must not wait for somebody else's server; one call is under way at a time."""
    server.answers.clear()
    anchoring = Anchoring("small", WebAnchor(url(server), timeout_s=LONG_S), ManualClock())
    for number, head in enumerate(HEADS):
        anchoring.tell(number, head)
    assert server.notes == []
    server.answers.set()
    assert anchoring.settle(LONG_S)
    anchoring.tell(2, HEADS[2])
    assert anchoring.settle(LONG_S)
    assert [note["head"] for note in server.notes] == [HEADS[0], HEADS[2]]


def test_what_goes_wrong_is_told_without_the_address(server: Server, tmp_path: Path):
    """A URL may hold a token; a file's name is needed to mend it."""
    server.status = 500
    (tmp_path / "file").write_text("in the way")
    for anchor, said in (
        (WebAnchor(url(server)), "anchor 127.0.0.1: answered 500"),
        (WebAnchor("http://127.0.0.1:1/secret-token", timeout_s=1.0), "anchor 127.0.0.1: does not take the head"),
        (WebAnchor("http://127.0.0.1:x/secret-token"), "does not take the head"),
        (FileAnchor(tmp_path / "file" / "heads.jsonl"), "heads.jsonl: cannot be written"),
    ):
        with pytest.raises(Unavailable) as error:
            anchor.put("small", 0, HEADS[0])
        assert said in str(error.value) and "secret" not in str(error.value)
