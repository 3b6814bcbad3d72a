"""`shadow compare`: right numbers from clean tables, and a clear word for every way in which real ones are not."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from harness import config
from harness.commands import draft as drafting
from harness.commands.compare import Ask, Compared, compare
from harness.core.errors import UsageError

N = 800


def rows(n: int = N) -> list[dict[str, Any]]:
    """People with two rows each; the new model is worse for under-13s by a known number, and each fifth row has no truth."""
    rng = random.Random(20260401)
    found = []
    for k in range(n):
        unit = k // 2
        age = 9 + unit % 12
        old = 10.0 if age < 13 else 15.0
        new = 14.0 if age < 13 and unit % 4 == 0 else old + 0.5
        found.append({
            "id": f"e{k}", "user": f"u{unit}", "gender": "fm"[unit % 2], "country": f"c{rng.randrange(40)}", "old_age": old, "new_age": new,
            "true_age": "" if k % 5 == 4 else age,
        })  # fmt: skip
    return found


def write(path: Path, table: list[dict[str, Any]], **kinds: Any) -> Path:
    pd.DataFrame(table).to_csv(path, index=False, **kinds)
    return path


def ask(*files: Path, **changed: Any) -> Ask:
    words: dict[str, Any] = {"old": "old_age", "new": "new_age", "truth": "true_age", "at": (13.0, 16.0), "unit": "user", "by": ("gender",)}
    return Ask(files=files, **{**words, **changed})


def compared(*files: Path, **changed: Any) -> Compared:
    return compare(ask(*files, **changed), code_version="0")


def shadow(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    return write(tmp_path / "scores.csv", rows())


def numbers(found: Compared) -> dict[str, tuple[int, float | None, float | None]]:
    return {shift.what: (shift.n_units, shift.old, shift.new) for shift in found.shifts}


def test_the_numbers_are_those_of_a_plain_loop(scores):
    """Each person counts once, by the first row of the class that has both scores and a truth."""
    seen: set[str] = set()
    n = old = new = 0
    for row in rows():
        if row["true_age"] != "" and row["true_age"] < 13 and row["user"] not in seen:
            seen.add(row["user"])
            n, old, new = n + 1, old + (row["old_age"] >= 13), new + (row["new_age"] >= 13)
    found = compared(scores)
    assert numbers(found)["under 13, let in"] == (n, old / n, new / n)
    assert (n, old, new) == (136, 0, 34)
    shift = next(s for s in found.shifts if s.what == "under 13, let in")
    assert shift.low is not None and shift.high is not None
    assert 0 < shift.low < new / n < shift.high
    assert shift.says == "worse"
    assert found.verdict["flips"]["over_13"] == {
        "pairs": N,
        "false->true": sum(r["old_age"] < 13 <= r["new_age"] for r in rows()),
        "true->false": 0,
    }


def test_both_directions_stand_at_each_line_and_the_loss_below(scores):
    """A model that lets fewer children in by stopping everybody is no better."""
    assert list(numbers(compared(scores))) == [
        "under 13, let in", "13 or over, stopped", "under 16, let in", "16 or over, stopped", "mean absolute error, years",
    ]  # fmt: skip


def test_the_worst_group_is_named_for_each_harm(scores):
    """An average hides whom it hurts."""
    worst = {shift.what: shift for shift in compared(scores).groups}
    assert worst["under 13, let in: gender f"].new == pytest.approx(0.5)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "parquet", "semicolons.csv", "bom.csv"])
def test_every_kind_of_file_gives_the_same_numbers(tmp_path, scores, suffix):
    """People have what their warehouse or spreadsheet gave them."""
    path, table = tmp_path / f"other.{suffix}", rows()
    if suffix == "parquet":
        pd.DataFrame([{**row, "true_age": row["true_age"] or None} for row in table]).to_parquet(path)
    elif "jsonl" in suffix:
        opened = gzip.open if suffix.endswith("gz") else open
        with opened(path, "wt") as out:
            out.writelines(json.dumps({**row, "true_age": row["true_age"] or None}) + "\n" for row in table)
    else:
        separator = "\t" if suffix == "tsv" else ";" if "semicolons" in suffix else ","
        write(path, table, sep=separator, encoding="utf-8-sig" if "bom" in suffix else "utf-8")
    assert numbers(compared(path)) == numbers(compared(scores))


def test_the_draft_is_a_rollout_that_is_accepted_and_the_report_a_page(scores, tmp_path):
    """The first five minutes end with something to keep: a page to show and a config to go on with."""
    done = shadow("compare", scores, "--old", "old_age", "--new", "new_age", "--truth", "true_age", "--at", "13,16", "--unit", "user",
                  "--by", "gender,country", "--out", "out", folder=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "under 13, let in" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "rollout.yaml"}
    assert shadow("validate", "out/rollout.yaml", folder=tmp_path).returncode == 0
    rollout = config.load(tmp_path / "out" / "rollout.yaml")
    assert [segment.name for segment in rollout.events.segments] == ["country", "gender"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "under-13s" in page
    assert "u17" not in page and "e100" not in page


def test_without_a_truth_there_is_no_table_of_errors_and_no_empty_one(scores, tmp_path):
    """Heads without a row look as if something was lost."""
    done = shadow("compare", scores, "--old", "old_age", "--new", "new_age", "--at", "13", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "where the models differ, not which one is right" in done.stdout and "decisions at 13" in done.stdout
    assert "the new is" not in done.stdout


def test_a_file_where_the_folder_of_the_results_should_be_is_named(scores, tmp_path):
    """Exit 2 with what was expected; the file stays as it is."""
    (tmp_path / "out").write_text("mine")
    done = shadow("compare", scores, "--old", "old_age", "--new", "new_age", "--at", "13", "--out", "out", folder=tmp_path)
    assert done.returncode == 2
    assert "--out out: is a file; expected a folder" in done.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_machines_get_one_document(scores, tmp_path):
    """A notebook or a pipeline reads the same facts."""
    done = shadow("compare", scores, "--old", "old_age", "--new", "new_age", "--truth", "true_age", "--at", "13", "--json", folder=tmp_path)
    said = json.loads(done.stdout)
    assert [row["what"] for row in said["numbers"]] == ["under 13, let in", "13 or over, stopped", "mean absolute error, years"]
    assert any("each row is a person" in line for line in said["assumed"])


def test_a_group_column_of_many_values_keeps_the_largest(scores):
    """Forty countries are forty gates that never decide: the twelve largest are told apart."""
    found = compared(scores, by=("country",))
    sizes = pd.Series([row["country"] for row in rows()]).value_counts()
    listed = found.rollout.events.segments[0].values
    assert len(listed) == 12
    assert min(sizes[value] for value in listed) >= max(sizes[value] for value in sizes.index if value not in listed)
    left = int(sum(sizes[value] for value in sizes.index if value not in listed))
    assert f"country has 40 values: the 12 largest are told apart, the other {left} rows are other" in found.notes.assumed
    assert (found.table["segment.country"] == found.table.words["segment.country"].index("other")).sum() == left


def test_two_files_are_joined_by_their_ids(tmp_path, scores):
    """The new model was often scored later, by another job, in another order."""
    one = write(tmp_path / "one.csv", [{k: v for k, v in row.items() if k != "new_age"} for row in rows()])
    shuffled = [{"id": row["id"], "score": row["new_age"]} for row in rows()]
    random.Random(7).shuffle(shuffled)
    other = write(tmp_path / "two.csv", shuffled)
    assert numbers(compared(one, other, new="score", on="id")) == numbers(compared(scores))


def test_rows_of_only_one_file_are_counted(tmp_path):
    """A row that the new model never scored is missing evidence, and never left out in silence."""
    one = write(tmp_path / "one.csv", [{k: v for k, v in row.items() if k != "new_age"} for row in rows()])
    other = write(tmp_path / "two.csv", [*({"id": row["id"], "new_age": row["new_age"]} for row in rows()[10:]), {"id": "z", "new_age": 3}])
    found = compared(one, other, on="id")
    assert "10 rows of file 1 are not in file 2: the new model has no answer there" in found.notes.found
    assert "1 rows of file 2 are not in file 1: left out" in found.notes.found
    assert found.verdict["lanes"]["challenger"] == {"answered": N - 10, "no_answer": 10}


def test_what_is_no_number_is_counted_with_its_rows_and_not_shown(tmp_path):
    """A cell may hold a name; where it stands is enough to find it."""
    table = rows()
    for k, cell in ((3, "Alice Smith"), (7, "inf"), (9, "1e999"), (11, ""), (12, "n/a"), (13, " 15.5 ")):
        table[k]["old_age"] = cell
    found = compared(write(tmp_path / "scores.csv", table))
    said = "\n".join(found.notes.found)
    assert "old_age: 3 cells are not finite numbers (rows 4, 8, 10): no answer of that model (bad_output)" in said
    assert "old_age: 2 cells are empty (rows 12, 13): no answer of that model (no_answer)" in said
    assert "Alice" not in said
    assert found.verdict["lanes"]["incumbent"] == {"answered": N - 5, "bad_output": 3, "no_answer": 2}
    assert found.verdict["counts"]["paired"] == N - 5


def test_rows_without_a_truth_are_kept_as_unlabelled(scores):
    """They cannot say who is right, and still say where the decisions differ."""
    found = compared(scores)
    assert "true_age: 160 of 800 rows have no truth: kept as unlabelled, they count where decisions differ" in found.notes.found
    assert found.verdict["flips"]["over_13"]["pairs"] == N
    assert found.verdict["outcomes"]["joined"] == N - 160


def test_an_id_that_stands_twice_counts_once(tmp_path):
    """A log that was written twice must not make anyone surer."""
    found = compared(write(tmp_path / "scores.csv", rows() + rows()[:30]))
    assert any(
        "30 rows repeat an id: the first counts (rows 801, 802, 803, 804, 805 and 25 more); left out" in line for line in found.notes.found
    )
    assert len(found.table) == N


def test_without_a_unit_each_row_is_its_own_and_that_is_said(scores):
    """The interval is too narrow when a busy person counts many times; the reader must know what was assumed."""
    found = compared(scores, unit=None)
    assert len(np.unique(found.table["unit_id"])) == N
    assert any("name their column with --unit" in line for line in found.notes.assumed)


def test_rows_that_name_nobody_are_units_of_their_own(tmp_path):
    """An empty cell is no person that all of them share."""
    table = rows()
    for k in range(10):
        table[k]["user"] = ""
    found = compared(write(tmp_path / "scores.csv", table))
    assert "user: 10 rows name nobody (rows 1, 2, 3, 4, 5 and 5 more): each is a unit of its own" in found.notes.found
    assert len(np.unique(found.table["unit_id"])) == 10 + (N - 10) // 2


def moderation(n: int = 400) -> list[dict[str, Any]]:
    rng = random.Random(3)
    return [{"item": k, "v1": round(rng.random(), 3), "v2": round(rng.random(), 3), "bad": ("true", "false", "")[k % 3]} for k in range(n)]


def test_a_boolean_truth_is_the_class_at_every_line(tmp_path):
    """Content is bad or not; a score in 0 to 1 is cut, the reviewer's word is not."""
    path = write(tmp_path / "moderation.csv", moderation())
    found = compared(path, old="v1", new="v2", truth="bad", at=(0.5,), unit="item", by=())
    assert list(numbers(found)) == ["true, missed at 0.5", "false, flagged at 0.5", "mean squared error"]
    bad = [row for row in moderation() if row["bad"] == "true"]
    assert numbers(found)["true, missed at 0.5"] == (len(bad), *(sum(r[v] < 0.5 for r in bad) / len(bad) for v in ("v1", "v2")))
    assert found.rollout.outputs["bad"].range == (0.0, 1.0)
    assert "scores lie in 0 to 1: the smallest round range that holds every value" in found.notes.assumed


def test_a_table_without_times_tells_no_date_and_writes_its_line_with_a_point(tmp_path):
    """All its rows are one look: an alarm has no moment; and 0_5 in a name of the config is 0.5 in words."""
    found = compared(write(tmp_path / "moderation.csv", moderation(2_000)), old="v1", new="v2", truth="bad", at=(0.5,), unit="item", by=())
    failed = [reason for reason in found.verdict["reasons"] if reason.startswith("few decisions change at 0.5: failed")]
    assert failed and not any("2000-" in reason for reason in found.verdict["reasons"])
    assert all(row["alarmed_at"] is None for row in found.verdict["gates"])
    assert {"no more missed at 0.5", "no more wrongly flagged at 0.5"} <= {row["name"] for row in found.verdict["gates"]}


def test_a_boolean_truth_needs_no_line(tmp_path):
    """Half is what everybody means, and it is said."""
    found = compared(write(tmp_path / "moderation.csv", moderation()), old="v1", new="v2", truth="bad", at=(), unit="item", by=())
    assert list(found.rollout.policies) == ["flagged_0_5"]
    assert "no --at: the line is 0.5" in found.notes.assumed


def test_without_a_truth_only_the_decisions_are_compared(scores):
    """Labels often come later; where the models differ can be seen now."""
    found = compared(scores, truth=None)
    assert found.shifts == ()
    assert found.rollout.outcomes is None
    assert {gate.metric.kind for gate in found.rollout.gates} == {"flip", "missing"}


def test_an_age_of_minus_one_is_no_age(tmp_path):
    """A sentinel would be a newborn in every average."""
    table = rows()
    table[0]["new_age"], table[5]["true_age"] = -1, 999
    found = compared(write(tmp_path / "scores.csv", table))
    assert "new_age: 1 ages are below 0 or over 120: counted as no age (bad_output)" in found.notes.found
    assert "true_age: 1 ages are below 0 or over 120: kept as unlabelled" in found.notes.found
    assert found.verdict["lanes"]["challenger"]["bad_output"] == 1


def test_names_and_values_of_any_kind_make_a_valid_draft(tmp_path):
    """Columns are named by people: blanks, dots, quotes, slashes, other alphabets, and words that YAML takes for something else."""
    strange = {"old_age": "model: 'old' #1", "new_age": "новая/модель", "true_age": "true age~", "gender": "yes", "user": "user\n: x"}
    table = [{strange.get(k, k): v for k, v in row.items()} for row in rows()]
    for k, value in enumerate(["null", "no", "other", "unknown", "{", "1.0", "- a", "ü\t", "false"]):
        table[k]["yes"] = value
    path = tmp_path / "2026 scores (final).csv"
    write(path, table)
    found = compared(path, old=strange["old_age"], new=strange["new_age"], truth=strange["true_age"], unit=None, by=("yes",))
    assert config.parse(yaml.safe_load(found.yaml), source="a draft", folder=tmp_path).sha256 == found.rollout.sha256
    assert set(found.rollout.events.segments[0].values) >= {"null", "other", "unknown", "f", "m"} - {"null"}


def test_a_table_of_one_row_works(tmp_path):
    """One row is no evidence, and no error."""
    found = compared(write(tmp_path / "scores.csv", rows(1)))
    assert [shift.says for shift in found.shifts] == ["cannot tell"] * 5


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "an empty file": ("", {}, "is empty; expected a first line with the names of the columns"),
    "a header alone": ("id,user,gender,old_age,new_age,true_age\n", {}, r"has a header \(id, user, .*\) and no row"),
    "a wrong column": ("id,old_age\n1,2\n", {"old": "older_age"}, "--old older_age: there is no such column; the table has id, old_age"),
    "a double column": ("a,a\n1,2\n", {}, "the column a stands twice in the header"),
    "too many fields": ("old_age,new_age\n1,2\n1,2,3\n", {}, "cannot be read: .*Expected 2 fields"),
    "text alone": (
        "old_age,new_age\nyoung,2\nold,3\n",
        {"truth": None},
        "--old old_age: none of its 2 filled cells is a number; is it another column",
    ),
    "decimal commas": ('old_age,new_age\n"12,5",2\n"13,5",3\n', {"truth": None}, "they look like numbers with a decimal comma"),
    "a truth without one": ("old_age,new_age,true_age\n1,2,\n", {}, "--truth true_age: every cell of it is empty"),
    "a line outside": ("old_age,new_age,true_age\n1,2,3\n", {"at": (300.0,)}, "--at 300: the scores lie in 0 to 120"),
    "no line": ("old_age,new_age,true_age\n1,2,3\n", {"at": ()}, "--at: expected the lines at which a score becomes a decision"),
    "an empty group": ("old_age,new_age,true_age,gender\n1,2,3,\n", {"unit": None}, "--by gender: every cell of it is empty"),
}


@pytest.mark.parametrize(("content", "changed", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_compared_is_refused_with_what_to_do(tmp_path, content, changed, said):
    """A new user gets one chance to understand."""
    path = tmp_path / "scores.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        compared(path, **{"unit": None, "by": (), **changed} if "gender" not in content else changed)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("scores.xlsx", b"PK", "expected a name that ends with .csv"),
        ("scores.csv", "old_age\n\xe4\n".encode("latin-1"), "is not UTF-8 text"),
        ("scores.csv.gz", b"old_age,new_age\n", "cannot be read"),
        ("scores.jsonl", b'{"old_age": 1}\n[1]\n', "line 2 is no JSON object"),
        ("scores.parquet", b"old_age\n1\n", "is no Parquet file"),
        ("none.csv", None, "no such file"),
    ],
)
def test_a_file_that_cannot_be_read_ends_with_exit_2(tmp_path, name, content, said):
    """Nothing is a crash that a user can mend."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = shadow("compare", name, "--old", "old_age", "--new", "new_age", "--at", "13", folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_two_files_need_the_name_of_the_id(scores):
    """Rows that are only put side by side would be paired by luck."""
    with pytest.raises(UsageError, match="two files need --on COLUMN"):
        compared(scores, scores)
    with pytest.raises(UsageError, match=r"--on key: file 1 has no such column; it has id, user"):
        compared(scores, scores, on="key")


@pytest.mark.parametrize("text", ["13", "Toxicity (new)", "ÄÖÜ", "", "a" * 200, "truth"])
def test_a_key_is_one_that_a_config_takes(text):
    """A draft that `validate` refuses is worse than none."""
    import re

    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,99}", drafting.key(text, frozenset({"truth"})))
    assert drafting.key(text, frozenset({"truth"})) != "truth"
