"""The records on paper: complete in one file, harmless whatever stands in them, and readable when parts are missing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from decided import CONFIG
from rich.console import Console

from harness.commands.audit import readable
from harness.core.records import canonical, digest
from harness.pages.records import render, sections, shown
from harness.ports.journal import ROOT, Link

HOSTILE = "<script>alert('x')</script>\"'&{{7*7}} [bold]"
BY = {"name": "ada", "role": "policy", "via": "cli"}


def links(*records: dict[str, Any]) -> list[Link]:
    found, before = [], ROOT
    for record in records:
        body = canonical({"at": "2026-03-02T09:00:00Z", "by": BY, "reason": "because", **record})
        found.append(Link(hash=digest(before, body), previous=before, body=body))
        before = found[-1].hash
    return found


REGISTERED = {"kind": "registered", "config": CONFIG, "sha256": "0" * 64}


class Closed(HTMLParser):
    """Every element that is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_from_outside_and_has_no_script():
    """It is read offline, years later, and printed."""
    page = render(*readable(links(REGISTERED, {"kind": "approved", "stage": 1}, {"kind": "paused"})))
    assert not re.search(r"https?://|//cdn|@import|url\(|<script|<link|<img|\ssrc=", page)
    assert "default-src 'none'" in page and "@media print" in page
    Closed(page)


def test_every_record_is_one_section_with_its_hash():
    """The number, what happened, who, why; the hash is what the next record names."""
    chain = links(REGISTERED, {"kind": "approved", "stage": 1}, {"kind": "rolled_back", "reason": "flips: failed"})
    found = sections(*readable(chain))
    assert [section.hash for section in found] == [link.hash for link in chain]
    assert [section.title for section in found] == [
        "The question was registered, before the first look", "The next stage was approved: canary at 1 % (stage 1 of 2)",
        "The rollout was stopped: the incumbent decides",
    ]  # fmt: skip
    assert (found[2].who, found[2].reason) == ("ada (policy), from cli", "flips: failed")


def test_what_somebody_wrote_is_shown_as_text():
    """Reasons and names are anybody's: no markup of theirs gets into a page or a terminal."""
    record = {"kind": "waived", "gate": HOSTILE, "expires": HOSTILE, "reason": HOSTILE, "by": {**BY, "name": HOSTILE}}
    page = render(*readable(links(REGISTERED, record)))
    assert "<script>alert" not in page and "49" not in page.partition("waived")[2].partition("</section>")[0]
    console = Console(record=True, width=300)
    for piece in shown(*readable(links(REGISTERED, record))):
        console.print(piece)
    assert HOSTILE in console.export_text()


@pytest.mark.parametrize("part", ["question", "models", "population", "evidence", "people", "authority", "reproduction", "seen"])
@pytest.mark.parametrize("value", [None, {}, [], "x", {"rows": 1}, {"lanes": 3}, {"flips": {"a": 1}}, {"coverage": [1], "labels": "x"}])
def test_a_record_that_is_not_ours_is_shown_as_far_as_it_can_be_read(part: str, value: Any):
    """An auditor must see a damaged record, not a crash."""
    chain = links({"kind": "registered", "config": {"rollout": "x"}}, {"kind": "entered", "stage": "one", "evidence": {}, part: value})
    page = render(*readable(chain))
    assert "The next stage was entered: stage one" in page
    assert readable([Link(hash="h", previous="p", body=b"no json")])[0] == [({}, "h")]


def test_a_changed_question_is_shown_as_it_then_stood():
    """Gates of a new attempt are read with the config of that attempt, not with the first."""
    other = {**CONFIG, "gates": [{"name": "only", "metric": {"flip": "over_18"}, "below": 0.2}]}
    row = {"name": "only", "segment": None, "status": "pass", "reason": None, "estimate": 0.01, "lower": 0.0, "upper": 0.1, "n_units": 9,
           "n_events": 9, "estimate_events": 0.01, "limit": 0.2, "alpha": 0.05, "method": "mixture", "log_e_pass": 4.0, "log_e_fail": 0.0,
           "on_fail": "rollback", "dry_run": False, "alarm": False, "alarmed_at": None}  # fmt: skip
    question = {"amendments": [{"at": "2026-03-03T00:00:00Z", "name": "ada", "reason": "a sharper line"}]}
    chain = links(REGISTERED, {"kind": "amended", "config": other, "since": None}, {"kind": "promoted", "evidence": {"gates": [row]},
                                                                                  "question": question})  # fmt: skip
    found = sections(*readable(chain))
    assert found[1].title.startswith("The question was changed")
    assert dict(found[1].facts)["The question"] == ("only: changed decisions of over 18: below 200 per 1,000",)
    assert [gate.name for gate in found[2].gates] == ["only"]
    assert "changed at 2026-03-03T00:00:00Z by ada: a sharper line" in dict(found[2].facts)["The question"]


def test_what_a_person_saw_is_shown_with_that_persons_record_and_its_seal():
    """The numbers on which somebody said yes; and where another number is there by now, which."""
    row = {"name": "flips", "segment": None, "status": "pass", "reason": None, "estimate": 0.01, "lower": 0.0, "upper": 0.1, "n_units": 9,
           "n_events": 9, "estimate_events": 0.01, "limit": 0.6, "alpha": 0.05, "method": "mixture", "log_e_pass": 4.0, "log_e_fail": 0.0,
           "on_fail": "rollback", "dry_run": False, "alarm": False, "alarmed_at": None}  # fmt: skip
    seen = {"verdict": "promote", "stage_index": 0, "as_of": "2026-03-02T08:00:00Z", "gates": [row]}
    chain = links(REGISTERED, {"kind": "approved", "stage": 1, "seen": seen}, {"kind": "approved", "stage": 1, "seen": {"as_of": None}})
    chain = links(*[dict(readable(chain)[0][n][0]) for n in range(3)],
                  {"kind": "sealed", "of": chain[1].hash, "unlike": ["flips"], "evidence": {"gates": [row]}},
                  {"kind": "sealed", "of": "?", "why": "it could not be read"})  # fmt: skip
    found = sections(*readable(chain))
    assert dict(found[1].facts)["What was seen"] == ("promote in stage 0, as of 2026-03-02T08:00:00Z",)
    assert dict(found[2].facts)["What was seen"] == ("no look yet",)
    assert [[gate.name for gate in section.gates if gate.status == "pass"] for section in found] == [[], ["flips"], [], ["flips"], []]
    assert found[3].title == "What a person had seen was sealed"
    assert dict(found[3].facts)["What was seen"] == (f"by whoever made the record {chain[1].hash}", "by now another number: flips")
    assert dict(found[4].facts)["What was seen"][1] == "it could not be read"
