"""`shadow replay`: the whole pipeline in one process, on a private Redis that leaves with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness.adapters.redis.server import EmbeddedRedis
from harness.cli import files, printing
from harness.cli.accounts import unreadable
from harness.cli.logs import log_to_stderr
from harness.commands import replay as replaying
from harness.core.errors import UsageError
from harness.core.reading import microseconds
from harness.core.rollout import Rollout
from harness.core.verdicts import EXIT_CODES
from harness.ports.clock import ManualClock
from harness.wiring import Wiring


def replay(
    rollout: Rollout, events: Path, outcomes: Path | None, *, out: Path | None, until: str | None, stage: int, as_json: bool
) -> int:
    """Replays, writes and prints; returns the exit code of the verdict."""
    stop = microseconds(until) if until is not None else None
    if until is not None and stop is None:
        raise UsageError(f"--until {until}: expected an RFC 3339 time, as in 2026-03-16T00:00:00Z")
    if stage >= len(rollout.stages):
        raise UsageError(f"--stage {stage}: the config has {len(rollout.stages)} stages, the first is 0")
    for path in (events, outcomes):
        if path is not None and not path.is_file():
            raise UsageError(f"{path}: no such file")
    if outcomes is not None and rollout.outcomes is None:
        raise UsageError(f"--outcomes {outcomes}: the config has no `outcomes`, so nothing would be read from it")
    log_to_stderr()
    labels: Iterable[bytes] = replaying.lines(outcomes) if outcomes is not None else ()
    with tempfile.TemporaryDirectory(prefix="shadow-") as scratch:
        server = EmbeddedRedis.start(Path(scratch), durable=False)
        try:
            parts = _parts(rollout, server.url, stage)
            with printing.progress(f"replay {events.name}", None) as bar:
                found = replaying.replay(
                    parts, replaying.lines(events), labels, until=stop, progress=lambda n: bar.update(bar.task_ids[0], completed=n)
                )
        finally:
            server.stop()
    if out is not None:
        files.write(out, rollout, found.verdict, found.table, found.plain_ids)
    if as_json:
        printing.json_document(found.verdict)
    else:
        printing.verdict(rollout, found.verdict, found.table)
        for line in unreadable(rollout, found.verdict, events, outcomes):
            printing.note(line)
        if outcomes is None and rollout.outcomes is not None:
            printing.note("no --outcomes were given: gates that need labels cannot pass")
        if out is not None:
            printing.note(f"report: {out / 'report.html'}")
    return EXIT_CODES[found.verdict["verdict"]]


def _parts(rollout: Rollout, url: str, stage: int) -> replaying.Parts:
    clock = ManualClock()
    wiring = Wiring(rollout, url, url, shards=1, clock=clock, trust_stated=True)
    return replaying.Parts(
        rollout=rollout,
        topology=wiring.topology,
        bus=wiring.bus,
        clock=clock,
        router=wiring.router(),
        lanes=[wiring.lane(lane) for lane in rollout.lanes],
        joiners=[wiring.joiner(shard) for shard in range(wiring.shards)],
        analyst=wiring.analyst(stage),
        pair_logs=[wiring.pair_log(shard) for shard in range(wiring.shards)],
        plain_ids=wiring.all_plain_ids(),
    )
