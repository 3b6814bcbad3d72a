"""`shadow demo`: the main job on real people and real models, in a minute or two."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import files, printing
from harness.core.errors import UsageError

OUT = Path("demo-out")


def demo(
    case: Annotated[str, typer.Argument(help="Which one: age.")] = "age",
    challenger: Annotated[
        str, typer.Option(help="age: `regressor` (the better guesser) or `corrected` (trained for the decision).")
    ] = "regressor",
    out: Annotated[Path, typer.Option(help="Folder for the report and everything the demo makes.")] = OUT,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Train two real models, stream real people through every role, and show the verdict. Exit 0 when it worked, whatever it found."""
    if case != "age":
        raise UsageError(f"demo {case}: expected age")
    from harness.demo import run

    began = time.monotonic()
    folder = out / f"{case}-{challenger}"
    with printing.progress("", None) as bar:
        task = bar.task_ids[0]

        def moved(paired: int, n_events: int, joined: int, n_outcomes: int) -> None:
            bar.update(task, completed=paired, total=n_events, description=f"paired; {joined:,} of {n_outcomes:,} labels joined")

        shown = run.age(challenger, folder, run.Steps(line=printing.note, moved=moved))
    files.write(folder, shown.rollout, shown.verdict, shown.table)
    if json:
        printing.json_document(shown.verdict)
    else:
        printing.verdict(shown.rollout, shown.verdict, shown.table)
    printing.note(f"report: {(folder / 'report.html').resolve()}")
    other = "corrected" if challenger == "regressor" else "regressor"
    printing.note(f"{time.monotonic() - began:.0f} s. Next: shadow demo age --challenger {other}")
