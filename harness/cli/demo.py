"""`shadow demo`: a whole rollout on real models, in a minute or two."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import files, printing

OUT = Path("demo-out")


def demo(
    case: Annotated[str, typer.Argument(help="Which one: `age` or `moderation`.")] = "age",
    challenger: Annotated[
        str | None,
        typer.Option(
            help="age: `regressor` (the better guesser) or `corrected` (trained for the decision); moderation: `svm` or "
            "`careful` (the same, but what is quoted is left out). The first of each is the default.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report and everything the demo makes.")] = OUT,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Stream a fortnight through two real models and every role, and show the verdict. Exit 0 when it worked, whatever it found."""
    from harness.demo import prepare, run

    which, on_trial = prepare.case_of(case, challenger)
    began = time.monotonic()
    folder = out / f"{case}-{on_trial}"
    with printing.progress("", None) as bar:
        task = bar.task_ids[0]

        def moved(paired: int, n_events: int, joined: int, n_outcomes: int) -> None:
            bar.update(task, completed=paired, total=n_events, description=f"paired; {joined:,} of {n_outcomes:,} labels joined")

        shown = run.show(which, on_trial, folder, run.Steps(line=printing.note, moved=moved))
    files.write(folder, shown.rollout, shown.verdict, shown.table)
    if json:
        printing.json_document(shown.verdict)
    else:
        printing.verdict(shown.rollout, shown.verdict, shown.table)
    printing.note(f"report: {(folder / 'report.html').resolve()}")
    others = [name for name in which.challengers if name != on_trial]
    printing.note(f"{time.monotonic() - began:.0f} s. Next: shadow demo {case} --challenger {others[0]}")
