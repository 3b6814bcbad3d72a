"""`shadow analyze`: the gates over a pair table from a file give the numbers of the replay that wrote it, or say what is wrong."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from analysis.types import PairTable
from harness import config
from harness.adapters import parquet
from harness.commands.analyze import analyze, table_of
from harness.commands.companions import with_companions
from harness.core.errors import UsageError
from harness.core.rollout import Rollout

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
CONFIG: dict[str, Any] = {
    "rollout": "age-tables",
    "events": {"topic": "age.events", "unit": "subject", "segments": {
        "region": {"field": "/region", "values": ["SE", "ES"]}, "gender": "/gender", "true_age": {"truth": "age", "bins": [0, 18, 120]}}},
    "models": {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:challenger.jsonl", "timeout": "300ms"}},
    "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
    "policies": {
        "over_18": {"output": "age", "at_least": {"by": "region", "default": 18, "ES": 16}},
        "adult": {"output": "age", "at_least": 18, "decide": [{"allow": {"at_least": 25}}, {"check_id": {"at_least": 18}}, "block"],
                  "incumbent": {"decision": "/action"}},
    },
    "harms": {"minor_in": {"policy": "over_18", "truth": False, "decision": True},
              "minor_allowed": {"policy": "adult", "truth": False, "decision": "allow"}},
    "outcomes": {"topic": "age.verified", "event": "/event_id", "truth": {"age": "/age"}, "matures": "1d"},
    "sample": {"percent": 100},
    "pairing": {"window": "30s"},
    "gates": [
        {"name": "minors", "metric": {"harm": "minor_in"}, "better_by_more_than": 0, "each": ["region", ["region", "gender"]]},
        {"name": "allowed", "metric": {"harm": "minor_allowed"}, "worse_by_at_most": 0.05, "on_fail": "hold"},
        {"name": "guesses", "metric": {"loss": "absolute_error", "output": "age"}, "worse_by_at_most": 1, "each": ["true_age"]},
        {"name": "flips", "metric": {"flip": "adult"}, "below": 0.3, "on_fail": "hold", "each": ["gender"]},
        {"name": "answers", "metric": {"missing": "challenger"}, "below": 0.2},
        {"name": "fast", "metric": {"latency": "p95"}, "below": "250ms", "on_fail": "hold"},
    ],
    "stages": [{"shadow": {"percent": 100}}, {"promote": {"bake": "1d"}}],
}  # fmt: skip


def stream(folder: Path, n: int = 1_500) -> None:
    """Events of units that come several times, some without an answer, some with labels, one action that no config knows."""
    rng = random.Random(20260302)
    names = ("events.jsonl", "outcomes.jsonl", "challenger.jsonl")
    with ExitStack() as opened:
        events, outcomes, answers = (opened.enter_context((folder / name).open("w")) for name in names)
        for k in range(n):
            at = START + timedelta(minutes=k, seconds=rng.randrange(50))
            unit = rng.randrange(n // 2)
            age = 8 + unit % 40
            if rng.random() > 0.03:
                answer = {"event_id": f"e{k}", "output": {"age": max(0.0, age + rng.gauss(0, 2))}, "latency_ms": rng.uniform(5, 310)}
                answers.write(json.dumps(answer) + "\n")
            data = {"region": ("SE", "ES", "NO", None)[unit % 4], "gender": "fm"[unit % 2], "old": {"age": max(0.0, age + rng.gauss(1, 4))},
                    "action": rng.choice(["allow", "block", "check_id", "warned"])}  # fmt: skip
            event = {"specversion": "1.0", "id": f"e{k}", "source": "app", "type": "age", "subject": f"u{unit}", "time": at.isoformat()}
            events.write(json.dumps(event | {"data": data}) + "\n")
            if rng.random() < 0.7:
                label = {"specversion": "1.0", "id": f"o{k}", "source": "desk", "type": "label",
                         "time": (at + timedelta(hours=rng.uniform(0, 30))).isoformat()}  # fmt: skip
                outcomes.write(json.dumps(label | {"data": {"event_id": f"e{k}", "age": age}}) + "\n")


def shadow(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config, the stream, and what a replay made of it in `out`; up to a moment in `half`."""
    folder = tmp_path_factory.mktemp("replayed")
    (folder / "rollout.yaml").write_text(yaml.safe_dump(CONFIG))
    stream(folder)
    words = ["replay", "rollout.yaml", "--events", "events.jsonl", "--outcomes", "outcomes.jsonl"]
    for done in (
        shadow(*words, "--out", "out", folder=folder),
        shadow(*words, "--out", "half", "--until", "2026-03-03T12:00:00Z", folder=folder),
    ):
        assert done.returncode in (0, 3, 4), done.stderr
    return folder


@pytest.fixture(scope="module")
def rollout(replayed: Path) -> Rollout:
    return config.load(replayed / "rollout.yaml")


@pytest.fixture
def columns(replayed: Path) -> dict[str, Any]:
    """The columns of the replay's pair table, to change before use."""
    return dict(parquet.read(replayed / "out" / "pairs.parquet")[0])


def verdict(replayed: Path, name: str = "out") -> dict[str, Any]:
    return json.loads((replayed / name / "verdict.json").read_text())


def read(rollout: Rollout, columns: dict[str, Any]) -> PairTable:
    return table_of(rollout, columns, source="pairs.parquet")


def test_the_numbers_are_those_of_the_replay(replayed):
    """What a person recomputes from the exported table must be what the gates saw: every row, to the last bit."""
    done = shadow("analyze", "rollout.yaml", "--pairs", "out/pairs.parquet", "--json", folder=replayed)
    said, expected = json.loads(done.stdout), verdict(replayed)
    assert done.returncode == {"promote": 0, "hold": 3, "rollback": 4}[expected["verdict"]]
    assert [{key: value for key, value in row.items() if key != "companion"} for row in said["gates"]] == expected["gates"]
    assert (said["verdict"], said["reasons"], said["flips"]) == (expected["verdict"], expected["reasons"], expected["flips"])
    assert len([row for row in said["gates"] if row["segment"]]) >= 12
    assert done.stderr == ""


def test_a_moment_to_stop_at_gives_what_was_known_then(replayed):
    """An auditor asks what the numbers were that day: later events, later labels and labels that had not matured did not count."""
    done = shadow("analyze", "rollout.yaml", "--pairs", "out/pairs.parquet", "--until", "2026-03-03T12:00:00Z", "--json", folder=replayed)
    gates = [{key: value for key, value in row.items() if key != "companion"} for row in json.loads(done.stdout)["gates"]]
    assert gates == verdict(replayed, "half")["gates"]
    assert gates != verdict(replayed)["gates"]


def test_people_read_the_sentence_the_table_and_the_verdict(replayed):
    """Without --json the same facts stand in words."""
    done = shadow("analyze", "rollout.yaml", "--pairs", "out/pairs.parquet", folder=replayed)
    expected = verdict(replayed)
    assert (
        done.stdout.splitlines()[-1]
        == f"verdict: {expected['verdict']}, {expected['counts']['paired']:,} pairs of 1,500 rows of out/pairs.parquet"
    )
    for reason in expected["reasons"]:
        assert f"  - {reason}" in done.stdout.splitlines()


def test_gates_on_a_canarys_arms_are_not_asked_of_a_table(replayed, columns):
    """A pair table has no arms, so the verdict is that of the other gates, as in the shadow."""
    more = {
        "exposures": {"topic": "age.x", "unit": "subject", "arm": "/arm"},
        "gates": [*CONFIG["gates"], {"name": "split", "metric": {"sample_ratio": "exposures"}, "within": 0.01}],
        "stages": [{"shadow": {}}, {"canary": {"percent": 5}}],
    }
    rollout = config.parse({**CONFIG, **more}, source="test", folder=replayed)
    found = analyze(rollout, read(rollout, columns))
    assert (found["verdict"], found["reasons"]) == (verdict(replayed)["verdict"], verdict(replayed)["reasons"])


def test_decisions_that_are_not_in_the_table_are_made_from_the_outputs(replayed, rollout, columns):
    """A table of scores is enough: the config says what they mean. Only what production recorded cannot be made anew."""
    kept = {name: column for name, column in columns.items() if not name.startswith("over_18.")}
    assert analyze(rollout, read(rollout, kept))["gates"] == verdict(replayed)["gates"]
    without = {name: column for name, column in columns.items() if name != "adult.incumbent"}
    assert analyze(rollout, read(rollout, without))["flips"]["adult"] != verdict(replayed)["flips"]["adult"]


def test_decisions_are_enough_where_no_gate_reads_the_outputs(rollout, columns):
    """A team may export decisions alone; losses then need the outputs, harms do not."""
    document = {**CONFIG, "gates": CONFIG["gates"][:2]}
    small = config.parse(document, source="a test", folder=Path())
    kept = {name: column for name, column in columns.items() if not name.startswith("age.")}
    assert analyze(small, read(small, kept))["gates"] == analyze(small, read(small, columns))["gates"]
    with pytest.raises(UsageError, match=r"need the columns age.incumbent, age.challenger"):
        read(rollout, kept)


def test_decisions_of_another_line_are_refused(columns):
    """A line that was moved since would be judged by decisions that nobody would take now."""
    document = yaml.safe_load(yaml.safe_dump(CONFIG))
    document["policies"]["over_18"]["at_least"]["default"] = 21
    other = config.parse(document, source="a test", folder=Path())
    with pytest.raises(UsageError, match=r"over_18.(incumbent|truth): (decisions|classes) are not those that the config makes of .* rows"):
        read(other, columns)
    kept = {name: column for name, column in columns.items() if not name.startswith("over_18.")}
    assert len(read(other, kept)) == 1_500


def test_a_boolean_truth_is_the_class_itself(columns):
    """A reviewer's yes is not an age of one year."""
    document = {**CONFIG, "gates": CONFIG["gates"][:1]}
    document["events"] = {**CONFIG["events"], "segments": {k: v for k, v in CONFIG["events"]["segments"].items() if k != "true_age"}}
    document["gates"] = [{"name": "minors", "metric": {"harm": "minor_in"}, "better_by_more_than": 0}]
    small = config.parse(document, source="a test", folder=Path())
    truth = columns["truth.age"]
    columns["truth.age"] = pd.Series([None if pd.isna(age) else age >= 18 for age in truth], dtype=object)
    columns.pop("over_18.truth"), columns.pop("adult.truth")
    table = read(small, columns)
    assert sorted(set(table["over_18.truth"].tolist())) == [-1, 0, 1]
    assert (table["over_18.truth"] == 1).sum() == (truth >= 18).sum()


def test_a_value_that_the_config_does_not_list_is_other(rollout, columns):
    """As when the event was read: one value for all that is not listed, one for what is absent."""
    columns["segment.region"] = pd.Series(["SE", "FI", None] * 500)
    table = read(rollout, {name: column for name, column in columns.items() if not name.startswith("over_18.")})
    words = table.words["segment.region"]
    assert {words[code] for code in table["segment.region"].tolist()} == {"SE", "other", "unknown"}


def change(name: str, values: Any) -> Any:
    def changed(columns: dict[str, Any]) -> dict[str, Any]:
        return {**columns, name: values(columns[name])}

    return changed


WRONG = {
    "a column that is missing": (
        lambda c: {k: v for k, v in c.items() if k != "latency_ms.challenger"},
        r"the gates need the columns latency_ms.challenger; the table has .*adult.challenger",
    ),
    "a double event": (change("event_id", lambda c: c.where(c.index != 7, c[0])), "event_id: an event stands in the table more than once"),
    "an unknown reason": (change("missing.challenger", lambda c: c.where(c.isna(), "bored")), "expected null or one of timeout, error"),
    "an unknown decision": (
        change("over_18.incumbent", lambda c: c.map({True: "yes", False: "no"})),
        r"over_18.*expected the decisions false, true",
    ),
    "NaN for an answer": (change("age.incumbent", lambda c: c.where(c.index != 7)), "age.incumbent: expected a value where"),
    "text for numbers": (
        change("age.incumbent", lambda c: c.astype(str)),
        "age.incumbent: expected numbers|age.challenger: expected booleans or words",
    ),
    "an age of 300": (
        change("age.incumbent", lambda c: c.where(c.index != 7, 300.0)),
        "expected values in 0 to 120, .* in 1 of 1,500 rows",
    ),
    "bins of another config": (
        change("segment.true_age", lambda c: c.str.replace("18", "21")),
        "expected null or one of the config's bins",
    ),
}


@pytest.mark.parametrize(("broken", "said"), WRONG.values(), ids=WRONG)
def test_a_table_that_cannot_be_is_refused_with_the_reason(rollout, columns, broken, said):
    """Who gets a table wrong should read what, not a verdict."""
    with pytest.raises(UsageError, match=said):
        analyze(rollout, read(rollout, broken(columns)))


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"event_id,unit_id\n", "is no Parquet file"), (b"", "is no Parquet file")],
    ids=["none", "csv", "empty"],
)
def test_a_file_that_is_no_parquet_ends_with_exit_2_and_a_line(replayed, tmp_path, content, said):
    """The commonest mistake is the wrong file."""
    path = tmp_path / "pairs.parquet"
    if content is not None:
        path.write_bytes(content)
    done = shadow("analyze", "rollout.yaml", "--pairs", path, folder=replayed)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_of_another_rollout_is_named(replayed, tmp_path):
    """It may be meant, as when a gate is tried on last month's table; it must not go unseen."""
    table = pq.read_table(replayed / "out" / "pairs.parquet")
    pq.write_table(table.replace_schema_metadata({"shadow.rollout": "spam-v7"}), tmp_path / "other.parquet")
    done = shadow("analyze", "rollout.yaml", "--pairs", tmp_path / "other.parquet", folder=replayed)
    assert "the table of the rollout spam-v7, analyzed with the gates of age-tables" in done.stderr


# ------------------------------------------------------------------------------------------------------- fixed-sample companions
def companions(replayed: Path, *words: str) -> list[dict[str, Any]]:
    done = shadow("analyze", "rollout.yaml", "--pairs", "out/pairs.parquet", "--json", *words, folder=replayed)
    return json.loads(done.stdout)["gates"]


@pytest.mark.parametrize("until", [(), ("--until", "2026-03-03T12:00:00Z")])
def test_a_companion_counts_the_events_of_its_row(replayed, until):
    """The fixed-sample numbers must speak of the same evidence as the row beside them: same segment, same labels, same moment."""
    rows = companions(replayed, *until)
    assert len(rows) > 12
    for row in rows:
        assert row["companion"]["n_events"] == row["n_events"], row["name"]
        if row["name"] != "fast":  # a latency's companion is the share over the limit, not a quantile
            assert row["companion"]["estimate"] == (None if row["estimate_events"] is None else pytest.approx(row["estimate_events"]))


def test_every_companion_has_the_same_keys(replayed):
    """A reader's script must not guess which keys are there."""
    rows = companions(replayed)
    assert {tuple(row["companion"]) for row in rows} == {tuple(rows[0]["companion"])}
    by_name = {row["name"]: row["companion"] for row in rows if row["segment"] is None}
    assert by_name["answers"]["gained"] is None and by_name["minors"]["mcnemar_exact"] is not None
    assert all("descriptive" in row["companion"]["method"] for row in rows)


def test_people_see_companions_in_a_table_of_their_own_and_on_the_page(replayed):
    """Named as descriptive, so that nobody takes them for the gates' results."""
    done = shadow("analyze", "rollout.yaml", "--pairs", "out/pairs.parquet", folder=replayed)
    assert "descriptive: one look, every event, clustered by unit; gates are not decided on it" in done.stdout
    page = (replayed / "out" / "report.html").read_text()
    words = "What one fixed-sample test would say of the same numbers"
    assert words in page
    gained = {row["name"]: row["companion"] for row in companions(replayed) if row["segment"] is None}["minors"]
    assert f"{gained['gained']}, {gained['lost']}</td>" in page[page.index(words) :]


def test_analyze_says_whether_the_models_are_equally_accurate(replayed):
    """For every policy with labels: of several decisions an error is what the harms name; the same counts stand on the page."""
    done = shadow("analyze", "rollout.yaml", "--pairs", "out/pairs.parquet", "--json", folder=replayed)
    found = {one["name"]: one for one in json.loads(done.stdout)["equality"]}
    assert set(found) == {"over_18", "adult"}
    assert found["over_18"]["only_challenger"] > found["over_18"]["only_other"] > 0
    page = (replayed / "out" / "report.html").read_text()
    cells = f"<td>{found['over_18']['only_challenger']}</td><td>{found['over_18']['only_other']}</td>"
    assert "Are the models equally accurate" in page and cells in page
    spoken = shadow("analyze", "rollout.yaml", "--pairs", "out/pairs.parquet", folder=replayed).stdout
    assert "over 18: equally accurate among labelled?" in spoken


def test_a_replica_in_the_table_answers_whether_the_challenger_is_a_copy(replayed, columns):
    """Where models.replica was asked, its outputs stand in the table; here it answers as the challenger does."""
    document = {**CONFIG, "models": {**CONFIG["models"], "replica": {"of": "incumbent", "percent": 100}}}
    (replayed / "replica.yaml").write_text(yaml.safe_dump(document))
    with_replica = config.load(replayed / "replica.yaml")
    columns |= {"age.replica": columns["age.challenger"], "missing.replica": columns["missing.challenger"]}
    table = read(with_replica, columns)
    found = with_companions(with_replica, analyze(with_replica, table), table, look=None)["equality"]
    copies = {one["name"]: one for one in found if "mere copy" in one["question"]}
    assert {"over_18", "age"} <= set(copies) and not any(one["different"] for one in copies.values())
    assert (copies["age"]["only_challenger"], copies["age"]["only_other"]) == (0, 0)
