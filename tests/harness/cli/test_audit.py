"""`shadow audit` as people run it: from a store, and on another machine from a file and a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import redis
from decided import Decided, decide

from harness.adapters import recordsfile
from harness.commands.audit import read_lines
from harness.core.records import Author, body, digest
from harness.ports.journal import Link


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Decided:
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    return decide(tmp_path_factory.mktemp("decided"), redis_url)


def test_it_verifies_a_rollout_of_a_store(shadow, decided, redis_url):
    """The chain is read from the journal, the archive from the folder that is named."""
    done = shadow("audit", "verify", "age-sealed", "--store", redis_url, "--archive", decided.archive)
    assert (done.code, done.err) == (0, "")
    assert "record 2, entered: level pairs" in done.out
    assert done.out.endswith("audit: everything agrees, level pairs\n")


def test_it_verifies_on_another_machine_from_the_files_alone(shadow, decided, tmp_path):
    """The archive is found beside the records; no store is named, and none is there."""
    shutil.copytree(decided.folder, tmp_path / "copy")
    done = shadow("audit", "verify", "--records", "copy/records.jsonl", "--head", decided.links[-1].hash, "--json")
    found = json.loads(done.out)
    assert (done.code, found["level"], found["later"], found["disagreements"]) == (0, "pairs", 0, [])
    text = (tmp_path / "copy/records.jsonl").read_text()
    (tmp_path / "copy/records.jsonl").write_text(text.replace('"name":"bea"', '"name":"eve"'))
    done = shadow("audit", "verify", "--records", "copy/records.jsonl")
    assert done.code == 4
    assert "record 1: its own hash" in done.out
    shutil.rmtree(tmp_path / "copy/archive")
    (tmp_path / "copy/records.jsonl").write_text(text)
    assert shadow("audit", "verify", "--records", "copy/records.jsonl").code == 3
    assert shadow("audit", "verify", "--records", "copy/records.jsonl", "--level", "statistics").code == 0


def test_wrong_use_ends_with_2(shadow, decided):
    """What the user can mend is no disagreement."""
    for words, said in (
        (("--records", "none.jsonl"), "none.jsonl: cannot be read"),
        (("age-sealed", "--records", decided.records), "leave its name out"),
        (("--records", decided.records, "--level", "all"), "expected one of chain, statistics, pairs"),
        (("--records", decided.records, "--head", decided.links[-1].hash[:12]), "expected the hash of a record, 64 hex digits"),
    ):
        done = shadow("audit", "verify", *words)
        assert (done.code, said in done.err) == (2, True), done


def test_it_shows_the_records_in_plain_words(shadow, decided, redis_url):
    """Who reads it was not there: what was asked, who said what, what the numbers were."""
    done = shadow("audit", "show", "--store", redis_url)
    assert done.code == 0
    for words in (
        "0  The question was registered, before the first look", "bea (policy), from cli: fewer minors get in",
        "2  The next stage was entered: canary at 1 % (stage 1 of 2)", "over_18, challenger: at least 18 (region: 16.0 for ES)",
        "both models answered", "from age.verified, after 24 h; the numbers speak of labelled events",
        "the config is by ada, whose approval does not count", f"pairs sealed as {next(decided.archive.iterdir()).name}",
        "3  The rollout was paused",
    ):  # fmt: skip
        assert words in done.out, words
    done = shadow("audit", "show", "--records", decided.records, "-o", "paper/records.html")
    assert (done.code, done.out) == (0, "")
    assert Path("paper/records.html").read_text().startswith("<!doctype html>")


def test_it_writes_the_chain_as_lines(shadow, decided, redis_url):
    """What an auditor is handed with the archives."""
    done = shadow("audit", "records", "--store", redis_url, "-o", "records.jsonl")
    assert (done.code, "5 records" in done.err) == (0, True)
    assert read_lines(Path("records.jsonl")) == list(decided.links)


def test_it_seals_the_pairs_of_the_moment(shadow, tmp_path, redis_url):
    """The file that a decision on this verdict would name; before the first look of a stage there is nothing to seal."""
    other = redis_url.removesuffix("/0") + "/1"
    with redis.Redis.from_url(other) as client:
        client.flushdb()
    decide(tmp_path, other, n=200, moves=False)
    done = shadow("audit", "seal", "--store", other, "--archive", "sealed", "--json")
    found = json.loads(done.out)
    assert (done.code, found["agrees"], found["rows"]) == (0, True, 200), done.err
    assert [path.name for path in Path("sealed").iterdir()] == [f"{found['archive']}.parquet"]
    assert f"{found['archive']}.parquet: 200 rows" in shadow("audit", "seal", "--store", other, "--archive", "sealed").out


def test_before_the_first_look_of_a_stage_there_is_nothing_to_seal(shadow, decided, redis_url):
    """Wrong use: it says why."""
    done = shadow("audit", "seal", "--store", redis_url)
    assert (done.code, "there was no look yet" in done.err) == (2, True), done


def test_words_that_have_not_been_sealed_are_told(shadow, decided, tmp_path):
    """Nothing disagrees; whoever misses a seal learns of whose."""
    link = decided.links[-1]
    record = body("rolled_back", rollout="age-sealed", at=9, by=Author(name="dan", via="cli"), reason="so", seen=dict(decided.verdict))
    shutil.copytree(decided.folder, tmp_path / "copy")
    with (tmp_path / "copy/records.jsonl").open("ab") as file:
        file.write(recordsfile.line(Link(hash=digest(link.hash, record), previous=link.hash, body=record)))
    done = shadow("audit", "verify", "--records", "copy/records.jsonl")
    assert (done.code, "  what was seen in record 5 has not been sealed\n" in done.out) == (0, True)
