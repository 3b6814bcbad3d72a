"""Several challengers from the command line: what is said of each, and of the name that is none of them. On a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from harness import config
from harness.commands import decide, registry
from harness.core.errors import UsageError
from harness.core.reading import timestamp
from harness.core.records import CONTROLLER, body
from harness.core.stages import State
from harness.ports.clock import SystemClock
from harness.ports.ledger import Published
from harness.roles.standing import Follower
from harness.testing.doubles import MemoryLedger
from harness.wiring import Wiring, create, open_directory, open_journal, reopen

NAME, NAMES = "two-challengers", ("two-challengers.plain", "two-challengers.careful")
Shadow = Callable[..., Any]


@pytest.fixture
def wirings(redis_url: str, redis_db: redis.Redis, configs: Path) -> dict[str, Wiring]:
    """Both rollouts, created."""
    return {rollout.name: create(rollout, redis_url, redis_url) for rollout in config.load_all(configs / f"{NAME}.yaml")}


def write(wiring: Wiring, kind: str, **more: Any) -> None:
    journal = open_journal(wiring.store_url, wiring.rollout)
    record = body(kind, rollout=wiring.rollout.name, at=SystemClock().now(), by=CONTROLLER, reason="so", **more)
    journal.append(record, after=Follower(journal).now().head)


def changed(configs: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The published config with a change."""
    document = yaml.safe_load((configs / f"{NAME}.yaml").read_text())
    change(document)
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def test_validate_names_the_challengers_and_the_alpha_of_each(shadow: Shadow, configs: Path):
    """Whoever adds a third one must see what it costs the others."""
    done = shadow("validate", configs / f"{NAME}.yaml")
    assert (done.code, done.err) == (0, "")
    assert f"good. rollout {NAME}, 2 gates" in done.out
    for rollout in config.load_all(configs / f"{NAME}.yaml"):
        assert f"challenger {rollout.spoken('challenger')}: rollout {rollout.name}, alpha 0.025, config_sha256 {rollout.sha256}" in done.out
    facts = json.loads(shadow("validate", configs / f"{NAME}.yaml", "--json").out)
    found = [(each["rollout"], each["challenger"], each["alpha"]) for each in facts]
    assert found == [(NAMES[0], "plain", 0.025), (NAMES[1], "careful", 0.025)]


def test_their_roles_say_whose_they_are_and_what_they_share_has_one(wirings: dict[str, Wiring], redis_url: str):
    """`shadow up` starts each once; a store that is opened again knows them all."""
    shared = ("router", "lane:incumbent")
    for name in NAMES:
        c = name.rpartition(".")[2]
        assert wirings[name].role_names() == (*shared, f"lane:{c}", f"joiner:{c}", f"analyst:{c}", f"controller:{c}")
        found = reopen(name, redis_url, redis_url)
        assert (found.rollout, found.role_names()) == (wirings[name].rollout, wirings[name].role_names())
        with pytest.raises(UsageError, match="expected one of router, lane:incumbent"):
            found.running("joiner")


def test_the_common_name_names_them(wirings: dict[str, Wiring], shadow: Shadow, redis_url: str):
    """Neither does it mean one of them by chance, nor both."""
    for command in (("status", NAME), ("decide", NAME), ("report", NAME), ("pause", NAME, "--reason", "x"), ("audit", "show", NAME),
                    ("explain", NAME, "e1"), ("export", NAME)):  # fmt: skip
        done = shadow(*command, "--store", redis_url)
        assert (done.code, done.out) == (2, ""), command
        assert f"rollout {NAME}: has several challengers, each a rollout; name one of {', '.join(NAMES)}" in done.err
    assert "name a rollout; this store has two-challengers.careful, two-challengers.plain" in shadow("decide", "--store", redis_url).err
    assert json.loads(shadow("decide", NAMES[0], "--store", redis_url, "--json").out)["rollout"] == NAMES[0]


def test_commands_on_a_config_need_a_name_where_one_is_meant(shadow: Shadow, configs: Path):
    """A plan is of one challenger's gates, at its alpha."""
    done = shadow("plan", configs / f"{NAME}.yaml")
    assert (done.code, "name one with --challenger: plain, careful" in done.err) == (2, True)
    assert shadow("plan", configs / f"{NAME}.yaml", "--challenger", "careful").code == 0
    assert "has plain, careful" in shadow("plan", configs / f"{NAME}.yaml", "--challenger", "bold").err


def test_other_challengers_under_the_same_name_are_refused(wirings: dict[str, Wiring], redis_url: str, configs: Path, tmp_path: Path):
    """They share topics, positions and alpha: another set of them, or a single one, is another rollout."""
    models = {"uri": "recorded:event:/answers/new"}

    def only(*names: str) -> Callable[[dict[str, Any]], object]:
        def change(document: dict[str, Any]) -> None:
            document["models"] = {"incumbent": models, **dict.fromkeys(names, models)}
            document["policies"]["over_18"]["at_least"] = 18

        return change

    for names in (("plain", "careful", "third"), ("plain",), ("plain", "bold")):
        (first, *_) = config.load_all(changed(configs, tmp_path, only(*names)))
        with pytest.raises(UsageError, match="was created with the challengers plain, careful, and this config has"):
            create(first, redis_url, redis_url)
    with pytest.raises(UsageError, match="created with the challengers plain, careful, which share its topics"):
        create(config.load(changed(configs, tmp_path, only("challenger"))), redis_url, redis_url)


def test_the_order_in_which_challengers_are_written_is_none_of_their_names(
    wirings: dict[str, Wiring], shadow: Shadow, redis_url: str, configs: Path, tmp_path: Path
):
    """It is no part of a config's hash: the same config goes on, and can be amended."""

    def turned(document: dict[str, Any]) -> None:
        document["models"] = dict(reversed(document["models"].items()))

    path = changed(configs, tmp_path, turned)
    for rollout in config.load_all(path):
        assert create(rollout, redis_url, redis_url).rollout.version == wirings[rollout.name].rollout.version
    at = ("--reason", "again", "--store", redis_url)
    assert shadow("amend", path, "--challenger", "plain", *at).code == 0


def test_a_name_of_one_challenger_cannot_become_that_of_several(redis_url: str, redis_db: redis.Redis, configs: Path, tmp_path: Path):
    """Its mirror holds frames of another shape."""

    def alone(document: dict[str, Any]) -> None:
        document["models"] = {"incumbent": document["models"]["incumbent"], "challenger": document["models"]["plain"]}
        document["policies"]["over_18"]["at_least"] = 18

    create(config.load(changed(configs, tmp_path, alone)), redis_url, redis_url)
    for rollout in config.load_all(configs / f"{NAME}.yaml"):
        with pytest.raises(UsageError, match="was created with one challenger, and this config has plain, careful"):
            create(rollout, redis_url, redis_url)
    assert registry.names(open_directory(redis_url)) == [NAME]


def test_an_amendment_is_of_those_that_changed(
    wirings: dict[str, Wiring], shadow: Shadow, redis_url: str, configs: Path, tmp_path: Path
):  # fmt: skip
    """The other one keeps its evidence, its approvals and its alpha."""
    at = ("--store", redis_url, "--reason", "a better line")
    path = changed(configs, tmp_path, lambda d: d["policies"]["over_18"]["at_least"].update(careful=20))
    done = shadow("amend", path, *at)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("two-challengers.careful: attempt 1 begins in shadow at alpha 0.0125")
    assert "two-challengers.plain" not in done.out
    for rollout in config.load_all(path):
        assert create(rollout, redis_url, redis_url).rollout.sha256 == rollout.sha256
    done = shadow("amend", path, *at)
    assert (done.code, "a changed model is amended with --challenger, one of plain, careful" in done.err) == (2, True)
    assert shadow("amend", path, "--challenger", "plain", *at).code == 0


def test_while_one_serves_the_other_holds_and_says_so(wirings: dict[str, Wiring], shadow: Shadow, redis_url: str):
    """Whoever acts on the verdict of a machine must not put two in a canary."""
    fast, exact = (wirings[name] for name in NAMES)
    write(fast, "entered", stage=1, since=timestamp(SystemClock().now()), percent=5.0)
    assert exact.beside() == ("waits: `plain` is in canary at 5 %",)
    said = json.loads(shadow("status", NAMES[1], "--store", redis_url, "--json").out)
    assert "waits: `plain` is in canary at 5 %" in said["reasons"]
    said = json.loads(shadow("status", NAMES[0], "--store", redis_url, "--json").out)
    assert not [reason for reason in said["reasons"] if "waits" in reason]
    write(fast, "rolled_back")
    assert exact.beside() == ()


def test_a_verdict_that_would_promote_holds_beside_one_that_serves(wirings: dict[str, Wiring]):
    """And a rollback stays one."""
    rollout, clock = wirings[NAMES[0]].rollout, SystemClock()
    for said, held in (("promote", "hold"), ("rollback", "rollback"), ("hold", "hold")):
        ledger = MemoryLedger()
        found = decide.unlooked(rollout, State(), code_version="1") | {"verdict": said, "expires": timestamp(clock.now() + 10**12)}
        ledger.publish(Published(verdict=json.dumps(found).encode(), looked=clock.now()), after=None)
        for beside, expected in (((), said), (("waits: `x` is in canary",), held)):
            verdict = decide.verdict(rollout, ledger, State, clock, code_version="1", beside=lambda beside=beside: beside)
            assert verdict["verdict"] == expected
            waits = [reason for reason in verdict["reasons"] if reason.startswith("waits: `x`")]
            assert waits == ([] if said == "rollback" else list(beside)), "a rollback waits for nobody"
        if said == "rollback":
            assert decide.waits_for(rollout, ledger, State, clock, beside=lambda: ("waits: `x` is in canary",)) == []
