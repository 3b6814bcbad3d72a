"""Measures the goals of the statistics and prints them as tables; `make calibrate` also writes them into docs/statistics.md.

    python benchmarks/calibrate.py [--reduced] [--runs N] [--only goals,conditions,arms,kinds,compared] [--write FILE] [--seed N]

Takes some minutes on one core (reduced: half a minute). Every part has its own generator, so that it can be measured alone. Exits 1 if a
goal is missed, after printing.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from analysis.calibration.arms import arms
from analysis.calibration.conditions import conditions
from analysis.calibration.goals import goals
from analysis.calibration.kinds import kinds
from analysis.calibration.measure import FULL, REDUCED, Measured, Size, pairs_table, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reference"))
from stopping import compared, compared_table  # order-dependent methods are no part of the product

PARTS: dict[str, tuple[Callable[[np.random.Generator, Size], Iterator[Any]], Callable[[list[Any]], str]]] = {
    "goals": (goals, table), "conditions": (conditions, table), "arms": (arms, table), "kinds": (kinds, pairs_table),
    "compared": (compared, compared_table),
}


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reduced", action="store_true", help="fewer runs, as the tests do")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace what stands between the marks of this page")
    parser.add_argument("--runs", type=int, metavar="N", help="runs of a cheap line instead of 10,000; others in proportion")
    parser.add_argument("--only", default=",".join(PARTS), help="some of the parts")
    parser.add_argument("--seed", type=int, default=20240611)
    args = parser.parse_args(argv)
    size = REDUCED if args.reduced else FULL if args.runs is None else Size(args.runs, max(args.runs // 10, 40))
    missed = 0
    for name in args.only.split(","):
        if name not in PARTS:
            parser.error(f"--only {name}: expected some of {', '.join(PARTS)}")
        measure, as_table = PARTS[name]
        lines, began = [], time.monotonic()
        for line in measure(np.random.default_rng(args.seed), size):
            lines.append(line)
            for one in line if isinstance(line, tuple) else (line,):
                missed += not one.met
                print(f"{time.monotonic() - began:6.0f} s  {'ok  ' if one.met else 'MISS'}  {one.value:10.4g}  {one.task}", flush=True)
        if args.write:
            write(args.write, name, as_table(lines))
    return 1 if missed else 0


def write(path: Path, name: str, shown: str) -> None:
    """Replaces what stands between the marks of a part."""
    marks, page = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S), path.read_text()
    if not marks.search(page):
        raise SystemExit(f"{path} has no <!-- {name} --> and <!-- /{name} -->")
    path.write_text(marks.sub(lambda found: f"{found[1]}\n{shown}\n{found[2]}", page))


__all__ = ["Measured", "main", "write"]

if __name__ == "__main__":
    sys.exit(main())
