"""The verdict in words: each kind of verdict, both directions, and never a number that is not in the data."""

from __future__ import annotations

import re

import pytest

from harness.pages.report import render
from harness.pages.sentence import sentence


def test_a_stop_names_people_of_a_thousand_in_both_directions_and_the_error(age, rollout_of, table_of, verdict_of, age_rows):
    """That is what a policy lead decides on; 2 of 10 became 5 of 10 in the south and 6 of 10 in the north."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(400, old=2, new=5))
    verdict = verdict_of(rollout, table)
    said = sentence(rollout, verdict, table)
    assert (verdict["verdict"], said.headline, said.lead.name) == ("rollback", "Stop", "fewer children")
    assert said.parts[0].startswith("Of 1,000 under-13s, 500 instead of 200 would pass as 13 or older (worst for region ")
    assert said.parts[1] == "In the other direction, of 1,000 people of 13 or older, 0 as before would be taken for under 13."
    assert said.parts[2].startswith("The mean absolute error of age ")
    assert said.note == "This was a shadow: nobody was affected."


def test_the_worst_segment_is_the_one_whose_row_is_worst(age, rollout_of, table_of, verdict_of):
    """An average hides who is hurt: here everybody who is newly let in lives in the north."""
    rollout = rollout_of(age)
    rows = []
    for k in range(600):
        north = k % 2 == 0
        let_in = north and k % 4 == 0
        rows.append(
            {"unit": k, "segments": ("north" if north else "south",), "truth": (10.0,), "old": (9.0,), "new": (14.0 if let_in else 9.0,)}
        )
    table = table_of(rollout, rows)
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert "250 instead of 0 would pass as 13 or older (worst for region north: 500 instead of 0)" in said.text


def test_a_gate_without_segments_names_the_worst_segment_of_the_table(age, rollout_of, table_of, verdict_of, age_rows):
    """Nobody asked for the split in the gate, and the page still says for whom it is worst."""
    del age["gates"][0]["each"]
    rollout = rollout_of(age)
    table = table_of(rollout, [{**row, "new": row["old"]} if row["segments"] == ("south",) else row for row in age_rows(400, old=2, new=6)])
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert "(worst for region north: " in said.parts[0]


def test_a_promotion_says_what_improves(age, rollout_of, table_of, verdict_of, age_rows):
    """Promote is a claim too, and stands on the same numbers."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(600, old=6, new=1))
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert said.headline == "Promote"
    assert said.parts[0] == "All 3 gates pass. Of 1,000 under-13s, 100 instead of 600 would pass as 13 or older."
    assert "worst" not in said.text


def test_a_hold_says_what_is_missing(age, rollout_of, table_of, verdict_of, age_rows):
    """Never a bare hold: which gates wait, for labels or for events, and how many labels there are so far."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(6, old=2, new=3))
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert said.headline == "Hold"
    assert "Not enough labels yet: “fewer children”" in said.text
    assert "So far, by 6 labels, of 1,000 under-13s, " in said.text


def test_a_hold_without_any_event_speaks_without_numbers(age, rollout_of, table_of, verdict_of):
    """Nothing seen is not zero."""
    rollout = rollout_of(age)
    table = table_of(rollout, [])
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert said.headline == "Hold" and said.parts
    assert not re.search(r"of 1,000|nan|None", said.plain)


def test_a_live_stage_rolls_back_and_claims_nobody_safe(age, rollout_of, table_of, verdict_of, age_rows):
    """Only a shadow affected nobody."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(400, old=2, new=5))
    said = sentence(rollout, verdict_of(rollout, table, stage="canary"), table)
    assert (said.headline, said.note) == ("Roll back", None)


def test_a_shadow_beside_people_whom_the_challenger_served_claims_nobody_safe(age, rollout_of, table_of, verdict_of, age_rows):
    """A canary that was amended is a shadow again; whom the challenger served before, it served."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(400, old=2, new=5))
    verdict = {**verdict_of(rollout, table), "exposed": {"units": 1_198, "stages": []}}
    said = sentence(rollout, verdict, table)
    assert said.note == "This stage is a shadow; before it or beside it the challenger served 1,198 units."
    unserved = {**verdict, "exposed": {"units": 0, "stages": []}}
    assert sentence(rollout, unserved, table).note == "This was a shadow: nobody was affected."


def test_an_alarm_without_a_failing_gate_gives_its_reason(age, rollout_of, table_of, verdict_of, age_rows):
    """A detector stops a rollout whose gates still pass; then its words lead."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(600, old=6, new=1))
    verdict = {**verdict_of(rollout, table), "verdict": "rollback", "reasons": ["the challenger began to fail on Monday"]}
    assert sentence(rollout, verdict, table).plain.startswith("Stop. The challenger began to fail on Monday.")


def test_a_hold_with_all_gates_passing_gives_its_reason(age, rollout_of, table_of, verdict_of, age_rows):
    """A stage that is too young holds although nothing is undecided."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(600, old=6, new=1))
    verdict = {**verdict_of(rollout, table), "verdict": "hold", "reasons": ["the stage lasts at least 24 hours"]}
    assert sentence(rollout, verdict, table).plain.startswith("Hold. The stage lasts at least 24 hours.")


def test_several_decisions_are_named_as_the_policy_says_them(age, rollout_of, table_of, verdict_of, age_rows):
    """A policy of three decisions has no pass or fail: minors would be “minor allowed”, adults “adult stopped”."""
    age["gates"] = [{"name": "minors", "metric": {"harm": "minor_allowed"}, "better_by_more_than": 0}]
    rollout = rollout_of(age)
    rows = [{**row, "new": (26.0,)} if row["truth"] == (11.0,) else row for row in age_rows(300, old=2, new=2)]
    table = table_of(rollout, rows)
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert said.parts[0].startswith("Of 1,000 under-18s, 1,000 instead of 0 would be “minor allowed”")
    assert said.parts[1] == "In the other direction, of 1,000 adults, 0 as before would be “adult stopped”."


MODERATION = {
    "number": ({"type": "number", "range": [0, 1]}, {"at_least": 0.5}, (0.9,), (0.1,)),
    "scores": ({"type": "scores", "labels": ["hate", "spam"]}, {"at_least": 0.5, "of": "hate"}, ((0.9, 0.2),), ((0.1, 0.2),)),
    "label": ({"type": "label", "labels": ["hate", "fine"]}, {"is": ["hate"]}, ("hate",), ("fine",)),
}


@pytest.mark.parametrize("kind", sorted(MODERATION))
def test_moderation_is_told_by_the_harms_own_name(kind, age, rollout_of, table_of, verdict_of):
    """A boolean truth has no age; the harm's name is the word that people gave it, whatever the type of the output."""
    output, policy, yes, no = MODERATION[kind]
    fields = {"incumbent": {"field": "/x"}, "challenger": {"field": "/x"}}
    age |= {
        "outputs": {"toxic": {**output, **fields}},
        "policies": {"remove": {"output": "toxic", **policy}},
        "harms": {"violation_missed": {"policy": "remove", "truth": True, "decision": False}},
        "outcomes": {**age["outcomes"], "truth": {"toxic": "/toxic"}},
        "gates": [{"name": "misses no more", "metric": {"harm": "violation_missed"}, "worse_by_at_most": 0.02}],
    }
    rollout = rollout_of(age)
    rows = [{"unit": k, "segments": ("x",), "truth": (k % 2 == 0,), "old": yes, "new": no if k % 3 == 0 else yes} for k in range(600)]
    table = table_of(rollout, rows)
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert said.parts[0].startswith("Of 1,000 events with toxic true, 333 instead of 0 would be “violation missed”")
    assert "of 1,000 events with toxic false, 667 instead of 1,000 would be decided “true” by remove." in said.parts[1]


WORDS = {
    "classes": {"if_true": "violating posts", "if_false": "harmless posts"},
    "says": {"true": "be removed", "false": "stay up"},
}


@pytest.fixture
def moderation(age):
    """A config of moderation with words of its own for classes and decisions, and a gate in each region."""
    output, policy, _, _ = MODERATION["number"]
    fields = {"incumbent": {"field": "/x"}, "challenger": {"field": "/x"}}
    return age | {
        "outputs": {"toxic": {**output, **fields}},
        "policies": {"enforcement": {"output": "toxic", **policy, **WORDS}},
        "harms": {"over_enforced": {"policy": "enforcement", "truth": False, "decision": True}},
        "outcomes": {**age["outcomes"], "truth": {"toxic": "/toxic"}},
        "gates": [
            {"name": "harmless posts stay up", "metric": {"harm": "over_enforced"}, "worse_by_at_most": 0.03, "each": ["region"]},
        ],
    }


def posts(n, *, removed):
    """n harmless posts of each region and a violating one for each; `removed`: of each region, how many of 10 in each lane."""
    return [
        {"unit": (region, k, truth), "segments": (region,), "truth": (truth,)}
        | {name: (0.9 * (k % 10 < rate),) for name, rate in (("old", old), ("new", new))}
        for region, (old, new) in removed.items()
        for k in range(n)
        for truth in (False, True)
    ]


def test_the_words_of_a_config_are_those_of_the_sentence(moderation, rollout_of, table_of, verdict_of):
    """A moderator reads of posts that come down, not of events with a truth that is false."""
    rollout = rollout_of(moderation)
    table = table_of(rollout, posts(600, removed={"north": (1, 4), "south": (1, 3)}))
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert said.parts[0] == "Of 1,000 harmless posts, 350 instead of 100 would be removed (worst for region north: 400 instead of 100)."
    assert said.parts[1] == "In the other direction, of 1,000 violating posts, 650 instead of 900 would stay up."
    assert said.where is None


def test_a_segment_that_the_average_hides_comes_first(moderation, rollout_of, table_of, verdict_of):
    """Over all posts fewer are removed, which is no reason to stop: the region in which many more are is."""
    rollout = rollout_of(moderation)
    table = table_of(rollout, posts(600, removed={"north": (1, 4), "south": (9, 1)}))
    verdict = verdict_of(rollout, table)
    said = sentence(rollout, verdict, table)
    assert (verdict["verdict"], said.headline) == ("rollback", "Stop")
    assert said.parts[0] == "Of 1,000 harmless posts of region north, 400 instead of 100 would be removed (of all: 250 instead of 500)."
    assert said.where == {"region": "north"}
    assert "Of 1,000 in each class of region north, how many would be removed" in render(rollout, verdict, table)


def test_a_gate_about_something_else_gives_its_number_beside_its_limit(age, rollout_of, table_of, verdict_of, age_rows):
    """A challenger that does not answer is not a harm, and is told in its own words."""
    rollout = rollout_of(age)
    rows = [{**row, "new": None} if k % 5 in (0, 1, 2) else row for k, row in enumerate(age_rows(300, old=6, new=1))]
    table = table_of(rollout, rows)
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert said.parts[0] == "Events without an answer of the challenger: 600 per 1,000, where it must be below 200 per 1,000."


def test_a_hold_with_enough_labels_speaks_of_the_harm_first_and_then_of_the_gate(age, rollout_of, table_of, verdict_of, age_rows):
    """With hundreds of labels the people come before the procedure, also where a failing gate only holds."""
    age["gates"] = [
        {"name": "few change", "metric": {"flip": "over_13"}, "below": 0.01, "on_fail": "hold"},
        {**age["gates"][0], "on_fail": "hold"},
    ]
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(400, old=2, new=5))
    said = sentence(rollout, verdict_of(rollout, table), table)
    assert said.headline == "Hold"
    assert said.parts[0].startswith("Of 1,000 under-13s, 500 instead of 200 would pass as 13 or older")
    assert said.parts[-1] == "2 gates fail: “fewer children” and “few change”."
