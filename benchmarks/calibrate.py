"""Measures the goals of the statistics and prints them as a table; `make calibrate` also writes it into docs/statistics.md.

    python benchmarks/calibrate.py [--reduced] [--runs N] [--write FILE] [--seed N]

Takes some minutes on one core (reduced: half a minute). Exits 1 if a goal is missed, after printing.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from analysis.calibration import FULL, REDUCED, Size, everything, table

MARKS = re.compile(r"(<!-- calibration -->\n).*?(<!-- /calibration -->)", re.S)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reduced", action="store_true", help="fewer runs, as the tests do")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace what stands between the marks of this page")
    parser.add_argument("--runs", type=int, metavar="N", help="runs of a cheap line instead of 10,000; others in proportion")
    parser.add_argument("--seed", type=int, default=20240611)
    args = parser.parse_args(argv)
    lines, began = [], time.monotonic()
    size = REDUCED if args.reduced else FULL if args.runs is None else Size(args.runs, max(args.runs // 10, 40))
    for line in everything(size, args.seed):
        lines.append(line)
        print(f"{time.monotonic() - began:6.0f} s  {'ok  ' if line.met else 'MISS'}  {line.value:10.4g}  {line.task}", flush=True)
    if args.write:
        page = args.write.read_text()
        if not MARKS.search(page):
            parser.error(f"{args.write} has no <!-- calibration --> and <!-- /calibration -->")
        args.write.write_text(MARKS.sub(lambda found: f"{found[1]}\n{table(lines)}\n{found[2]}", page))
    return 0 if all(line.met for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
