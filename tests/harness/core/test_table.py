"""Rows and the pair table: how pairs are packed, and where rows become columns and decisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.rollout import MISSING_REASONS, Line
from harness.core.table import MOST_WORDS, NO_WORD, TOO_MANY, Dictionary, RowLayout, TableBuilder, flips, recorded_decisions
from harness.testing import samples
from harness.testing.samples import START, answer, event, outcome

ROLLOUT = samples.rollout()
LAYOUT = RowLayout(ROLLOUT)


class Run:
    """Rows of one shard, with its words."""

    def __init__(self):
        self.words, self.rows = Dictionary(), b""

    def add(self, position=1, id="a", *, said=None, label=None, **event_options):
        said = {"incumbent": answer(id), "challenger": answer(id)} if said is None else said
        self.rows += LAYOUT.pack(event(position, id, **event_options), said, label, self.words)
        return self

    @property
    def part(self):
        return LAYOUT.records(self.rows), self.words.words


def table(*runs):
    return TableBuilder(ROLLOUT).build([run.part for run in runs])


def words_of(found, column, words=None):
    """A coded column in words; None for no code."""
    names = found.words[words or column]
    return [names[code] if code >= 0 else None for code in found[column]]


def by_age(*ages, **options):
    """A table of pairs whose incumbent said these ages; the challenger always says 30."""
    run = Run()
    for n, age in enumerate(ages):
        run.add(n, f"e{n}", said={"incumbent": answer(f"e{n}", age=age), "challenger": answer(f"e{n}", age=30.0)}, **options)
    return table(run)


# -------------------------------------------------------------------------------------------------------------------- rows
def test_a_row_has_one_width_whatever_is_missing_in_it():
    """Rows are found by multiplying; a row of another width would shift all that follow."""
    full = {lane: answer("a") for lane in ROLLOUT.lanes}
    run = Run().add(said=full, label=outcome(1, "a")).add(said={}).add(said={"incumbent": answer("a", status="timeout")}, action="allow")
    assert LAYOUT.width * 3 == len(run.rows)
    assert LAYOUT.width == LAYOUT.dtype.itemsize and len(LAYOUT.pack_label(None)) == LAYOUT.width - LAYOUT.label_at


def test_a_row_tells_when_the_event_arrived_and_what_each_lane_did():
    """Late labels and late answers are classified by the row, when the event itself is long gone."""
    said = {"incumbent": answer("a"), "challenger": answer("a", status="no_answer")}
    assert LAYOUT.facts(Run().add(7, said=said).rows) == (START + 7_000_000, {"incumbent": "answered", "challenger": "no_answer"})
    assert LAYOUT.label_of(Run().add().rows) is None
    label = outcome(1, "a", time=START, number=(1 << 63) - 1)
    assert (found := LAYOUT.label_of(Run().add(label=label).rows)) is not None and found[2:] == label[2:]


@pytest.mark.parametrize("reason", MISSING_REASONS)
def test_every_reason_for_a_missing_answer_has_a_code(reason):
    """A reason that the table does not know would stop a shard."""
    found = table(Run().add(said={"incumbent": answer("a"), "challenger": answer("a", status=reason)}))
    assert words_of(found, "missing.challenger", "missing") == [reason]
    assert words_of(found, "missing.incumbent", "missing") == [None]
    assert words_of(found, "missing.replica", "missing") == ["not_asked"]
    assert np.isnan(found["age.challenger"][0]) and np.isnan(found["latency_ms.challenger"][0]) and found["kind.challenger"][0] == -1


@given(
    age=st.floats(0, 120), toxic=st.floats(0, 1, width=32), kind=st.text(max_size=8), region=st.text(min_size=1, max_size=8),
    truth=st.none() | st.floats(0, 120), arrived=st.integers(0, 1 << 52),
)  # fmt: skip
def test_what_was_packed_stands_in_the_table(age, toxic, kind, region, truth, arrived):
    """Numbers keep every bit of a double, scores those of a float, words their text."""
    label = outcome(1, "a", time=START, age=truth)
    said = {"incumbent": answer("a", age=age, toxic=toxic, kind=kind), "challenger": answer("a")}
    found = table(Run().add(said=said, label=label, region=region, arrived=arrived))
    assert (found["age.incumbent"][0], found["scores.toxic.incumbent"][0], found["arrived"][0]) == (age, toxic, arrived)
    assert (words_of(found, "kind.incumbent", "kind"), words_of(found, "segment.region")) == ([kind], [region])
    assert found["truth.age"][0] == truth or (truth is None and np.isnan(found["truth.age"][0]))
    assert (found["event_id"][0].tobytes(), found["unit_id"][0]) == (samples.key("a"), event(1, "a").unit)
    assert (found["latency_ms.incumbent"][0], found["propensity"][0], found["label_time"][0]) == (12.5, 0.5, START)


def test_words_get_a_code_once_and_too_many_share_one():
    """Free segment values come from traffic: an attacker must not be able to fill the dictionary without bound."""
    words = Dictionary(["SE"])
    assert (words.code("SE"), words.code("ES"), words.code("ES"), words.code(None)) == (0, 1, 1, NO_WORD)
    full = Dictionary(str(n) for n in range(MOST_WORDS))
    assert full.code("new") == full.code("other new") == MOST_WORDS
    assert (full.words[MOST_WORDS:], full.code("17")) == ([TOO_MANY], 17)
    again = Dictionary(full.words)
    assert (again.code("newer"), len(again.words)) == (MOST_WORDS, MOST_WORDS + 1)


# ------------------------------------------------------------------------------------------------------------------- table
def test_a_table_of_nothing_has_all_its_columns():
    """A metric over an empty look says "insufficient", not that a column is missing."""
    empty, full = table(), table(Run().add())
    assert set(empty.columns) == set(full.columns)
    assert all(len(column) == 0 for column in empty.columns.values())
    assert {name: column.dtype for name, column in empty.columns.items()} == {name: column.dtype for name, column in full.columns.items()}


def test_rows_of_all_shards_come_in_the_order_of_arrival_with_one_code_for_a_word():
    """Each shard has codes of its own; the table must not depend on how events were spread."""
    regions = ["SE", "ES", "NO", "SE"]
    one, a, b = Run(), Run(), Run()
    for n, region in enumerate(regions):
        one.add(n, f"e{n}", region=region)
    for n in (3, 1):
        a.add(n, f"e{n}", region=regions[n])
    for n in (2, 0):
        b.add(n, f"e{n}", region=regions[n])
    whole = table(one)
    for split in (table(a, b), table(b, a)):
        assert words_of(split, "segment.region") == regions
        assert [key.tobytes() for key in split["event_id"]] == [key.tobytes() for key in whole["event_id"]]


def test_events_of_one_microsecond_are_ordered_by_their_key():
    """The order must be the same on every machine and for every number of shards."""
    runs = [Run().add(1, id, arrived=START) for id in ("a", "b", "c", "d")]
    orders = {tuple(key.tobytes() for key in table(*part)["event_id"]) for part in (runs, runs[::-1], runs[2:] + runs[:2])}
    assert orders == {tuple(sorted(samples.key(id) for id in ("a", "b", "c", "d")))}


def test_codes_stay_the_same_from_one_table_to_the_next():
    """Sufficient statistics of two looks are added by code; values that the config lists come first, seen or not."""
    builder = TableBuilder(ROLLOUT)
    first = builder.build([Run().add(region="NO", gender="male").part])
    second = builder.build([Run().add(2, region="SE", gender="unknown").add(3, region="NO", gender="female").part])
    assert (first.words["segment.region"], second.words["segment.region"]) == (("NO",), ("NO", "SE"))
    assert (list(first["segment.region"]), list(second["segment.region"])) == ([0], [1, 0])
    assert first.words["segment.gender"][:2] == ("female", "male") and second.words["segment.gender"] == ("female", "male", "unknown")
    assert second.words["kind"][:2] == ("ham", "spam")


def test_bins_of_a_truth_are_half_open_and_known_only_with_a_label():
    """A person of exactly 13 is in [13, 18); outside all bins, or without a label, there is no segment."""
    ages = [0.0, 12.999, 13.0, 18.0, 119.9, 120.0, -1.0]
    run = Run()
    for n, age in enumerate(ages):
        run.add(n, f"e{n}", label=outcome(1, f"e{n}", age=age))
    run.add(50, "none")
    expected = ["[0, 13)", "[0, 13)", "[13, 18)", "[18, 120)", "[18, 120)", None, None, None]
    assert words_of(table(run), "segment.true_age") == expected


# --------------------------------------------------------------------------------------------------------------- decisions
def test_a_line_is_reached_from_it_upward_and_may_differ_by_model():
    """18 means at least 18; a regressor may have its own line where a classifier had another."""
    found = by_age(17.999, 18.0, 18.2, 18.4)
    assert words_of(found, "over_18.incumbent", "over_18") == ["false", "true", "true", "true"]
    run = Run()
    for n, age in enumerate((18.2, 18.4)):
        run.add(n, f"e{n}", said={"incumbent": answer("x", age=age), "challenger": answer("x", age=age)})
    assert words_of(table(run), "over_18.challenger", "over_18") == ["false", "true"]


def test_a_line_by_segment_is_that_of_each_rows_value():
    """The age of consent differs by country; a country that the config does not list has the default."""
    run = Run()
    for n, (region, age) in enumerate([("ES", 14.0), ("ES", 13.9), ("SE", 13.0), ("NO", 15.9), ("NO", 16.0)]):
        run.add(n, f"e{n}", region=region, said={"incumbent": answer("x", age=age)}, label=outcome(1, f"e{n}", age=age))
    found = table(run)
    assert words_of(found, "consent.incumbent", "consent") == ["true", "false", "true", "false", "true"]
    assert list(found["consent.truth"]) == [1, 0, 1, 0, 1]


def test_the_first_of_several_decisions_whose_line_is_reached_is_taken():
    """A buffer zone: from 25 allow, from 18 check, below block."""
    found = by_age(30.0, 25.0, 24.9, 18.0, 17.9)
    assert words_of(found, "adult.incumbent", "adult") == ["allow", "allow", "check", "check", "block"]


def test_labels_and_scores_become_decisions():
    """A word means true if the policy lists it, also one that no config listed; a score is cut at the line."""
    run = Run()
    for n, (kind, toxic) in enumerate([("ham", 0.5), ("spam", 0.25), ("scam", 1.0), ("new", 0.0)]):
        run.add(n, f"e{n}", said={"incumbent": answer("x", kind=kind, toxic=toxic), "challenger": answer("x", status="error")})
    found = table(run)
    assert words_of(found, "banned.incumbent", "banned") == ["false", "true", "true", "false"]
    assert words_of(found, "toxic.incumbent", "toxic") == ["true", "false", "true", "false"]
    assert words_of(found, "banned.challenger", "banned") == words_of(found, "toxic.challenger", "toxic") == [None] * 4


def test_a_recorded_decision_stands_for_what_the_policy_would_have_said():
    """What production did is what people met; where it recorded nothing, the policy is applied."""
    run = Run()
    for n, action in enumerate(["block", None, "allow"]):
        run.add(n, f"e{n}", action=action, said={"incumbent": answer("x", age=20.0), "challenger": answer("x", age=20.0)})
    run.add(9, "silent", action="allow", said={"incumbent": answer("x", status="timeout"), "challenger": answer("x")})
    found = table(run)
    assert words_of(found, "adult.incumbent", "adult") == ["block", "check", "allow", None]
    assert words_of(found, "adult.challenger", "adult") == ["check"] * 4


def test_an_unknown_recorded_decision_is_one_of_its_own_and_matches_nothing():
    """Production may do what the config does not name; to count it as agreement, or as none, would be a guess."""
    found = table(Run().add(action="shadow_ban", said={"incumbent": answer("a", age=20.0), "challenger": answer("a", age=20.0)}))
    assert found.words["adult"] == ("allow", "check", "block", "shadow_ban")
    assert words_of(found, "adult.incumbent", "adult") == ["shadow_ban"]
    assert flips(found, ["adult"])["adult"]["shadow_ban->check"] == 1


def test_recorded_decisions_are_listed_in_the_order_of_the_rows():
    """The router reads them by this list, and the row has a field for each."""
    assert recorded_decisions(ROLLOUT) == (("adult", "incumbent", "/action"),)
    assert "recorded.adult.incumbent" in LAYOUT.dtype.names


@pytest.mark.parametrize(("truth", "above"), [(17.0, 0), (18.0, 1), (True, 1), (False, 0), (None, -1)])
def test_a_truth_is_cut_at_the_line_and_a_boolean_is_the_class_itself(truth, above):
    """A reviewer may say an age, or only that somebody is an adult; True is not an age of 1."""
    assert list(table(Run().add(label=outcome(1, "a", age=truth)))["over_18.truth"]) == [above]


def test_lines_of_the_truth_are_those_of_the_config():
    """The truth's own line, not a model's, says who was really old enough."""
    policy = replace(ROLLOUT.policies["over_18"], lines={**ROLLOUT.policies["over_18"].lines, "truth": Line(default=21.0)})
    rollout = replace(ROLLOUT, policies={**ROLLOUT.policies, "over_18": policy})
    found = TableBuilder(rollout).build([Run().add(label=outcome(1, "a", age=20.0)).part])
    assert list(found["over_18.truth"]) == [0]


# ------------------------------------------------------------------------------------------------------------------- flips
def test_flips_count_pairs_by_direction_and_nothing_that_is_missing():
    """What people read first: how many decisions would change, and which way; the challenger always says 30 here."""
    run = Run()
    for n, age in enumerate((30.0, 20.0, 17.0, 16.0)):
        run.add(n, f"e{n}", said={"incumbent": answer("x", age=age), "challenger": answer("x", age=30.0)})
    run.add(8, "x", said={"incumbent": answer("x", age=10.0), "challenger": answer("x", status="timeout")})
    found = flips(table(run), ["over_18", "adult"])
    assert found["over_18"] == {"pairs": 4, "false->true": 2, "true->false": 0}
    assert found["adult"] == {
        "pairs": 4, "allow->check": 0, "allow->block": 0, "check->allow": 1, "check->block": 0, "block->allow": 2, "block->check": 0,
    }  # fmt: skip


@given(ages=st.lists(st.tuples(st.floats(0, 120), st.floats(0, 120)), max_size=30), cut=st.integers(0, 30))
def test_flips_add_up_over_any_cut(ages, cut):
    """Counts of two parts are the counts of the whole, so that looks and shards can be added."""
    runs = [Run(), Run()]
    for n, (old, new) in enumerate(ages):
        runs[n >= cut].add(n, f"e{n}", said={"incumbent": answer("x", age=old), "challenger": answer("x", age=new)})
    parts, whole = [flips(table(run), ["adult"])["adult"] for run in runs], flips(table(*runs), ["adult"])["adult"]
    assert {name: parts[0][name] + parts[1][name] for name in whole} == whole
    assert whole["pairs"] == len(ages) >= sum(n for name, n in whole.items() if name != "pairs")


def test_rows_that_were_forgotten_are_in_no_table():
    """Neither the analyst nor an archive nor an export counts what was taken out; a unit that happens to be 0 is somebody."""
    run = Run()
    for n in range(4):
        run.add(n, f"e{n}")
    records, words = run.part
    records = records.copy()
    records[1:2] = RowLayout(ROLLOUT).forgotten(records[1:2])
    records["unit"][2] = 0
    found = TableBuilder(ROLLOUT).build([(records, words)])
    assert [int(at - START) // 1_000_000 for at in found["arrived"]] == [0, 2, 3]
    everybody = RowLayout(ROLLOUT).forgotten(records)
    assert len(TableBuilder(ROLLOUT).build([(everybody, words)])) == 0
