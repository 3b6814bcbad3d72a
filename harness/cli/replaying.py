"""`shadow replay`: the whole pipeline in one process, on a private Redis that leaves with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.adapters.redis.server import EmbeddedRedis
from harness.cli import files, printing
from harness.cli.accounts import unreadable
from harness.cli.logs import log_to_stderr
from harness.commands import replay as replaying
from harness.core.errors import UsageError
from harness.core.reading import microseconds
from harness.core.rollout import CHALLENGER, Rollout
from harness.core.verdicts import EXIT_CODES
from harness.ports.clock import ManualClock
from harness.wiring import Wiring


def replay(
    rollouts: Sequence[Rollout], events: Path, outcomes: Path | None, *, out: Path | None, until: str | None, stage: int, as_json: bool
) -> int:
    """Replays, writes and prints; returns the exit code of the verdict, of several that of the worst."""
    rollout = rollouts[0]
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
            several = _several(rollouts, server.url, stage)
            with printing.progress(f"replay {events.name}", None) as bar:
                replaying.feed(
                    replaying.together(several), replaying.lines(events), labels, until=stop,
                    progress=lambda n: bar.update(bar.task_ids[0], completed=n),
                )  # fmt: skip
            found = [replaying.judged(parts) for parts in several]
        finally:
            server.stop()
    folders = [out / each.spoken(CHALLENGER) if out is not None and len(rollouts) > 1 else out for each in rollouts]
    for each, its, folder in zip(rollouts, found, folders, strict=True):
        if folder is not None:
            files.write(folder, each, its.verdict, its.table, its.plain_ids)
    if as_json:
        documents = [its.verdict for its in found]
        printing.json_document(documents if len(rollouts) > 1 else documents[0])
    else:
        for each, its, folder in zip(rollouts, found, folders, strict=True):
            _print(each, its, folder, heading=len(rollouts) > 1)
        for line in unreadable(rollout, found[0].verdict, events, outcomes):
            printing.note(line)
        if outcomes is None and rollout.outcomes is not None:
            printing.note("no --outcomes were given: gates that need labels cannot pass")
    return max(EXIT_CODES[its.verdict["verdict"]] for its in found)


def _print(rollout: Rollout, found: replaying.Replayed, folder: Path | None, *, heading: bool) -> None:
    if heading:
        printing.out.print(f"{rollout.name}, at alpha {rollout.alpha:g}", markup=False)
        printing.out.print()
    printing.verdict(rollout, found.verdict, found.table)
    if heading:
        printing.out.print()
    if folder is not None:
        printing.note(f"report: {folder / 'report.html'}")


def _several(rollouts: Sequence[Rollout], url: str, stage: int) -> list[replaying.Parts]:
    """The parts of each rollout on one bus and by one clock; a lane that several have is opened once."""
    clock, opened, found = ManualClock(), set[str](), []
    for rollout in rollouts:
        lanes = [lane for lane in rollout.lanes if rollout.spoken(lane) not in opened]
        opened |= {rollout.spoken(lane) for lane in lanes}
        found.append(_parts(rollout, url, stage, clock, lanes))
    return found


def _parts(rollout: Rollout, url: str, stage: int, clock: ManualClock, lanes: Sequence[str]) -> replaying.Parts:
    wiring = Wiring(rollout, url, url, shards=1, clock=clock, trust_stated=True)
    return replaying.Parts(
        rollout=rollout,
        topology=wiring.topology,
        bus=wiring.bus,
        clock=clock,
        router=wiring.router(),
        lanes=[wiring.lane(lane) for lane in lanes],
        joiners=[wiring.joiner(shard) for shard in range(wiring.shards)],
        analyst=wiring.analyst(stage),
        pair_logs=[wiring.pair_log(shard) for shard in range(wiring.shards)],
        plain_ids=wiring.all_plain_ids(),
    )
