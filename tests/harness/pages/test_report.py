"""The page: complete in one file, harmless whatever the config says, and readable in every state of a rollout."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from harness.core.reading import timestamp
from harness.pages.companions import HEADS, companion_views, of_stage
from harness.pages.report import render

HOSTILE = "<script>alert('x')</script>\"'&{{7*7}}"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Checked(HTMLParser):
    """Every element that is opened is closed, and what there is of each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()


@pytest.fixture
def stopped(age, rollout_of, table_of, verdict_of, age_rows):
    """A rollout that a harm stops, with its verdict and table."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(400, old=2, new=5))
    return rollout, verdict_of(rollout, table), table


def test_the_page_needs_nothing_from_outside(stopped):
    """It is read offline, years later, in an audit: no script, no font, no picture, no link, and a policy that forbids them."""
    page = render(*stopped)
    assert not re.search(r"https?://|//cdn|@import|url\(|<script|<link|<img|\ssrc=", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert len(page) < 300_000


def test_the_page_is_well_formed_and_names_every_picture(stopped):
    """Who does not see the pictures gets their words, and who sees no colours gets signs and words."""
    tags = Checked(render(*stopped)).tags
    pictures = [attrs for tag, attrs in tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(pictures) > 5 and all(attrs.get("aria-label") for attrs in pictures)


def test_the_first_screen_says_the_verdict_before_anything_else(stopped):
    """A policy lead reads one screen."""
    page = re.sub(r"<style>.*?</style>", "", render(*stopped), flags=re.S)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    places = [text.index(words) for words in ("Stop", "Of 1,000 under-13s, 500 instead of 200", "nobody was affected", "Gates", "adds up")]
    assert places == sorted(places)


def test_no_id_of_an_event_or_a_unit_gets_into_the_page(stopped):
    """Reports are passed around; ids, also hashed ones, are not for everybody who reads them."""
    rollout, verdict, table = stopped
    page = render(rollout, verdict, table)
    assert not [unit for unit in table["unit_id"].tolist() if str(unit) in page or f"{unit:x}" in page]
    assert not [key for key in table["event_id"] if bytes(key).hex() in page or str(bytes(key)) in page]
    assert "event-1" not in page and "unit-1" not in page


def test_hostile_names_and_values_stay_text(age, rollout_of, table_of, verdict_of, age_rows):
    """A segment's value comes from outside; a page that runs it would attack whoever audits it."""
    age["gates"][0]["name"] = f"fewer {HOSTILE}"
    rollout = rollout_of(age)
    rows = [{**row, "segments": (HOSTILE,)} for row in age_rows(100, old=2, new=5)]
    table = table_of(rollout, rows)
    verdict = {
        **verdict_of(rollout, table),
        "code_version": HOSTILE,
        "reasons": [HOSTILE],
        "as_of": HOSTILE,
        "watermark": {HOSTILE: HOSTILE},
    }
    page = render(rollout, verdict, table)
    tags = Checked(page).tags
    assert "script" not in [tag for tag, _ in tags]
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
    assert "<script" not in page and "49}}" not in page and page.count("&lt;script&gt;") > 5


def test_every_row_of_the_verdict_stands_in_the_page(stopped):
    """An auditor finds each gate and each segment with its result."""
    rollout, verdict, table = stopped
    page = render(rollout, verdict, table)
    assert page.count('<span class="result ') == len(verdict["gates"])
    for gate in rollout.gates:
        assert gate.name in page


def test_an_empty_table_makes_a_page_that_holds(age, rollout_of, table_of, verdict_of):
    """The page is asked for before the first event comes."""
    rollout = rollout_of(age)
    table = table_of(rollout, [])
    page = render(rollout, verdict_of(rollout, table), table)
    Checked(page)
    assert "Hold" in page and "Which decisions change" not in page and "nan" not in page.replace("finance", "")


def test_without_a_gate_the_page_says_that_nothing_can_promote(age, rollout_of, table_of, verdict_of, age_rows):
    """No gates hold."""
    from dataclasses import replace

    rollout = replace(rollout_of(age), gates=())
    table = table_of(rollout, age_rows(20, old=2, new=5))
    page = render(rollout, verdict_of(rollout, table), table)
    assert "No gate is configured" in page


def test_without_outcomes_there_are_decisions_and_no_picture_by_truth(age, rollout_of, table_of, verdict_of, age_rows):
    """Many teams have no labels at first; what changes can be counted all the same."""
    del age["outcomes"], age["harms"]
    age["gates"] = [{"name": "few change", "metric": {"flip": "over_13"}, "below": 0.4, "on_fail": "hold"}]
    rollout = rollout_of(age)
    table = table_of(rollout, [{**row, "truth": None} for row in age_rows(200, old=2, new=5)])
    page = render(rollout, verdict_of(rollout, table), table)
    Checked(page)
    assert "Which decisions change" in page
    assert not [words for words in ("at each true", "For whom", "<small>no label</small>") if words in page]


def test_a_changed_decision_that_nobody_checked_is_marked(age, rollout_of, table_of, verdict_of, age_rows):
    """A cell without labels is no evidence, however many pairs are in it."""
    rollout = rollout_of(age)
    rows = [{**row, "truth": None} if row["old"][0] < 13 <= row["new"][0] else row for row in age_rows(200, old=2, new=5)]
    table = table_of(rollout, rows)
    page = render(rollout, verdict_of(rollout, table), table)
    assert re.search(r'class="changed unchecked s\d">[\d,]+<small>no label</small>', page)


def test_counts_that_do_not_add_up_are_shown_as_such(stopped):
    """The page computes the identity itself; it does not repeat a claim."""
    rollout, verdict, table = stopped
    good = render(rollout, verdict, table)
    assert good.count("adds up") == 2 and "does not add up" not in good
    verdict["counts"]["read"] += 1
    assert "does not add up" in render(rollout, verdict, table)


def test_a_gate_with_very_many_segments_does_not_flood_the_page(age, rollout_of, table_of, verdict_of, age_rows):
    """Free segment values may be thousands; the worst are shown and the rest are counted."""
    rollout = rollout_of(age)
    table = table_of(rollout, [{**row, "segments": (f"r{k}",)} for k, row in enumerate(age_rows(300, old=2, new=5))])
    page = render(rollout, verdict_of(rollout, table), table)
    assert "more segments stand in verdict.json" in page and len(page) < 300_000


def test_the_same_verdict_gives_the_same_page(stopped):
    """A record names the hash of what people saw."""
    assert render(*stopped) == render(*stopped)


def test_the_page_says_where_the_rollout_stands_and_what_its_next_move_waits_for(stopped):
    """Who is asked for an approval sees on the page that it is the approval that is lacking."""
    rollout, verdict, table = stopped
    in_canary = {**verdict, "stage": "canary", "standing": "paused", "percent": 10.0}
    page = render(rollout, in_canary, table, ["approval: 1 of 2 people approved the next stage", *verdict["reasons"]])
    assert "canary, 10 % of units served by the challenger, paused" in page
    waits = page.partition("What the next move waits for")[2].partition("</ul>")[0]
    assert waits.count("<li>") == 1 and "approval: 1 of 2 people" in waits
    assert "What the next move waits for" not in render(rollout, verdict, table)


def test_companions_speak_of_the_stage_that_the_gates_speak_of(age, rollout_of, table_of, verdict_of, age_rows):
    """A later stage starts anew: what arrived before it was entered is in neither; a row of no configured gate has none."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(400, old=2, new=5))
    whole = companion_views(rollout, verdict_of(rollout, table), table, look=None)
    middle = int(table["arrived"][len(table) // 2])
    verdict = {**verdict_of(rollout, table), "since": timestamp(middle)}
    verdict["gates"] = [*verdict["gates"], {**verdict["gates"][0], "name": "nobody configured this", "segment": None}]
    half = companion_views(rollout, verdict, of_stage(verdict, table), look=None)
    events = HEADS.index("events")
    assert [view.cells[0] for view in half] == [view.cells[0] for view in whole] == [gate.name for gate in rollout.gates]
    last = [int(views[-1].cells[events].replace(",", "")) for views in (whole, half)]
    assert last == [len(table), int((table["arrived"] > middle).sum())] and last[1] < last[0]
    assert f"<td>{last[1]}</td>" in render(rollout, verdict, table) and f"<td>{last[0]}</td>" not in render(rollout, verdict, table)
