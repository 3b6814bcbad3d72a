"""How a rollout is created once and found again as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.commands import registry
from harness.core.errors import UsageError
from harness.core.records import Author
from harness.ports.clock import ManualClock
from harness.testing.doubles import MemoryDirectory, MemoryJournal
from harness.testing.samples import rollout

ONE = replace(rollout(), name="one", sha256="1" * 64, document={"rollout": "one"}, folder=Path("/somewhere"))


def register(directory: Any, journal: Any, found: Any = ONE, shards: int | None = None) -> registry.Registered:
    return registry.register(
        found, shards=shards, default_shards=3, directory=directory, journal=journal, by=Author(name="ada", via="up"),
        clock=ManualClock(1), code_version="1",
    )  # fmt: skip


def test_a_rollout_is_found_as_it_was_created():
    """Who looks a week later, from another folder, has the same config, folder and shards."""
    directory = MemoryDirectory()
    made = register(directory, MemoryJournal())
    assert registry.find("one", directory) == made
    assert (made.shards, made.sha256, made.document, made.folder) == (3, "1" * 64, {"rollout": "one"}, Path("/somewhere"))


def test_creating_it_again_finds_it_and_adds_no_record():
    """`shadow up` a second time goes on; the chain begins once."""
    directory, journal = MemoryDirectory(), MemoryJournal()
    made = register(directory, journal, shards=5)
    assert register(directory, journal) == made
    assert register(directory, journal, shards=5) == made
    (first,) = journal.read()
    record = json.loads(first.body)
    assert (record["kind"], record["rollout"], record["shards"], record["sha256"]) == ("registered", "one", 5, "1" * 64)
    assert (record["by"]["name"], record["at"], record["config"]) == ("ada", "1970-01-01T00:00:00.000001Z", {"rollout": "one"})


def test_another_config_of_the_same_name_is_refused():
    """It asks another question; both hashes are named, and nothing is changed."""
    directory, journal = MemoryDirectory(), MemoryJournal()
    made = register(directory, journal)
    with pytest.raises(UsageError, match=r"one was started with another config \(sha256 111111111111\.\.\., this one 222222222222"):
        register(directory, journal, replace(ONE, sha256="2" * 64))
    assert registry.find("one", directory) == made
    assert len(journal.read()) == 1


def test_another_number_of_shards_is_refused():
    """Shards decide where an event is counted: they are fixed for good."""
    directory, journal = MemoryDirectory(), MemoryJournal()
    register(directory, journal, shards=2)
    with pytest.raises(UsageError, match=r"created with 2 shards, which are fixed for good; got --shards 4"):
        register(directory, journal, shards=4)


def test_the_second_of_two_at_once_is_given_what_the_first_wrote():
    """Two machines start the same rollout at the same moment."""
    directory, journal = MemoryDirectory(), MemoryJournal()
    assert register(directory, journal, shards=2) == register(directory, journal)
    assert len(journal.read()) == 1


def test_a_crash_between_the_entry_and_its_record_is_made_good():
    """The entry was written, the process died: the next start writes the record."""
    directory, journal = MemoryDirectory(), MemoryJournal()
    register(directory, MemoryJournal())
    register(directory, journal)
    assert len(journal.read()) == 1


def test_the_only_rollout_needs_no_name_and_of_several_one_must_be_named():
    """The message lists what there is."""
    directory = MemoryDirectory()
    with pytest.raises(UsageError, match="this store has none"):
        registry.find(None, directory)
    register(directory, MemoryJournal())
    assert registry.find(None, directory).name == "one"
    register(directory, MemoryJournal(), replace(ONE, name="two"))
    assert registry.names(directory) == ["one", "two"]
    with pytest.raises(UsageError, match="name a rollout; this store has one, two"):
        registry.find(None, directory)
    with pytest.raises(UsageError, match="rollout three: not in this store; it has one, two"):
        registry.find("three", directory)


def test_a_rollout_whose_rows_are_laid_out_otherwise_is_refused_and_hides_no_other():
    """Columns of one type would be exchanged without a word: what reads many rollouts leaves it out, and who names it is told."""
    directory, journal = MemoryDirectory(), MemoryJournal()
    register(directory, journal)
    entry = json.loads(directory.all()["one"])
    del entry["layout"]  # as it was written before rows were laid out by names
    directory.replace("one", json.dumps(entry).encode())
    register(directory, MemoryJournal(), replace(ONE, name="two"))
    for read in (lambda: registry.find("one", directory), lambda: register(directory, journal)):
        with pytest.raises(UsageError, match="rollout one: another release created it and laid its rows out otherwise"):
            read()
    assert registry.names(directory) == ["two"]
