"""What commands print: facts to stdout, progress and notes to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from analysis.types import PairTable
from harness.cli.accounts import accounts
from harness.core.rollout import CHALLENGER, Rollout
from harness.pages import terminal
from harness.pages.arms import arms_lines

out = Console(soft_wrap=True, highlight=False)
if not out.is_terminal:
    out.width = 140  # a file or a CI log has room
err = Console(stderr=True, soft_wrap=True, highlight=False)


def note(text: str) -> None:
    """A line for people, on stderr."""
    err.print(text, markup=False)


def json_document(document: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")


def validated(path: Path, rollouts: Sequence[Rollout], *, as_json: bool) -> None:
    """What a good config says, in short."""
    rollout, several = rollouts[0], rollouts[0].family is not None
    if several and as_json:
        json_document([_facts(each) | {"challenger": each.spoken(CHALLENGER), "alpha": each.alpha} for each in rollouts])
        return
    if as_json:
        json_document(_facts(rollout))
        return
    stages = " > ".join(f"{s.kind} {s.percent:g} %" if s.kind == "canary" else s.kind for s in rollout.stages)
    out.print(f"{path}: good. rollout {rollout.mirror}, {len(rollout.gates)} gates, stages {stages}", markup=False)
    for each in rollouts if several else ():
        facts = f"rollout {each.name}, alpha {each.alpha:g}, config_sha256 {each.sha256}"
        out.print(f"challenger {each.spoken(CHALLENGER)}: {facts}", markup=False)
    if not several:
        out.print(f"config_sha256 {rollout.sha256}", markup=False)


def _facts(rollout: Rollout) -> dict[str, Any]:
    return {
        "rollout": rollout.name, "config_sha256": rollout.sha256, "lanes": list(rollout.lanes), "policies": list(rollout.policies),
        "gates": [gate.name for gate in rollout.gates], "stages": [stage.kind for stage in rollout.stages],
    }  # fmt: skip


def verdict(rollout: Rollout, found: Mapping[str, Any], table: PairTable | None) -> None:
    """The sentence (where there is a pair table), the gates, what was not paired, the reasons, and the verdict as the last line."""
    if table is not None:
        sentence, *_ = terminal.summary_lines(rollout, found, table)
        out.print(sentence, markup=False)
        out.print()
    out.print(terminal.gate_table(rollout, found))
    out.print()
    for line in (*arms_lines(rollout, found), *accounts(found)):
        out.print(f"  {line}", markup=False)
    for reason in found["reasons"]:
        out.print(f"  - {reason}", markup=False)
    counts, as_of = found["counts"], found["as_of"] or "no look yet"
    facts = f"stage {found['stage']}, {counts['paired']:,} pairs of {counts['read']:,} events, as of {as_of}"
    out.print(f"verdict: {found['verdict']}, {facts}", markup=False)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Progress]:
    """A progress bar on stderr; a plain line at the start where there is no terminal."""
    if what and not err.is_terminal:
        note(f"{what} ...")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        bar.add_task(what, total=total)
        yield bar
