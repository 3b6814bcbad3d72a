"""Every command: its facts on stdout, all else on stderr, wrong use with exit code 2 and a message that names what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

EXAMPLES = ("age-regression.yaml", "content-moderation.yaml", "recorded-replay.yaml")
Shadow = Callable[..., Any]


# -------------------------------------------------------------------------------------------------------------------- validate
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_good_config_is_said_to_be_good(name: str, shadow: Shadow, configs: Path):
    """In short, with the hash by which verdicts name it."""
    done = shadow("validate", configs / name)
    assert (done.code, done.err) == (0, "")
    assert f"{name}: good. rollout {name.removesuffix('.yaml')}" in done.out
    assert len(done.out.split("config_sha256 ")[1].strip()) == 64


@pytest.mark.parametrize("name", EXAMPLES)
def test_validate_gives_machines_one_document(name: str, shadow: Shadow, configs: Path):
    """The same facts as JSON, and nothing else on stdout."""
    done = shadow("validate", configs / name, "--json")
    document = yaml.safe_load((configs / name).read_text())
    facts = json.loads(done.out)
    assert done.code == 0
    assert facts["rollout"] == document["rollout"]
    assert facts["gates"] == [gate["name"] for gate in document["gates"]]
    assert facts["policies"] == list(document["policies"])
    assert facts["lanes"] == [lane for lane in ("incumbent", "challenger", "replica") if lane in document["models"]]
    assert facts["config_sha256"] in shadow("validate", configs / name).out


def test_every_problem_of_a_config_is_named_at_once_by_file_and_path(shadow: Shadow, configs: Path, tmp_path: Path):
    """Nobody mends a config one error a run."""
    document = yaml.safe_load((configs / "recorded-replay.yaml").read_text())
    document["gates"][0]["worse_by_at_most"] = -1
    document["gates"][3]["metric"] = {"missing": "nobody"}
    document["samples"] = document.pop("sample")
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(document))
    done = shadow("validate", tmp_path / "bad.yaml")
    assert (done.code, done.out) == (2, "")
    assert "bad.yaml: " in done.err
    for path in ("gates.0.worse_by_at_most", "gates.3", "samples", "sample"):
        assert path in done.err
    assert done.err.count("\n") >= 4


@pytest.mark.parametrize("command", ["validate", "replay", "up"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"{", b"[]", b"rollout: x\nrollout: y\n", b"a: &a [*a]"])
def test_a_config_that_is_none_is_wrong_use_of_every_command(command: str, content: bytes | None, shadow: Shadow, tmp_path: Path):
    """Absent, empty, no text, no YAML, no mapping: exit 2 with its name, before anything is started."""
    path = tmp_path / "rollout.yaml"
    if content is not None:
        path.write_bytes(content)
    more = {"replay": ["--events", tmp_path / "events.jsonl"], "up": ["--data", tmp_path / "data"]}.get(command, [])
    done = shadow(command, path, *more)
    assert (done.code, done.out) == (2, "")
    assert "rollout.yaml" in done.err
    assert not (tmp_path / "data").exists()


# ---------------------------------------------------------------------------------------------------------------------- replay
def recorded(configs: Path) -> list[object]:
    """The published example that runs at once."""
    stem = configs / "recorded-replay"
    return ["replay", f"{stem}.yaml", "--events", f"{stem}.events.jsonl", "--outcomes", f"{stem}.outcomes.jsonl"]


def test_the_published_example_replays(shadow: Shadow, configs: Path, tmp_path: Path):
    """Its twelve events prove nothing, and so it says, with exit code 3."""
    done = shadow(*recorded(configs), "--out", tmp_path / "out")
    assert done.code == 3
    assert "verdict: hold" in done.out
    written = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert written["counts"]["read"] == 12
    assert written["verdict"] == "hold"
    assert (tmp_path / "out" / "report.html").is_file()
    assert str(tmp_path / "out" / "report.html") in done.err


def test_replay_gives_machines_the_document_that_it_writes(shadow: Shadow, configs: Path, tmp_path: Path):
    """One object on stdout, equal to verdict.json."""
    done = shadow(*recorded(configs), "--out", tmp_path / "out", "--json")
    assert json.loads(done.out) == json.loads((tmp_path / "out" / "verdict.json").read_text())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--until", "tomorrow"], "--until tomorrow"),
        (["--until", "2026-03-16"], "--until 2026-03-16"),
        (["--stage", "9"], "--stage 9"),
        (["--stage", "-1"], "stage"),
        (["--events", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--outcomes", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--unknown"], "unknown"),
    ],
)
def test_wrong_use_of_replay_names_what_is_wrong(more: list[str], words: str, shadow: Shadow, configs: Path):
    """Exit 2, nothing on stdout that could be taken for a verdict."""
    done = shadow(*recorded(configs), *more)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_outcomes_for_a_config_that_reads_none_are_wrong_use(shadow: Shadow, configs: Path, tmp_path: Path):
    """Labels that nobody reads would be missed in the verdict without a word."""
    document = yaml.safe_load((configs / "recorded-replay.yaml").read_text())
    del document["outcomes"], document["harms"]
    document["gates"] = document["gates"][2:]
    (tmp_path / "rollout.yaml").write_text(yaml.safe_dump(document))
    args = recorded(configs)
    args[1] = tmp_path / "rollout.yaml"
    done = shadow(*args)
    assert (done.code, done.out) == (2, "")
    assert "--outcomes" in done.err and "has no `outcomes`" in done.err


def test_replay_says_where_the_records_went_that_did_not_become_a_pair(shadow: Shadow, configs: Path, tmp_path: Path):
    """"Not enough evidence" is no help to somebody whose times are no RFC 3339: the first wrong line is named, and never repeated."""
    lines = (configs / "recorded-replay.events.jsonl").read_text().splitlines()
    assert len(lines) == 12
    lines[3] = json.dumps({**json.loads(lines[3]), "time": "yesterday, said marker-4711"})
    lines.append(lines[0])
    args = recorded(configs)
    args[3], args[5] = tmp_path / "events.jsonl", tmp_path / "outcomes.jsonl"
    Path(args[3]).write_text("\n".join(lines))
    Path(args[5]).write_text("no JSON, marker-4711\n")
    done = shadow(*args)
    assert "  events: " in done.out and "1 duplicate, 1 invalid" in done.out
    assert "  outcomes: 0 joined, 1 invalid" in done.out
    assert f"{args[3]}: event 4 is the first that is invalid: time: expected an RFC 3339 text" in done.err
    assert f"{args[5]}: outcome 1 is the first that is invalid: 20 bytes that are no JSON in UTF-8" in done.err
    assert "4711" not in done.out + done.err


def test_replay_says_that_no_outcomes_were_given(shadow: Shadow, configs: Path):
    """Labelled gates then wait for ever, which looks like a lack of traffic."""
    args = recorded(configs)
    assert "no --outcomes" in shadow(*args[:4]).err
    assert "no --outcomes" not in shadow(*args).err


# ------------------------------------------------------------------------------------------------------------------ live ones
LOOKS = ("status", "decide", "export", "report")


@pytest.mark.parametrize("command", LOOKS)
def test_looking_at_a_data_folder_that_is_not_there_makes_none(command: str, shadow: Shadow, tmp_path: Path):
    """A typing error must not start an empty server and say that all is well."""
    done = shadow(command, "one", "--data", tmp_path / "typo")
    assert (done.code, done.out) == (2, "")
    assert "typo: no such data folder" in done.err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("command", ("status", "decide", "export", "report"))
def test_a_rollout_that_is_not_there_is_named_with_those_that_are(command: str, shadow: Shadow, redis_url: str, redis_db: redis.Redis):
    """The list is what to type next."""
    done = shadow(command, "absent", "--store", redis_url)
    assert (done.code, done.out) == (2, "")
    assert "rollout absent: not in this store; it has none" in done.err


@pytest.mark.parametrize("command", LOOKS)
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://user:hunter2@127.0.0.1:1/0"])
def test_a_store_that_does_not_answer_is_named_without_its_password(command: str, url: str, shadow: Shadow):
    """Logs of pipelines are read by many."""
    done = shadow(command, "one", "--store", url)
    assert (done.code, done.out) == (2, "")
    assert "127.0.0.1:1" in done.err
    assert "hunter2" not in done.err


@pytest.mark.parametrize("command", LOOKS)
@pytest.mark.parametrize("url", ["mysql://host/0", "redis://host:port/0", "nonsense"])
def test_an_address_that_is_none_is_wrong_use(command: str, url: str, shadow: Shadow):
    """The schemes that work are in the message."""
    done = shadow(command, "one", "--store", url)
    assert (done.code, done.out) == (2, "")
    assert "redis://" in done.err


def test_a_store_without_rollouts_is_no_error_to_look_at(shadow: Shadow, redis_url: str, redis_db: redis.Redis):
    """`shadow status` before the first `shadow up`."""
    assert shadow("status", "--store", redis_url).code == 0
    done = shadow("status", "--store", redis_url, "--json")
    assert (done.code, json.loads(done.out)) == (0, [])


@pytest.mark.parametrize("roles", ["nobody", "router,lane:nobody", ",", "router joiner"])
def test_roles_that_there_are_none_of_are_refused_before_any_starts(
    roles: str, shadow: Shadow, configs: Path, tmp_path: Path, redis_url: str, redis_db: redis.Redis
):
    """The message lists those that there are."""
    done = shadow("up", configs / "recorded-replay.yaml", "--store", redis_url, "--data", tmp_path / "data", "--roles", roles)
    assert (done.code, done.out) == (2, "")
    assert "--roles" in done.err and "lane:challenger" in done.err
    assert not (tmp_path / "data" / "roles.json").exists()


@pytest.mark.parametrize("shards", ["0", "-1", "257", "many"])
def test_a_number_of_shards_that_cannot_be_is_refused(shards: str, shadow: Shadow, configs: Path, tmp_path: Path):
    """Fixed for good once created, so looked at before."""
    done = shadow("up", configs / "recorded-replay.yaml", "--shards", shards, "--data", tmp_path / "data")
    assert (done.code, done.out) == (2, "")
    assert "--shards" in done.err
    assert not (tmp_path / "data").exists()


# ----------------------------------------------------------------------------------------------------------------------- demo
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("spam",), "demo spam: expected age or moderation"),
        (("moderation", "--challenger", "corrected"), "--challenger corrected: expected one of svm, careful"),
        (("age", "--challenger", "svm"), "--challenger svm: expected one of regressor, corrected"),
    ],
)
def test_a_demo_that_is_none_is_told_before_anything_is_made(words: tuple[str, ...], expected: str, shadow: Shadow, tmp_path: Path):
    """Each case has challengers of its own."""
    done = shadow("demo", *words)
    assert (done.code, done.out) == (2, "")
    assert expected in done.err
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------------------ all
def test_without_a_command_it_shows_what_there_is(shadow: Shadow):
    """Every command is in the list; it is wrong use all the same."""
    done = shadow()
    assert done.code == 2
    for command in ("validate", "replay", "up", "status", "decide", "export", "report", "demo"):
        assert command in done.out + done.err


@pytest.mark.parametrize("command", ["validate", "replay", "up", "status", "decide", "export", "report", "demo"])
def test_every_command_has_help(command: str, shadow: Shadow):
    """Exit 0, on stdout."""
    done = shadow(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"shadow {command}" in done.out


def test_a_command_that_is_none_is_wrong_use(shadow: Shadow):
    """Exit 2 and its name."""
    done = shadow("promote")
    assert (done.code, done.out) == (2, "")
    assert "promote" in done.err


def test_recorded_answers_that_are_not_there_are_named_by_validate(shadow: Shadow, configs: Path, tmp_path: Path):
    """All of them at once, and before a pipeline is set up that would find out event by event."""
    document = yaml.safe_load((configs / "recorded-replay.yaml").read_text())
    document["models"] |= {"incumbent": {"uri": "recorded:old.jsonl"}, "challenger": {"uri": "recorded:new.jsonl"}}
    (tmp_path / "rollout.yaml").write_text(yaml.safe_dump(document))
    done = shadow("validate", tmp_path / "rollout.yaml")
    assert (done.code, done.out) == (2, "")
    for name in ("models.incumbent.uri", "old.jsonl", "models.challenger.uri", "new.jsonl", "not found"):
        assert name in done.err
    for name in ("old.jsonl", "new.jsonl"):
        (tmp_path / name).write_text("")
    assert shadow("validate", tmp_path / "rollout.yaml").code == 0
