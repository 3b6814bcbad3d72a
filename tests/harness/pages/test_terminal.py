"""What the command line prints of a verdict."""

from __future__ import annotations

import io

from rich.console import Console

from harness.pages.terminal import gate_table, summary_lines


def printed(rollout, verdict) -> str:
    out = io.StringIO()
    Console(file=out, width=140, color_system=None).print(gate_table(rollout, verdict))
    return out.getvalue()


def test_every_gate_has_a_line_with_its_result(age, rollout_of, table_of, verdict_of, age_rows):
    """Facts to stdout: estimate, interval, limit, result."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(400, old=2, new=5))
    lines = printed(rollout, verdict_of(rollout, table)).splitlines()
    assert [word for word in ("gate", "estimate", "interval", "limit", "result") if word in lines[0]] == [
        "gate",
        "estimate",
        "interval",
        "limit",
        "result",
    ]
    assert any(line.startswith("fewer children") and line.rstrip().endswith("FAIL") for line in lines)
    assert any(line.startswith("it answers") and line.rstrip().endswith("PASS") for line in lines)


def test_the_gate_that_a_verdict_has_no_row_for_is_undecided(age, rollout_of, table_of, verdict_of, age_rows):
    """A configured gate without a result never looks like a pass."""
    rollout = rollout_of(age)
    verdict = verdict_of(rollout, table_of(rollout, age_rows(50, old=2, new=5)))
    verdict["gates"] = [row for row in verdict["gates"] if row["name"] != "it answers"]
    assert any(line.startswith("it answers") and "UNDECIDED" in line for line in printed(rollout, verdict).splitlines())


def test_markup_in_a_name_is_printed_as_it_is(age, rollout_of, table_of, verdict_of, age_rows):
    """A gate called [red] is no colour."""
    age["gates"][0]["name"] = "[red]x[/red]"
    rollout = rollout_of(age)
    assert "[red]x[/red]" in printed(rollout, verdict_of(rollout, table_of(rollout, age_rows(20, old=2, new=5))))


def test_the_summary_names_the_gates_behind_the_verdict(age, rollout_of, table_of, verdict_of, age_rows):
    """The last line is for a log: verdict, why, stage, pairs."""
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(400, old=2, new=5))
    first, last = summary_lines(rollout, verdict_of(rollout, table), table)
    assert first.startswith("Stop. Of 1,000 under-13s, 500 instead of 200")
    assert last == "verdict: rollback (fewer children FAIL), stage SHADOW, 800 pairs as of 2026-03-16T00:00:00Z"
