"""`shadow export --exposed` and what `shadow status` says of the same people, as people run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from harness import config, wiring
from harness.core.observations import Observation
from harness.core.reading import timestamp
from harness.core.records import CONTROLLER, body
from harness.ports.observations import Observed

HOUR = 3_600_000_000
CONFIG: dict[str, Any] = {
    "rollout": "served", "events": {"topic": "served.events", "unit": "subject"},
    "models": {lane: {"uri": f"recorded:event:/{lane}"} for lane in ("incumbent", "challenger")},
    "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
    "sample": {"percent": 100}, "pairing": {"window": "30s"}, "gates": [], "looks": "1h",
    "stages": [{"shadow": {}}, {"canary": {"percent": 5}}],
}  # fmt: skip
EXPOSURES = {"topic": "served.exposures", "unit": "subject", "arm": "/arm"}


def created(folder: Path, url: str, **more: Any) -> wiring.Wiring:
    (folder / "served.yaml").write_text(yaml.safe_dump({**CONFIG, **more}))
    return wiring.create(config.load(folder / "served.yaml"), url, url)


@pytest.fixture
def served(tmp_path: Path, redis_db: redis.Redis, redis_url: str) -> wiring.Wiring:
    """Two units were served by the challenger, one of them twice, and one by the incumbent."""
    found = created(tmp_path, redis_url, exposures=EXPOSURES)
    entered = body("entered", rollout="served", at=0, by=CONTROLLER, reason="so", stage=1, since=timestamp(HOUR), percent=5.0)
    found.journal.append(entered, after=found.journal.read()[-1].hash)
    rows = [(1, 1.0), (2, 0.0), (3, 1.0), (1, 1.0)]
    found.observations.append(
        "exposures/0", [Observation(b"%014d" % n, unit, (2 + n) * HOUR, arm, 5.0) for n, (unit, arm) in enumerate(rows)],
        Observed(position=3, arrived=6 * HOUR), after=Observed(),
    )  # fmt: skip
    return found


def test_the_people_whom_the_challenger_served_are_written_one_row_each(shadow, served, redis_url, tmp_path):
    """No bus is asked; the verdict of the analyst and the file agree on how many they are."""
    done = shadow("export", "served", "--exposed", "-o", "who.csv", "--store", redis_url)
    assert (done.code, done.err) == (0, "who.csv: 2 units that the challenger served\n")
    assert (tmp_path / "who.csv").read_text().splitlines()[1:] == [
        "0000000000000001,1970-01-01T02:00:00Z,1970-01-01T05:00:00Z,5,0,1",
        "0000000000000003,1970-01-01T04:00:00Z,1970-01-01T04:00:00Z,5,0,1",
    ]  # fmt: skip
    analyst = served.analyst()
    analyst.step()
    analyst.publish()
    assert "served by the challenger: 2 units: 2 in stage 1 at 5 %" in shadow("status", "served", "--store", redis_url).out


def test_a_file_of_another_kind_or_a_rollout_without_exposures_ends_with_2(shadow, redis_db, redis_url, tmp_path):
    """And says what would do."""
    created(tmp_path, redis_url)
    for words, said in ((("-o", "who.xlsx"), "ends in .csv or .parquet"), ((), "has no `exposures`")):
        done = shadow("export", "served", "--exposed", *words, "--store", redis_url)
        assert (done.code, said in done.err) == (2, True), done


def test_a_pair_table_is_not_written_under_the_name_of_another_format(shadow, tmp_path):
    """Whoever asks for CSV would find bytes that no spreadsheet opens."""
    done = shadow("export", "served", "-o", tmp_path / "pairs.csv", "--data", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "pairs.csv: the pair table is written as Parquet; expected a name that ends in .parquet" in " ".join(done.err.split())
    assert not (tmp_path / "pairs.csv").exists()
