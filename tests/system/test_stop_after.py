"""A count of harms ends a canary on real processes, before any gate has evidence."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from harness.adapters.redis.journal import RedisJournal
from harness.config import load
from harness.core.records import parse
from harness.core.stages import Standing
from harness.roles.standing import Follower


def test_so_many_minors_let_in_by_the_challenger_end_a_canary_at_once(
    production: ModuleType, up: Any, processes: ModuleType, redis_url: str, redis_db: Any, tmp_path: Path
):
    """Exposures, events and labels of people whom nobody knew come from three topics; the record says how many the challenger served."""
    files = production.written(tmp_path / "config", (20.0,))
    document = yaml.safe_load(files.config.read_text())
    document["stages"][1] = {"canary": {"percent": 20}, "at_least": "4h", "stop_after": {"minor_let_in": 3}}
    document["stages"][0]["at_least"] = "4h"
    document["gates"] = [{**gate, "on_fail": "hold"} for gate in document["gates"]]
    files.config.write_text(yaml.safe_dump(document, sort_keys=False))
    running = up(files, url=redis_url, roles=production.ROLES)
    running.name = "week"
    running.start()
    journal = RedisJournal(redis_url, "week", keep_s=3_600.0)
    traffic = production.Production(production.to_redis(redis_db), 300, bad_from=20.0)
    found = production.Week(running, traffic, load(files.config), Follower(journal), processes)
    state = found.live(lambda state: state.final, most=8)
    assert (state.standing, state.stage) == (Standing.ROLLED_BACK, 1)
    last = parse(journal.read()[-1].body)
    assert "stop_after: minor_let_in happened" in last["reason"]
    assert last["people"]["exposed_harms"]["minor_let_in"] >= 3
    assert 3 <= last["people"]["exposed"]["units"] <= found.production.exposed
