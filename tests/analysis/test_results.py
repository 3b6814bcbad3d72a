"""Rows that show themselves: the numbers of the evidence, as a table that notebooks draw and pandas takes."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from analysis.evidence import Evidence, combine
from analysis.plan import Plan
from analysis.results import COLUMNS, HOUR_US, results
from analysis.simulate import ages, hours
from analysis.types import Gate, InputError, Metric, PairTable

HOSTILE = "<script>alert('x')</script>"
GATES = (
    Gate(name=f"flips {HOSTILE}", metric=Metric(kind="flip", policy="over_18"), word="below", limit=0.2, each=(("gender",),)),
    Gate(name="minors", metric=Metric(kind="harm", policy="over_18", truth=False, decisions=("true",)), word="worse_by_at_most", limit=0.1),
    Gate(name="slow", metric=Metric(kind="latency", quantile=0.9), word="below", limit=80.0),
)
PLAN = Plan(GATES, alpha=0.05, n_stages=2, listed={"gender": ("female", "male")})


def frame_of(table: PairTable) -> pd.DataFrame:
    """A pair table as people keep it: words, booleans and timestamps in pandas."""
    columns: dict[str, object] = {}
    for name, column in table.columns.items():
        of_truth = name.endswith(".truth")
        words = table.words.get(name if name.startswith("segment.") else name.rpartition(".")[0]) or table.words.get("over_18") * of_truth
        if name in ("arrived", "label_time"):
            columns[name] = pd.to_datetime(pd.Series(np.where(column < 0, np.nan, column)), unit="us")
        elif name == "missing.incumbent" or name.startswith("missing."):
            columns[name] = [None if code < 0 else table.words["missing"][code] for code in column]
        elif words == ("false", "true"):
            columns[name] = [None if code < 0 else bool(code) for code in column]
        elif words:
            columns[name] = [None if code < 0 else words[code] for code in column]
        else:
            columns[name] = [f"{unit:016x}" for unit in column] if name == "unit_id" else column
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def table() -> PairTable:
    """Of half of the answers nobody measured how long they took, so that the upper end of the latency is unknown."""
    rows = ages(np.random.default_rng(12), 3_000)
    return PairTable({**rows.columns, "latency_ms.challenger": np.where(np.arange(3_000) % 2 == 0, np.nan, 10.0)}, rows.words)


def test_the_rows_are_those_of_the_evidence_from_pandas_or_from_a_table(table):
    """To the last bit: a data frame is read as `shadow analyze` reads one, and folded with the same looks."""
    found = results(frame_of(table), PLAN)
    evidence = [Evidence(PLAN, labelled) for labelled in (False, True)]
    for one in evidence:
        one.fold(table, hours(table))
    expected = combine(PLAN, *evidence)
    assert [(r.name, r.segment, r.status, r.log_e_pass, r.estimate) for r in found] == [
        (r.name, r.segment, r.status, r.log_e_pass, r.estimate) for r in expected]
    assert found.rows == results(table, PLAN).rows


def test_a_frame_of_them_can_be_sorted_and_saved(table, tmp_path):
    """Plain columns of plain types: what is unknown is NaN, and a CSV gives it back."""
    frame = results(table, PLAN).frame()
    assert tuple(frame.columns) == COLUMNS and len(frame) == 5
    assert frame["segment"].tolist() == ["", "gender=female", "gender=male", "", ""]
    assert frame.loc[frame["gate"] == "slow", "upper"].isna().all()
    frame.to_csv(tmp_path / "rows.csv", index=False)
    again = pd.read_csv(tmp_path / "rows.csv", keep_default_na=False, na_values=[""])
    assert again["estimate"].tolist() == pytest.approx(frame["estimate"].tolist(), nan_ok=True)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.labels: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.labels += [value or "" for key, value in attrs if key == "aria-label"]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_notebook_shows_a_table_with_a_picture_of_each_interval(table):
    """Every row, its result as a sign and a word, and the picture's numbers for who does not see it; names stay text."""
    found = results(table, PLAN)
    page = Page(found._repr_html_())
    assert page.tags.count("tr") == 6 and page.tags.count("svg") == 5 and "script" not in page.tags
    assert f"flips {HOSTILE}" in page.words
    for row, label in zip((found.rows[0], found.rows[3]), (page.labels[0], page.labels[3]), strict=True):
        assert f"{row.estimate:.4g}" in label and row.status.name.lower() in label


def test_as_text_it_says_the_same_in_a_line_a_row(table):
    """Without a browser."""
    lines = repr(results(table, PLAN)).splitlines()
    assert len(lines) == 5 and lines[3].startswith("minors: ") and "limit 0.1" in lines[3] and "unknown" in lines[4]
    assert repr(results(table, Plan((), alpha=0.05, n_stages=1, listed={}))) == "no gate"


def test_labels_younger_than_they_mature_do_not_count_yet(table):
    """Looks of labelled gates lie `matures_us` behind, as the analyst's do; in the end all labels are in."""
    late = results(table, PLAN, looks_us=24 * HOUR_US, matures_us=30 * HOUR_US)
    assert late.rows[3].n_units == results(table, PLAN).rows[3].n_units


def test_a_frame_that_is_no_pair_table_is_refused():
    with pytest.raises(InputError, match="the table has no column"):
        results(pd.DataFrame({"old": [1.0]}), PLAN)
