"""The commands by which people move a rollout, and the tokens that say who they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import config
from harness.core.reading import microseconds
from harness.core.stages import State
from harness.roles.standing import Follower
from harness.wiring import create, open_journal

NAME = "age-regression"
WHY = ["--reason", "because"]


class World:
    """A rollout with stages that ask for approval, registered by ada in a real Redis, and the command line on it."""

    def __init__(self, shadow: Callable[..., Any], configs: Path, url: str, env: pytest.MonkeyPatch, folder: Path) -> None:
        self._shadow, self._env, self._folder = shadow, env, folder
        env.setenv("SHADOW_STORE", url)
        env.setenv("SHADOW_AUTHOR", "ada")
        self.rollout = config.load(configs / f"{NAME}.yaml")
        create(self.rollout, url, url)
        self.journal, self.journal_url = open_journal(url, self.rollout), url

    def run(self, *args: object, by: str | None = None) -> Any:
        self._env.delenv("SHADOW_TOKEN", raising=False)
        if by:
            self._env.setenv("SHADOW_TOKEN", by)
        return self._shadow(*args)

    def token(self, name: str, *more: str, by: str | None = None) -> str:
        done = self.run("token", "create", name, *more, by=by)
        assert done.code == 0, done.err
        return str(done.out.strip())

    @property
    def state(self) -> State:
        return Follower(self.journal).now()

    @property
    def last(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.journal.read()[-1].body)
        return found


@pytest.fixture
def world(shadow, configs, redis_url, redis_db, monkeypatch, tmp_path):
    return World(shadow, configs, redis_url, monkeypatch, tmp_path)


def test_whoever_has_the_store_may_stop_things_as_himself(world):
    """Pausing and going back are the safe side: at three in the morning nobody looks for a token."""
    done = world.run("pause", NAME, *WHY)
    assert (done.code, done.out) == (0, f"{NAME}: paused in stage 0 (shadow)\n")
    assert (world.last["by"], world.last["reason"]) == ({"name": "ada", "role": None, "via": "cli"}, "because")
    assert "it is paused already; nothing was recorded" in world.run("pause", NAME, *WHY).out
    done = world.run("rollback", *WHY)
    assert (done.code, done.out) == (0, f"{NAME}: rolled back from stage 0 (shadow): the incumbent serves everybody\n")
    assert len(world.journal.read()) == 3


@pytest.mark.parametrize("command", [["approve", NAME], ["resume", NAME], ["waive", NAME, "it answers", "--expires", "1h"]])
def test_what_lets_a_rollout_go_on_needs_a_token_that_may(command, world):
    """A name in an environment variable is no proof."""
    world.run("pause", NAME, *WHY)
    done = world.run(*command, *WHY)
    assert (done.code, done.out) == (2, "")
    assert "this needs a token: give it as SHADOW_TOKEN or --token-file" in done.err
    reader = world.token("bea", "--scope", "read")
    assert "this needs a token of scope approve; this one has read" in world.run(*command, *WHY, by=reader).err
    wrong = world.run(*command, *WHY, by=reader[:-2] + "xx")
    assert wrong.code == 2
    assert "the token is not known here" in wrong.err
    assert reader[-20:-2] not in wrong.err
    assert len(world.journal.read()) == 2


def test_a_token_file_that_cannot_be_read_says_why(world, tmp_path):
    """Absent, or something else than a token."""
    (tmp_path / "image").write_bytes(b"\xff\xfe\x00")
    for name, said in (("none", "cannot be read: No such file"), ("image", "is no text; expected the token")):
        done = world.run("approve", NAME, *WHY, "--token-file", tmp_path / name)
        assert (done.code, said in done.err) == (2, True), done


def test_status_says_what_is_lacking_once(world):
    """The reasons of the verdict stand above; the last line adds what no gate says."""
    done = world.run("status", NAME)
    assert (done.code, done.err) == (0, "")
    lines = [line.strip(" -") for line in done.out.splitlines()]
    (last,) = [line for line in lines if line.startswith("the next move waits for: the reasons above")]
    assert lines.index(last) >= 2
    assert not any(reason in last for reason in lines[2 : lines.index(last)])


def test_a_role_that_the_rollout_does_not_have_is_no_role_that_is_not_at_work(world):
    """A health check with a typing error would wait for ever."""
    done = world.run("ready", "analyst", "--rollout", NAME)
    assert (done.code, done.out) == (3, "analyst: not started\n")
    done = world.run("ready", "analist", "--rollout", NAME)
    assert (done.code, done.out) == (2, "")
    assert f"role analist: there is none; rollout {NAME} has router, " in done.err


def test_the_name_and_role_of_the_token_stand_in_the_record(world, tmp_path):
    """Not those of the account that ran the command; from a file as from the environment."""
    bea, cyd = world.token("bea", "--role", "sales", "--role", "policy"), world.token("cyd", "--role", "policy")
    done = world.run("approve", NAME, *WHY, by=bea)
    assert (done.code, "1 of 2 people in the role policy" in done.out) == (0, True)
    assert world.last["by"] == {"name": "bea", "role": "policy", "via": "cli"}
    assert (world.last["stage"], world.last["verdict"], world.last["as_of"]) == (1, "hold", None)
    (tmp_path / "token").write_text(cyd + "\n")
    done = world.run("approve", NAME, "--stage", "1", "--token-file", tmp_path / "token", "--json", *WHY)
    facts = json.loads(done.out)
    assert (facts["recorded"], facts["stage"], facts["standing"], facts["head"]) == (True, 0, "running", world.state.head)
    assert [said.by for said in world.state.approvals] == ["bea", "cyd"]
    assert json.loads(world.run("approve", NAME, "--json", *WHY, by=bea).out)["recorded"] is False


def test_an_approval_that_cannot_count_ends_with_exit_code_2(world):
    """The author's, of another stage, without a reason, with a file that is none."""
    ada = world.token("ada", "--role", "policy")
    for args, why in (
        ((NAME, *WHY), "the author's own approval does not count"),
        ((NAME, *WHY, "--stage", "2"), "only that one can be approved"),
        ((NAME, "--reason", " "), "reason: empty"),
        ((NAME, *WHY, "--token-file", "nowhere"), "--token-file nowhere: cannot be read"),
        (("other", *WHY), "rollout other: not in this store"),
    ):
        done = world.run("approve", *args, by=ada)
        assert (done.code, done.out) == (2, "")
        assert why in done.err
    assert len(world.journal.read()) == 1


def test_two_people_waive_a_gate_and_one_resumes(world):
    """Each with a token of his own."""
    bea, cyd = world.token("bea"), world.token("cyd")
    gate = world.rollout.gates[0].name
    for who, n in ((bea, "1 of 2 people have"), (cyd, "2 people have, it counts")):
        done = world.run("waive", NAME, gate, "--expires", "2099-01-01T00:00:00Z", *WHY, by=who)
        assert (done.code, n in done.out) == (0, True), done.err
    assert world.state.waived(microseconds("2098-12-31T00:00:00Z")) == {gate}
    world.run("pause", NAME, *WHY, by=bea)
    assert world.last["by"]["name"] == "bea"
    assert "resumed" in world.run("resume", NAME, *WHY, by=cyd).out


def test_a_token_is_shown_once_and_the_store_holds_nothing_of_its_secret(world, redis_db):
    """Who copies the store, or reads over a shoulder later, cannot act as anybody."""
    done = world.run("token", "create", "bea", "--role", "policy", "--expires", "7d")
    text = done.out.strip()
    _, id, secret = text.split("_", 2)
    assert f"{id}: bea, scope approve, roles policy, expires " in done.err
    assert secret not in done.err
    for key in redis_db.keys("*"):
        assert secret.encode() not in redis_db.dump(key)
    assert 0 < redis_db.pttl("shadow:tokens") <= 7 * 86_400_000 + 1_000
    listed = world.run("token", "list")
    assert (listed.code, f"{id}: bea" in listed.out, secret in listed.out + listed.err) == (0, True, False)
    facts = json.loads(world.run("token", "list", "--json").out)["tokens"][0]
    assert (facts["name"], facts["roles"], facts["scope"], facts["expired"]) == ("bea", ["policy"], "approve", False)
    assert world.run("token", "revoke", id).out.startswith(f"revoked: {id}: bea")
    assert "not known here" in world.run("approve", NAME, *WHY, by=text).err
    assert "no token here" in world.run("token", "list").err


def test_with_an_admin_token_in_the_store_only_it_makes_others(world):
    """Nobody makes a second person of himself in passing."""
    admin = world.token("root", "--scope", "admin")
    done = world.run("token", "create", "bea")
    assert (done.code, done.out) == (2, "")
    assert "this store has a token of scope admin: give it, as SHADOW_TOKEN or --token-file" in done.err
    made = json.loads(world.run("token", "create", "bea", "--json", by=admin).out)
    assert "give it" in world.run("token", "revoke", made["id"], by=made["token"]).err
    assert world.run("token", "revoke", made["id"], by=admin).code == 0
    for wrong, why in ((["--scope", "all"], "--scope: expected one of"), (["--expires", "soon"], "--expires: got 'soon', expected")):
        done = world.run("token", "create", "cyd", *wrong, by=admin)
        assert (done.code, why in done.err) == (2, True), done.err


def test_a_changed_config_begins_a_new_attempt_under_the_same_name(world, configs, tmp_path):
    """What may not change is refused and named; what may is recorded, and is the config from then on."""
    text = (configs / f"{NAME}.yaml").read_text()
    changed = tmp_path / "changed.yaml"
    changed.write_text(text.replace("worse_by_at_most: 0.25", "worse_by_at_most: 0.2"))
    done = world.run("amend", changed, *WHY)
    assert (done.code, done.out) == (0, f"{NAME}: attempt 1 begins in shadow at alpha 0.025; start `shadow up` again with this config\n")
    assert (world.last["kind"], world.last["changed"], world.state.attempt) == ("amended", ["gates"], 1)
    assert create(config.load(changed), *[world.journal_url] * 2).rollout.sha256 == world.state.config_sha256
    changed.write_text(text.replace("looks: 6h", "looks: 3h"))
    done = world.run("amend", changed, *WHY)
    assert (done.code, done.out) == (2, "")
    assert "looks changed, which shapes what is read and stored" in done.err
    assert world.state.attempt == 1


def test_the_final_exit_code_is_that_of_the_records(world):
    """A pipeline that leaves the stages to the controller: 3 while it runs, 4 once it went back, the verdict printed as ever."""
    done = world.run("decide", NAME, "--final")
    assert (done.code, done.out.splitlines()[-1]) == (3, "not over yet: shadow")
    world.run("rollback", NAME, *WHY)
    done = world.run("decide", NAME, "--final", "--wait")
    assert (done.code, done.out.splitlines()[-1]) == (4, "over: shadow, rolled back")
    assert json.loads(world.run("decide", NAME, "--final", "--json").out)["verdict"] == "rollback"


def test_a_rollout_that_is_never_promoted_has_no_final_exit_code(world, shadow, tmp_path):
    """Wrong use, not a pipeline that waits for ever."""
    document = {**dict(world.rollout.document), "rollout": "shadow-only", "stages": [{"shadow": {"percent": 100}}]}
    create(config.parse(document, source="test", folder=tmp_path), world.journal_url, world.journal_url)
    done = world.run("decide", "shadow-only", "--final")
    assert (done.code, done.out) == (2, "")
    assert "the last stage of shadow-only is stage 0 (shadow), so it is never promoted" in done.err
