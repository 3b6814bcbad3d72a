"""Hashes are contracts: who is in a sample must not depend on machine, language, release or config version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.routing import ID_BYTES, KEY_BYTES, Hasher, replicated, shard_of

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "hash_vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: f"{v['rollout']}-{v['text'][:12]!r}")
def test_hashes_are_those_that_were_published(vector):
    """A service in another language reproduces assignment from these vectors; a release that changes one moves people between arms."""
    hasher = Hasher(vector["rollout"], bytes.fromhex(vector["secret_hex"]))
    assert hasher.event_id(vector["text"]).hex() == vector["event_id"]
    assert hasher.key(vector["source"], vector["text"]).hex() == vector["key"]
    assert hasher.unit(vector["text"]) == vector["unit"]
    assert hasher.fraction(b"sample", vector["text"]) == vector["sample"]
    assert shard_of(hasher.event_id(vector["text"]), 4) == vector["shard_of_4"]


def test_fractions_are_uniform():
    """A percent of the units is that percent: 64 equal cells of 100,000 units, chi-square below its 0.9999 quantile (63 degrees: 113.6)."""
    hasher = Hasher("uniform")
    cells = np.bincount([int(hasher.fraction(b"sample", f"unit-{n}") * 64) for n in range(100_000)], minlength=64)
    assert ((cells - 100_000 / 64) ** 2 / (100_000 / 64)).sum() < 113.6


def test_shards_are_evenly_filled():
    """No shard is a bottleneck: 16 shards of 50,000 events, chi-square below its 0.9999 quantile (15 degrees: 44.3)."""
    hasher = Hasher("shards")
    cells = np.bincount([shard_of(hasher.event_id(f"e-{n}"), 16) for n in range(50_000)], minlength=16)
    assert ((cells - 3_125) ** 2 / 3_125).sum() < 44.3


def test_purposes_are_independent():
    """Who is sampled says nothing about who gets the challenger: the correlation of two purposes is that of noise."""
    hasher = Hasher("purposes")
    pairs = np.array([(hasher.fraction(b"sample", f"u{n}"), hasher.fraction(b"arm", f"u{n}")) for n in range(20_000)])
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / np.sqrt(20_000)


@given(st.text(min_size=1, max_size=40), st.floats(0, 100), st.floats(0, 100))
def test_a_larger_percent_keeps_everybody_of_a_smaller_one(unit, a, b):
    """Assignment is monotone: raising a percent never takes anybody out."""
    hasher = Hasher("grow")
    small, large = sorted((a, b))
    assert not hasher.sampled(unit, small) or hasher.sampled(unit, large)


@given(st.text(min_size=1), st.text(min_size=1))
def test_an_outcome_finds_the_shard_of_its_event(source, event_id):
    """An outcome names an id and no source, and must meet its event in the same shard."""
    hasher = Hasher("join")
    key = hasher.key(source, event_id)
    assert (len(key), key[:ID_BYTES]) == (KEY_BYTES, hasher.event_id(event_id))
    assert shard_of(key, 7) == shard_of(hasher.event_id(event_id), 7)


def test_nobody_is_sampled_at_zero_and_everybody_at_a_hundred():
    """The two ends are exact."""
    hasher = Hasher("ends")
    units = [f"u{n}" for n in range(2_000)]
    assert not any(hasher.sampled(unit, 0.0) for unit in units)
    assert all(hasher.sampled(unit, 100.0) for unit in units)


def test_the_replica_is_asked_about_its_percent():
    """5 % of 40,000 events, within four standard errors; none at 0, all at 100."""
    keys = [Hasher("replica").key("s", f"e{n}") for n in range(40_000)]
    asked = sum(replicated(key, 5.0) for key in keys)
    assert abs(asked - 2_000) < 4 * np.sqrt(40_000 * 0.05 * 0.95)
    assert not any(replicated(key, 0.0) for key in keys)
    assert all(replicated(key, 100.0) for key in keys)


def test_a_secret_changes_every_hash():
    """Without the secret nobody can find out who stands behind a hash by trying ids."""
    plain, keyed = Hasher("r"), Hasher("r", b"secret")
    assert plain.unit("u1") != keyed.unit("u1")
    assert plain.key("s", "e1") != keyed.key("s", "e1")
