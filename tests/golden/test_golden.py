"""What a release wrote, every later one reads: `v1/` holds bytes of the first layouts, never to be written again; in `v2/` frames may be in
columns, and heads count requests for labels.

A release that changes or adds a layout adds a folder and its objects below: `python tests/golden/test_golden.py v3` writes it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.adapters.codec import MsgpackCodec
from harness.adapters.redis.chunks import CHUNK_ROWS, Chunks
from harness.core.accounting import Counts
from harness.core.columns import AnswerRun, EventRun
from harness.core.events import AnswerFrame, Frame, Invalid, InvalidOutcome, Outcome
from harness.core.held import Open
from harness.core.pairing import Head
from harness.core.table import Dictionary, RowLayout
from harness.ports.intake import Taken
from harness.ports.journal import ROOT, Link
from harness.ports.ledger import Folded
from harness.testing import samples

FOLDER = Path(__file__).parent
NOW = samples.START
TRUTHS = (17.5, True)

EVENT = samples.event(1, "e1", arrived=NOW, region="\u00c5land", action="check")
OUTCOME = Outcome(position=3, key=samples.key("e1")[:10], time=NOW, number=(1 << 63) - 1, truths=TRUTHS, propensity=0.25)
UNKNOWN = Outcome(position=4, key=samples.key("e2")[:10], time=NOW, number=0, truths=(None, False))
ANSWERS = (
    samples.answer("e1"), samples.answer("e1", age=-0.0, kind="", toxic=1e-300),
    *(samples.answer("e2", status=reason) for reason in ("timeout", "error", "bad_output", "shed", "no_answer")),
)  # fmt: skip
COUNTS = Counts(
    duplicates=1, mirrored=2, invalid=3, shed=4, paired=5, missing={"challenger": {"timeout": 6}}, lanes={"replica": {"late": 7}},
    versions={"incumbent": {"v1": 8}}, joined=9, waiting=10, orphaned=11, revised=12, invalid_outcomes=13, unknown=14, overrun=15,
)  # fmt: skip
HEAD = Head(
    version=9, mirror=1 << 61, predictions=1 << 60, ordinal=7, resolved=5, seen={"events/0": 1 << 60}, upto={"events/0": NOW},
    watermark=NOW - 1, bus_time=NOW, late_labels=2, counts=COUNTS,
)  # fmt: skip
ENTRIES = (EVENT, Invalid(position=2, reason="no JSON"), OUTCOME, UNKNOWN, InvalidOutcome(position=5, reason="no truth in it"))

OBJECTS = {
    "frame": Frame(config="0123456789abcdef", source="events/0", sent=NOW + 1, upto=NOW, entries=ENTRIES),
    "heartbeat": Frame(config="0123456789abcdef", source="outcomes/3", sent=NOW, upto=0),
    "answers": AnswerFrame(lane="challenger", mirror=1 << 61, answers=ANSWERS, version="2024-06"),
    "answers-without-version": AnswerFrame(lane="incumbent", mirror=-1, answers=()),
    "head": HEAD,
    "first-head": Head(version=1),
    "open": Open(ordinal=7, event=EVENT, mirror=1 << 61, sent=NOW, answers={"incumbent": ANSWERS[0]}, outcome=OUTCOME),
    "outcomes": (OUTCOME, UNKNOWN),
    "taken": Taken(position=1 << 60, arrived=NOW, read=4, unsampled=3, overrun=1),
    "folded": Folded(version=12, state=b"\x00opaque\xff"),
    "link": Link(hash="ab" * 32, previous=ROOT, body='{"who": "Åsa"}'.encode()),
}
EVENTS = [EVENT, *(samples.event(n, f"e{n}", arrived=NOW + n, region=("SE", "ES")[n % 2]) for n in range(2, 20))]
SAID = [*ANSWERS, *(samples.answer(f"e{n}", age=float(n), kind=("ham", "spam")[n % 2], toxic=n / 19) for n in range(3, 16))]
COLUMNS = {
    "frame-in-columns": Frame(config="0123456789abcdef", source="events/0", sent=NOW + 1, upto=NOW + 19, entries=EventRun.of(EVENTS)),
    "answers-in-columns": AnswerFrame(
        lane="challenger", mirror=1 << 61, version="2024-06", answers=AnswerRun.of(SAID, RowLayout(samples.rollout()).kinds)
    ),
}  # fmt: skip
FOLDERS = {"v1": OBJECTS, "v2": {**OBJECTS, **COLUMNS}}
NEWEST = FOLDERS["v2"]
ALL = [(folder, name) for folder, objects in FOLDERS.items() for name in objects]
KINDS = {name: name for name in ("frame", "answers", "head", "open", "outcomes", "taken", "folded", "link")}
KINDS |= {"heartbeat": "frame", "answers-without-version": "answers", "first-head": "head"}
KINDS |= {"frame-in-columns": "frame", "answers-in-columns": "answers"}


def row() -> bytes:
    """A packed row; its words are 0 the region, 1 the gender, 2 the decision, 3 and 4 the kinds."""
    return RowLayout(samples.rollout()).pack(EVENT, {"incumbent": ANSWERS[0], "challenger": ANSWERS[1]}, OUTCOME, Dictionary())


def chunk_rows() -> bytes:
    """256 rows without labels."""
    layout, words = RowLayout(samples.rollout()), Dictionary()
    answers = {"incumbent": ANSWERS[0], "challenger": ANSWERS[1]}
    return b"".join(layout.pack(samples.event(n, f"e{n}", arrived=NOW + n * n), answers, None, words) for n in range(CHUNK_ROWS))


@pytest.mark.parametrize(("folder", "name"), ALL)
def test_what_an_earlier_release_wrote_is_read(folder, name):
    """A store and a bus outlive the release that filled them: an update must not lose a rollout."""
    value = (FOLDER / folder / f"{name}.bin").read_bytes()
    assert getattr(MsgpackCodec(), f"decode_{KINDS[name]}")(value) == FOLDERS[folder][name]


@pytest.mark.parametrize("name", NEWEST)
def test_what_this_release_writes_is_what_its_folder_holds(name):
    """A layout that changes without a new folder would leave a release whose bytes nobody tests."""
    assert getattr(MsgpackCodec(), f"encode_{KINDS[name]}")(NEWEST[name]) == (FOLDER / "v2" / f"{name}.bin").read_bytes()


def test_rows_of_the_first_release_are_read():
    """Rows are not versioned one by one: their layout follows from the config alone, and so must never move."""
    value = (FOLDER / "v1" / "row.bin").read_bytes()
    layout = RowLayout(samples.rollout())
    (found,) = layout.records(value)
    assert value == row()
    assert (found["key"].tobytes(), found["arrived"], found["segment.region"], found["recorded.adult.incumbent"]) == (
        EVENT.key, EVENT.arrived, 0, 2,
    )  # fmt: skip
    assert (found["age.incumbent"], found["missing.replica"], found["truth.age"], found["label_time"]) == (20.0, 254, 17.5, NOW)


def test_a_packed_chunk_of_the_first_release_is_read():
    """What a chunk packs to is zlib's to say, and may be shorter one day; what comes out of it may not change."""
    chunks = Chunks(RowLayout(samples.rollout()))
    assert chunks.open([(FOLDER / "v1" / "chunk.bin").read_bytes()]).tobytes() == chunk_rows()


if __name__ == "__main__":
    (folder := FOLDER / sys.argv[1]).mkdir()
    for name, thing in FOLDERS[sys.argv[1]].items():
        (folder / f"{name}.bin").write_bytes(getattr(MsgpackCodec(), f"encode_{KINDS[name]}")(thing))
    if sys.argv[1] == "v1":
        (folder / "row.bin").write_bytes(row())
        chunks = Chunks(RowLayout(samples.rollout()))
        (folder / "chunk.bin").write_bytes(chunks.seal(chunks.split(chunk_rows())[0]))
