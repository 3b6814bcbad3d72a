"""Compares our numbers with those of libraries that are right, each installed into a venv of its own: they cannot live together.

    python benchmarks/compare_libraries.py [--folder DIR] [--only statsmodels,fairlearn,gbstats,savvi,confseq] [--write FILE]

Prints for each library whether it agrees, or how many contributions and how much time it needs beside ours on the same seeded streams. A
library that cannot be installed here is named with its reason (confseq needs NumPy < 2, a C++ compiler and Boost). Needs the network, some
minutes, and --folder (kept) or a temporary folder (removed) for the venvs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from math import inf, log
from pathlib import Path
from typing import Any

import numpy as np
from calibrate import write

from analysis.evidence import Evidence, Plan
from analysis.metrics.support import Ints
from analysis.sequential.designs import Question, design
from analysis.simulate import World, ages, hours
from analysis.types import Gate, Metric

SIGNS, RATE = np.array([-1.0, 0.0, 1.0]), np.array([0.0, 1.0])
MARGIN = Question(kind="sign", low=-1.0, high=1.0, word="worse_by_at_most", limit=0.01, discordance=0.05)
BELOW = Question(kind="rate", low=0.0, high=1.0, word="below", limit=0.02)
STEP, HORIZON = 50, 40_000
INSTALL_S, RUN_S = 300.0, 300.0

FAIRLEARN = """
import numpy as np
from fairlearn.metrics import MetricFrame, false_positive_rate
frame = MetricFrame(metrics=false_positive_rate, y_true=np.array(given["truth"]), y_pred=np.array(given["said"]),
                    sensitive_features=np.array(given["region"]))
answer = frame.by_group.to_dict()
"""
GBSTATS = """
import time
from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
from gbstats.models.statistics import SampleMeanStatistic
config, stops, began, looks = SequentialConfig(difference_type="absolute"), [], time.perf_counter(), 0
for counts in given["counts"]:
    for minus, zero, plus in counts:
        n, looks = minus + zero + plus, looks + 1
        paired = SampleMeanStatistic(n=n, sum=plus - minus, sum_squares=plus + minus)
        none = SampleMeanStatistic(n=n, sum=0, sum_squares=0)
        if paired.variance > 0 and SequentialTwoSidedTTest(none, paired, config).confidence_interval[0] > -given["margin"]:
            stops.append(n)
            break
    else:
        stops.append(None)
answer = {"stops": stops, "look_s": (time.perf_counter() - began) / looks}
"""
SAVVI = """
import math, time
import numpy as np
from savvi.multinomial import Multinomial
found, began = [], time.perf_counter()
for counts in given["counts"]:
    test = Multinomial(alpha=0.05, theta_0=np.array(given["shares"]), k=given["k"])
    test.update(np.array(counts))
    found.append(math.log(test.odds))
answer = {"log_e": found, "look_s": (time.perf_counter() - began) / len(given["counts"])}
"""
CONFSEQ = """
import time
import numpy as np
from confseq.betting import betting_cs
began, upper = time.perf_counter(), []
for xs in given["streams"]:
    upper.append(float(betting_cs(np.array(xs, float), alpha=0.1, running_intersection=False)[1][-1]))
answer = {"upper": upper, "look_s": (time.perf_counter() - began) / len(given["streams"])}
"""


class Unavailable(Exception):
    """A library that cannot be installed or run here, with the last line of what was said."""


def ask(folder: Path, packages: list[str], script: str, given: Any) -> Any:
    """What a script answers in a venv with these packages; JSON in and out.

    Raises:
        Unavailable: it could not be installed or run, or took too long.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    whole = f"import json, sys\ngiven = json.load(sys.stdin)\n{script}\nprint(json.dumps(answer))"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        if done.returncode == 0:
            command, told = [str(python), "-c", whole], json.dumps(given)
            done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=RUN_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"not done after {error.timeout:.0f} s") from error
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or ["no reason given"])[-1][:160])
    return json.loads(done.stdout.strip().splitlines()[-1])


def by_look(rng: np.random.Generator, runs: int) -> Ints:
    """Counts of -1, 0 and 1 of equal models that differ on 5 %, every 50 pairs, shape (runs, looks, 3)."""
    return np.cumsum(rng.multinomial(STEP, [0.025, 0.95, 0.025], (runs, HORIZON // STEP)), axis=1)


def statsmodels_(folder: Path) -> str:
    """Already installed: a fixed-sample interval beside ours, which may be looked at all the time."""
    from statsmodels.stats.proportion import proportion_confint

    ratios, made = [], design(BELOW)
    for n, s in ((2_000, 20), (20_000, 200), (200_000, 2_000)):
        counts = np.array([n - s, s])
        low, high = proportion_confint(s, n, alpha=0.1, method="beta")
        ours = made.pass_[0].bound(counts, RATE, level=0.05) - made.fail[0].bound(counts, RATE, level=0.05)
        ratios.append(ours / (high - low))
    return f"exact interval for one look; ours for every look is {min(ratios):.2f} to {max(ratios):.2f} times as wide"


def fairlearn_(folder: Path) -> str:
    """The false positive rate of each group, on the same table."""
    table = ages(np.random.default_rng(1), 20_000, World(events_a_unit=1.0, labelled=1.0))
    known = table["over_18.truth"] >= 0
    words = table.words["segment.region"]
    given = {"truth": table["over_18.truth"][known].tolist(), "said": table["over_18.challenger"][known].tolist(),
             "region": [words[code] for code in table["segment.region"][known]]}
    theirs = ask(folder, ["fairlearn"], FAIRLEARN, given)
    gate = Gate(name="fpr", metric=Metric(kind="harm", policy="over_18", truth=False, decisions=("true",)), word="below", limit=0.5,
                each=(("region",),))
    evidence = Evidence(Plan((gate,), alpha=0.05, n_stages=1, listed={"region": None}), True)
    evidence.fold(table, hours(table))
    ours = {row.segment["region"]: row.estimate_events for row in evidence.results() if row.segment}
    apart = max(abs(theirs[name] - float(ours[name] or inf)) for name in theirs)
    return f"false positive rate of {len(theirs)} groups: largest difference {apart:.1e}"


def gbstats_(folder: Path) -> str:
    """Non-inferiority of paired accuracy, tuned to its default of 5,000, a look every 50 pairs."""
    counts, margin = by_look(np.random.default_rng(2), 100), design(MARGIN)
    theirs = ask(folder, ["gbstats"], GBSTATS, {"counts": counts.tolist(), "margin": 0.01})
    began = time.perf_counter()
    enough = [margin.log_e_pass(run, SIGNS) >= log(20) for run in counts]
    look_s = (time.perf_counter() - began) / counts[..., 0].size
    ours = np.array([STEP * (np.argmax(run) + 1) if run.any() else HORIZON for run in enough])
    other = np.array([HORIZON if n is None else n for n in theirs["stops"]])
    return (f"accuracy, margin 0.01: {other.mean() / 3_048:.2f} of the limit, ours {ours.mean() / 3_048:.2f}; "
            f"a look {theirs['look_s'] / look_s:.0f} times as long as ours in bulk")


def savvi_(folder: Path) -> str:
    """The Bayes factor of a split of traffic."""
    from analysis.online.split import log_bayes_factor

    counts, shares, k = np.array([[100, 90], [5_000, 5_000], [5_100, 4_900], [900, 1_100]]), [0.5, 0.5], 1_000.0
    theirs = ask(folder, ["savvi", "matplotlib", "cvxpy"], SAVVI, {"counts": counts.tolist(), "shares": shares, "k": k})
    ours = log_bayes_factor(counts, np.array(shares), k=k)
    return f"split of traffic, 4 cases: largest difference of log e {np.abs(ours - np.array(theirs['log_e'])).max():.1e}"


def confseq_(folder: Path) -> str:
    """The upper end of its betting confidence sequence after 1,500 contributions, beside ours."""
    rng = np.random.default_rng(3)
    streams = (rng.random((10, 1_500)) < 0.01).astype(int)
    theirs = ask(folder, ["numpy<2", "confseq"], CONFSEQ, {"streams": streams.tolist()})
    process = design(BELOW).pass_[0]
    ours = [process.bound(np.array([1_500 - s, s]), RATE, level=0.05) for s in streams.sum(axis=1).tolist()]
    return f"upper end after 1,500: theirs {np.mean(theirs['upper']):.4f}, ours {np.mean(ours):.4f}"


LIBRARIES: dict[str, Callable[[Path], str]] = {
    "statsmodels": statsmodels_, "fairlearn": fairlearn_, "gbstats": gbstats_, "savvi": savvi_, "confseq": confseq_,
}


def main() -> None:
    """All, or those named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the venvs are made and kept")
    parser.add_argument("--only", default=",".join(LIBRARIES))
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace what stands between the marks of this page")
    args = parser.parse_args()
    rows = ["| library | beside ours |", "|---|---|"]
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.only.split(","):
            if name not in LIBRARIES:
                parser.error(f"--only {name}: expected some of {', '.join(LIBRARIES)}")
            try:
                said = LIBRARIES[name]((args.folder or Path(temporary)) / name)
            except Unavailable as error:
                said = f"not compared: {error}"
            print(f"{name:12} {said}", flush=True)
            rows.append(f"| {name} | {said} |")
    if args.write:
        write(args.write, "libraries", "\n".join(rows) + "\n")


if __name__ == "__main__":
    sys.exit(main())
