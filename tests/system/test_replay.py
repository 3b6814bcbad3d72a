"""`shadow replay` as a process: numbers against the slow reference, the same bytes again, nothing of anybody's data in what it writes."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

Shadow = Callable[..., subprocess.CompletedProcess[str]]
EXIT = {"promote": 0, "hold": 3, "rollback": 4}


def replay(shadow: Shadow, stream: Any, *more: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return shadow("replay", stream.config, "--events", stream.events, "--outcomes", stream.outcomes, *more, **options)


@pytest.fixture(scope="module")
def run(shadow: Shadow, stream: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One replay of the large stream: the process and its folder."""
    out = tmp_path_factory.mktemp("out")
    return replay(shadow, stream, "--out", out, "--json"), out


@pytest.fixture(scope="module")
def verdict(run: tuple[subprocess.CompletedProcess[str], Path]) -> dict[str, Any]:
    """Its verdict."""
    done, _ = run
    assert done.returncode in EXIT.values(), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# ------------------------------------------------------------------------------------------------------- against the reference
@pytest.mark.parametrize("part", ["counts", "lanes", "outcomes", "flips"])
def test_a_replay_counts_what_a_plain_loop_over_the_files_counts(part: str, verdict: dict[str, Any], expected: Any):
    """Every event, answer and label has exactly one place, and a second program that shares no code finds the same."""
    assert verdict[part] == getattr(expected, part)


def test_the_stream_has_something_in_every_place(expected: Any):
    """The comparison above shows nothing for a count that is zero on both sides."""
    counts = expected.counts
    assert min(counts["read"], counts["duplicates"], counts["invalid"], counts["paired"]) > 0
    for lane in ("incumbent", "challenger"):
        assert set(counts["missing"][lane]) == {"timeout", "error", "bad_output", "no_answer"}
    assert min(n for name, n in expected.outcomes.items() if name != "waiting") > 0
    assert min(expected.flips["door"].values()) > 0


def test_every_row_of_a_gate_has_the_reference_numbers(verdict: dict[str, Any], expected: Any):
    """Estimates over events and over first events of units, and both denominators, whole and for each segment."""
    rows = {(row["name"], (row["segment"] or {}).get("region")): row for row in verdict["gates"]}
    assert set(rows) == set(expected.rows)
    for key, row in expected.rows.items():
        found = {name: rows[key][name] for name in row}
        assert found == pytest.approx(row, rel=1e-9), key


# ---------------------------------------------------------------------------------------------------------- the same again
def test_two_replays_write_the_same_bytes(run: tuple[subprocess.CompletedProcess[str], Path], shadow: Shadow, stream: Any, tmp_path: Path):
    """The same input gives the same verdict, to the byte: an auditor compares hashes, not opinions."""
    done, out = run
    again = replay(shadow, stream, "--out", tmp_path, "--json")
    assert again.stdout == done.stdout
    for name in ("verdict.json", "report.html"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    assert pq.read_table(tmp_path / "pairs.parquet").equals(pq.read_table(out / "pairs.parquet"))


def test_the_order_of_the_outcome_lines_changes_nothing(verdict: dict[str, Any], shadow: Shadow, stream: Any, tmp_path: Path):
    """Outcomes follow their time, not their line."""
    lines = stream.outcomes.read_bytes().splitlines(keepends=True)
    random.Random(3).shuffle(lines)
    (tmp_path / "shuffled.jsonl").write_bytes(b"".join(lines))
    done = replay(shadow, replace(stream, outcomes=tmp_path / "shuffled.jsonl"), "--json")
    assert {**json.loads(done.stdout), "watermark": {}} == {**verdict, "watermark": {}}


def test_a_packed_file_gives_the_same_verdict(verdict: dict[str, Any], shadow: Shadow, stream: Any, tmp_path: Path):
    """.jsonl.gz is the same input."""
    packed = tmp_path / "events.jsonl.gz"
    packed.write_bytes(gzip.compress(stream.events.read_bytes()))
    assert json.loads(replay(shadow, replace(stream, events=packed), "--json").stdout) == verdict


def test_until_leaves_out_what_came_later(shadow: Shadow, streams: ModuleType, reference: ModuleType, stream: Any, tmp_path: Path):
    """A look back at what was known on one day: events and labels of later days are not there yet."""
    middle = streams.stated(streams.START + streams.SPAN / 2)
    for name in ("rollout.yaml", "incumbent.jsonl", "challenger.jsonl"):
        (tmp_path / name).write_bytes((stream.folder / name).read_bytes())
    for name in ("events.jsonl", "outcomes.jsonl"):
        kept = [line for line in (stream.folder / name).read_bytes().splitlines() if (time_of(line) or "") <= middle]
        (tmp_path / name).write_bytes(b"\n".join(kept))
    counts = reference.expect(tmp_path).counts
    found = json.loads(replay(shadow, stream, "--until", middle, "--json").stdout)
    assert 0 < counts["read"] < stream.n_events
    assert found["counts"] == counts
    assert found["as_of"][:19] <= middle[:19]


def time_of(line: bytes) -> str | None:
    """The time that a line states anywhere in it, readable or not."""
    for name in (b'"recordedtime": "', b'"time": "'):
        _, found, rest = line.partition(name)
        if found:
            return rest.partition(b'"')[0].decode()
    return None


# ------------------------------------------------------------------------------------------------------ personal data stays out
def test_nothing_that_a_record_says_stands_in_what_is_written_or_printed(
    run: tuple[subprocess.CompletedProcess[str], Path], streams: ModuleType, shadow: Shadow, stream: Any, tmp_path: Path
):
    """Payloads, subjects, ids, reviewers, error texts, unlisted segment values, and lines that could not even be read."""
    done, out = run
    plain = replay(shadow, stream, "--out", tmp_path)
    written = [*out.rglob("*"), *tmp_path.rglob("*")]
    assert {path.name for path in written} == {"verdict.json", "report.html", "pairs.parquet"}
    assert streams.MARKER.encode() in stream.events.read_bytes()
    for text in (done.stdout, done.stderr, plain.stdout, plain.stderr):
        assert streams.MARKER not in text
    for path in written:
        assert streams.MARKER.encode() not in path.read_bytes(), path
    table = pq.read_table(out / "pairs.parquet")
    assert streams.MARKER not in str(table.to_pylist()) + str(table.schema.metadata)


# ---------------------------------------------------------------------------------------------------------------- exit codes
@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ([{"name": "answers", "metric": {"missing": "challenger"}, "below": 0.9}], "promote"),
        ([{"name": "answers", "metric": {"missing": "challenger"}, "below": 0.01}], "rollback"),
        ([{"name": "answers", "metric": {"missing": "challenger"}, "below": 0.01, "on_fail": "hold"}], "hold"),
    ],
    ids=["promote", "rollback", "hold"],
)
def test_the_exit_code_is_the_verdict(limits: list[Any], verdict: str, shadow: Shadow, streams: ModuleType, tmp_path: Path):
    """A pipeline branches on the code alone."""
    stream = streams.build(tmp_path, seed=5, n_events=600, gates=limits)
    done = replay(shadow, stream)
    assert (done.returncode, f"verdict: {verdict}" in done.stdout) == (EXIT[verdict], True), done.stderr


def test_no_event_at_all_holds(shadow: Shadow, stream: Any, tmp_path: Path):
    """An empty file is no evidence."""
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"\n\n")
    done = shadow("replay", stream.config, "--events", empty, "--json")
    assert done.returncode == EXIT["hold"]
    assert json.loads(done.stdout)["counts"]["read"] == 0


def _truncated(stream: Any, folder: Path) -> Path:
    path = folder / "half.jsonl.gz"
    packed = gzip.compress(stream.events.read_bytes())
    path.write_bytes(packed[: len(packed) // 2])
    return path


def _not_packed(stream: Any, folder: Path) -> Path:
    path = folder / "plain.jsonl.gz"
    path.write_bytes(stream.events.read_bytes())
    return path


def _folder(stream: Any, folder: Path) -> Path:
    path = folder / "folder.jsonl"
    path.mkdir()
    return path


@pytest.mark.parametrize("option", ["--events", "--outcomes"])
@pytest.mark.parametrize(
    "make", [lambda _, folder: folder / "absent.jsonl", _folder, _truncated, _not_packed], ids=["absent", "folder", "half", "plain"]
)
def test_a_file_that_cannot_be_read_is_named_and_is_wrong_use(
    option: str, make: Callable[[Any, Path], Path], shadow: Shadow, small_stream: Any, tmp_path: Path
):
    """Half a file gives no verdict over the half: exit 2, its name, no traceback, nothing written."""
    path = make(small_stream, tmp_path)
    files = {"--events": small_stream.events, "--outcomes": small_stream.outcomes, option: path}
    done = shadow("replay", small_stream.config, *[part for item in files.items() for part in item], "--out", tmp_path / "out", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", [False, True], ids=["a file", "below a file"])
def test_a_folder_that_cannot_be_written_is_named_and_is_wrong_use(inside: bool, shadow: Shadow, small_stream: Any, tmp_path: Path):
    """Whoever asked for files and got none must not take the exit code for a verdict."""
    (tmp_path / "taken").write_text("a file")
    out = tmp_path / "taken" / "out" if inside else tmp_path / "taken"
    done = replay(shadow, small_stream, "--out", out)
    assert done.returncode == 2
    assert str(out) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_stdin_is_no_matter(shadow: Shadow, small_stream: Any, small_verdict: dict[str, Any]):
    """Cron and some runners start commands without one; the model's pipes must not land on its number."""
    done = replay(shadow, small_stream, "--json", stdin=None, preexec_fn=lambda: os.close(0))
    assert done.returncode in EXIT.values(), done.stderr
    assert json.loads(done.stdout)["counts"] == small_verdict["counts"]


def test_a_reader_that_leaves_early_is_no_crash(stream: Any):
    """`shadow replay ... | head -1`: no traceback on the terminal."""
    command = [sys.executable, "-m", "harness", "replay", str(stream.config), "--events", str(stream.events)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
