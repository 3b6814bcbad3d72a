"""`shadow explain` and `shadow forget` as people run them."""

from __future__ import annotations

import io
import json

import pytest
import redis
from decided import Decided, decide, stream


@pytest.fixture
def decided(tmp_path, redis_db: redis.Redis, redis_url: str) -> Decided:
    return decide(tmp_path, redis_url, n=400)


EVENT = json.loads(stream(400)[0][0])


def test_an_event_is_explained_in_words_and_as_json(shadow, decided, redis_url):
    """Exit 0 when its pair is stored, 3 when it is not; the words say why."""
    done = shadow("explain", "age-sealed", EVENT["id"], "--store", redis_url)
    assert done.code == 0
    for words in ("its pair is stored", "stage 0, shadow, challenger serves 0 %: arm incumbent", "over_18, incumbent: ", "config "):
        assert words in done.out
    found = json.loads(shadow("explain", "age-sealed", EVENT["id"], "--store", redis_url, "--json").out)
    assert found["events"][0]["lanes"]["incumbent"]["outputs"]["age"] == EVENT["data"]["old"]["age"]
    done = shadow("explain", "age-sealed", "nobody", "--store", redis_url)
    assert (done.code, "nothing is kept of this id" in done.out) == (3, True)


def test_a_unit_is_forgotten_and_the_chain_says_that_somebody_was(shadow, decided, redis_url, monkeypatch):
    """The unit may come on standard input: a command line can be read by everybody on the machine."""
    monkeypatch.setattr("sys.stdin", io.StringIO(EVENT["subject"] + "\n"))
    done = shadow("forget", "age-sealed", "-", "--reason", "a request", "--store", redis_url, "--json")
    assert (done.code, json.loads(done.out)["rows"] >= 1) == (0, True), done.err
    assert shadow("explain", "age-sealed", EVENT["id"], "--store", redis_url).code == 3
    done = shadow("audit", "verify", "--store", redis_url, "--archive", decided.archive)
    assert (done.code, "6 records" in done.out) == (0, True), done.out
    assert "A unit was forgotten: " in shadow("audit", "show", "--store", redis_url).out
    again = shadow("forget", "age-sealed", EVENT["subject"], "--reason", "a request", "--store", redis_url)
    assert again.out.startswith("0 rows forgotten, record ")


def test_wrong_use_ends_with_2(shadow, decided, redis_url, monkeypatch):
    """Nothing was forgotten then, and nothing recorded."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for words, said in (
        (("forget", "age-sealed", "u1", "--reason", " "), "say why"),
        (("forget", "age-sealed", "u1", "--reason", "u1 asked"), "names the unit"),
        (("forget", "age-sealed", "-", "--reason", "a request"), "nothing stood there"),
        (("explain", "other", "e1"), "not in this store"),
    ):
        done = shadow(*words, "--store", redis_url)
        assert (done.code, said in done.err) == (2, True), done
    assert len(decided.links) == 5
