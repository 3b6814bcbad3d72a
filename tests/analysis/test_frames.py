"""Data frames as pair tables: whatever engine they come from, and whatever stands in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import frames
from analysis.types import InputError, PairTable

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def columns(n: int = 4) -> dict[str, list[Any]]:
    """A small table of the contract: the last event was not answered by the challenger, the first has no label."""
    gone = [None] * (n - 1) + ["timeout"]
    return {
        "event_id": [f"{k:028x}" for k in range(n)],
        "unit_id": [f"{k // 2:016x}" for k in range(n)],
        "arrived": [START + timedelta(seconds=k) for k in range(n)],
        "segment.region": ["SE", None, "ES", "SE"][:n],
        "truth.age": [None, 12.0, 17.5, 40.0][:n],
        "label_time": [None, *(START + timedelta(days=1) for _ in range(n - 1))],
        "missing.incumbent": [None] * n,
        "missing.challenger": gone,
        "age.incumbent": [10.0, 14.0, 18.0, 30.0][:n],
        "age.challenger": [11.0, 13.0, 17.0, None][:n],
        "over_18.incumbent": [False, False, True, True][:n],
        "over_18.challenger": [False, False, False, None][:n],
        "latency_ms.challenger": [3.0, 4.0, 5.0, None][:n],
        "note": ["a", "b", "c", "d"][:n],
    }


def same(one: PairTable, other: PairTable) -> bool:
    """Whether two tables hold the same rows, whatever their codes."""
    if set(one.columns) != set(other.columns):
        return False
    return all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in one.columns)


def test_a_frame_of_any_engine_gives_the_same_table():
    """People bring what they have; the numbers must not depend on it."""
    given_ = columns()
    tables = [frames.pair_table(form) for form in (given_, pd.DataFrame(given_), pa.table(given_), pd.DataFrame(given_).convert_dtypes())]
    assert all(same(tables[0], table) for table in tables[1:])
    table = tables[0]
    assert table["over_18.challenger"].tolist() == [0, 0, 0, -1]
    assert table.words["over_18"] == ("false", "true")
    assert table["arrived"][0] == int(START.timestamp() * 1e6)
    assert table["label_time"].tolist()[0] == -1
    assert "note" not in table.columns


def test_rows_are_put_in_the_order_of_arrival_then_of_ids():
    """The first event of a unit is the one that arrived first, however the file is sorted."""
    given_ = columns()
    given_["arrived"] = [START, START, START - timedelta(hours=1), START]
    given_["event_id"] = ["b", "a", "z", "c"]
    assert frames.pair_table(given_)["event_id"].tolist() == ["z", "a", "b", "c"]


@given(st.permutations(range(4)))
def test_the_order_of_the_file_moves_nothing(order):
    """An export of many shards is in no order."""
    frame = pd.DataFrame(columns())
    table = frames.pair_table(frame.iloc[list(order)], words={"segment.region": ("SE", "ES")})
    assert same(table, frames.pair_table(frame, words={"segment.region": ("SE", "ES")}))


def test_our_own_unit_ids_are_taken_as_they_are_and_others_are_hashed_alike_everywhere():
    """A hash must say the same on every machine and day, or a unit becomes two."""
    ids = frames.unit_ids(pd.Series(["00000000000000ff", "user-7", "user-7", "00000000000000FF", "7"]))
    assert ids[0] == 0xFF
    by_hand = blake2b(b"user-7", digest_size=8, person=b"shadow-unit").digest()
    assert ids[1] == ids[2] == int.from_bytes(by_hand, "big")
    assert len(set(ids.tolist())) == 4
    assert frames.unit_ids(pd.Series([7]))[0] == ids[4]


def test_times_without_a_zone_are_utc_and_with_one_are_moved():
    """A frame from a notebook in Stockholm says the same moment."""
    given_ = columns()
    plain = {**given_, "arrived": pd.Series(given_["arrived"]).dt.tz_localize(None)}
    moved = {**given_, "arrived": pd.Series(given_["arrived"]).dt.tz_convert("Europe/Stockholm")}
    expected = frames.pair_table(given_)["arrived"].tolist()
    assert frames.pair_table(plain)["arrived"].tolist() == frames.pair_table(moved)["arrived"].tolist() == expected


def test_an_empty_frame_is_an_empty_table():
    """No rows are no evidence, and no error."""
    table = frames.pair_table(pd.DataFrame(columns()).iloc[:0])
    assert len(table) == 0


def test_a_column_that_is_missing_is_named_with_what_there_is():
    """Who reads the message must see the typo."""
    given_ = columns()
    given_["unit"] = given_.pop("unit_id")
    with pytest.raises(InputError, match=r"no column unit_id; it has event_id, .*unit"):
        frames.pair_table(given_)


WRONG: dict[str, tuple[str, list[Any], str]] = {
    "a double event": ("event_id", ["a", "b", "a", "c"], "event_id: an event stands in the table more than once, again in row 3"),
    "no event id": ("event_id", ["a", None, "c", "d"], "event_id: expected one in every row, found none in row 2"),
    "no unit": ("unit_id", ["a", None, None, "d"], "unit_id: expected one in every row, found none in rows 2, 3"),
    "units that are fractions": ("unit_id", [1.5, 2.0, 3.0, 4.0], "unit_id: expected text or whole numbers, found numbers with a point"),
    "times as text": ("arrived", ["2026-03-02"] * 4, "arrived: expected timestamps, found text"),
    "no arrival": ("arrived", [START, None, START, START], "arrived: expected a time in every row, found none in row 2"),
    "before 1970": ("arrived", [datetime(1969, 1, 1, tzinfo=UTC)] * 4, "arrived: expected times after 1970"),
    "text for numbers": ("truth.age", ["12", "13", None, "14"], "truth.age: expected numbers, found text"),
    "an infinite output": ("age.incumbent", [1.0, float("inf"), 3.0, 4.0], "expected finite numbers, found an infinite one in row 2"),
    "an answer of NaN": ("age.incumbent", [1.0, float("nan"), 3.0, 4.0], "age.incumbent: expected a value where missing.incumbent is null"),
    "an answer beside a reason": ("age.challenger", [1.0, 2.0, 3.0, 4.0], "expected null where missing.challenger gives a reason"),
    "no decision": ("over_18.challenger", [None, False, False, None], "over_18.challenger: expected a value where .* found none in row 1"),
    "a mixture": ("over_18.challenger", [True, "no", 3, None], "over_18.challenger: expected booleans or words, found values of mixed"),
    "a negative latency": ("latency_ms.challenger", [3.0, -1.0, 5.0, None], "latency_ms.challenger: expected no number below 0"),
    "classes as words": ("over_18.truth", ["minor", None, "adult", None], "over_18.truth: expected booleans"),
    "another length": ("truth.age", [1.0], "columns must be of one length"),
}


@pytest.mark.parametrize(("name", "values", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused_with_its_column_and_row(name, values, said):
    """A table read with a shrug gives a verdict with a hole."""
    with pytest.raises(InputError, match=said):
        frames.pair_table({**columns(), name: pd.Series(values, dtype=object) if None in values else values})


def test_no_message_holds_a_value():
    """Values are personal data; rows and columns are enough to find them."""
    given_ = columns()
    given_["event_id"] = ["secret-1", "secret-1", "secret-2", "secret-3"]
    with pytest.raises(InputError) as caught:
        frames.pair_table(given_)
    assert "secret" not in str(caught.value)


def test_a_latency_may_be_endless():
    """A row keeps one that is too large for it as endless: slower than any limit."""
    found = frames.numbers("latency_ms.challenger", pd.Series([1.0, np.inf, None]), np.arange(1, 4))
    assert found.tolist()[:2] == [1.0, np.inf]
