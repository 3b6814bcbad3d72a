"""Two arms on real experiments: 78 of ASOS, at the looks that people really took, and again with every effect taken out.

    python benchmarks/asos.py DATA [--write docs/statistics.md] [--picture docs/assets/asos.svg] [--rounds 20] [--seed 20240611]

DATA is asos_digital_experiments_dataset.parquet (Liu et al. 2021, CC BY 4.0, https://osf.io/64jsb/); it is not part of this repository.
A row of it is a look: n, mean and variance of both arms so far. `make asos DATA=path` writes the tables and the picture. About a minute
on one core. Exits 1 if a share of false claims lies over alpha, after printing; 2 without the file.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.online.lifts import asymptotic_half_width, design_lifts, two_sided_log_e
from analysis.online.sums import CHALLENGER, INCUMBENT, N_FIRST, Moments, Sums, difference
from harness.pages.svg import line, picture, scale, tag, text

ALPHA = 0.05
KEY = ("experiment_id", "variant_id", "metric_id")
COLUMNS = (*KEY, "time_since_start", "count_c", "count_t", "mean_c", "mean_t", "variance_c", "variance_t")
MARKS = re.compile(r"(<!-- asos -->\n).*?(<!-- /asos -->)", re.S)
MARGIN, DECIDE_AT = 0.01, 5_000.0
Z = 1.959964
Floats = NDArray[np.float64]
WORDS = {
    "z": "z above 1.96 at any look",
    "sequence": "asymptotic sequence at any look, tuned for 5,000 units",
    "mixture": "mixture over lifts at any look, nothing expected",
}
METHODS = tuple(WORDS)


@dataclass(frozen=True, slots=True)
class Looks:
    """The looks of one metric of one variant, in order of time; arrays of shape (looks,).

    day: days since the start. n, mean, variance: of (control, treatment), shape (2, looks). estimate, se: of treatment - control.
    """

    key: tuple[str, int, int]
    day: Floats
    n: Floats
    mean: Floats
    variance: Floats
    estimate: Floats
    se: Floats

    @property
    def units(self) -> Floats:
        """Of both arms."""
        return self.n.sum(axis=0)


def load(path: Path) -> tuple[list[Looks], int]:
    """(every series with two looks or more that can be read, how many looks were left out)."""
    import pandas as pd

    frame = pd.read_parquet(path)
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise SystemExit(f"asos: {path} has no column {missing[0]}; expected {', '.join(COLUMNS)}")
    found, left_out = [], 0
    for key, rows in frame.groupby(list(KEY)):
        rows = rows.sort_values("time_since_start")
        n, mean, variance = (rows[[f"{name}_c", f"{name}_t"]].to_numpy(float).T for name in ("count", "mean", "variance"))
        ready = np.array([_ready(n[:, k], mean[:, k], variance[:, k]) for k in range(len(rows))])
        left_out += int((~ready).sum())
        if ready.sum() >= 2:
            looks = [_difference(n[:, k], mean[:, k], variance[:, k]) for k in np.flatnonzero(ready)]
            day = rows["time_since_start"].to_numpy(float)[ready]
            found.append(Looks(key, day, n[:, ready], mean[:, ready], variance[:, ready], *np.array(looks).T))
    return found, left_out


def _ready(n: Floats, mean: Floats, variance: Floats) -> bool:
    return bool((n >= N_FIRST).all() and np.isfinite(mean).all() and (variance > 0.0).all())


def _difference(n: Floats, mean: Floats, variance: Floats) -> tuple[float, float]:
    """(treatment - control, its standard error), by the product's own sums."""
    arms = {(0, arm): Moments.told(int(n[arm]), float(mean[arm]), float(variance[arm])) for arm in (INCUMBENT, CHALLENGER)}
    found = difference(Sums(arms), "higher")
    if found.estimate is None or found.se is None or not found.ready:
        raise SystemExit(f"asos: a look with {n.tolist()} units has no difference")
    return found.estimate, found.se


# --------------------------------------------------------------------------------------------------------------- without an effect
def drawn(looks: Looks, rng: np.random.Generator) -> Looks:
    """No effect, at the same looks with the same sizes and standard errors: both arms are halves of one population whose values are fixed
    once a unit counts. Then z is a Brownian motion over the root of its time 1/(1/n_control + 1/n_treatment); it is drawn as one."""
    time = np.maximum.accumulate(1.0 / (1.0 / looks.n).sum(axis=0))
    steps = np.sqrt(np.diff(time, prepend=0.0)) * rng.normal(0.0, 1.0, len(time))
    return replace(looks, estimate=looks.se * np.cumsum(steps) / np.sqrt(time))


def forgetful(looks: Looks, rng: np.random.Generator) -> Looks:
    """The same, but each look's difference is drawn anew: nothing of one look is left at the next. The other extreme of what values do that
    go on changing after their unit was counted."""
    return replace(looks, estimate=looks.se * rng.normal(0.0, 1.0, len(looks.se)))


def variation(looks: Looks) -> float:
    """How much the weighed difference really moved between looks, over what it moves if values are fixed: 1 on average then, effect or not.

    Sum of squared steps of (difference - its last) / se^2, over the last 1/se^2.
    """
    information = 1.0 / looks.se**2
    steps = np.diff((looks.estimate - looks.estimate[-1]) * information, prepend=0.0)
    return float((steps**2).sum() / information[-1])


# ---------------------------------------------------------------------------------------------------------------------------- claims
def claims(looks: Looks) -> dict[str, NDArray[np.bool_]]:
    """Whether each method claims a difference at each look, two-sided at alpha; shape (looks,)."""
    half = asymptotic_half_width(looks.se, looks.units, alpha=ALPHA, decide_at=DECIDE_AT)
    return {
        "z": np.abs(looks.estimate) > Z * looks.se,
        "sequence": np.abs(looks.estimate) > half,
        "mixture": two_sided_log_e(looks.estimate, looks.se, looks.units) >= log(1.0 / ALPHA),
    }


def margin_passes(looks: Looks, worse: float) -> NDArray[np.bool_]:
    """Whether the gate "worse by at most 1 % of the control's mean at the first look" passes at each look, the treatment made worse by so
    many margins."""
    margin = MARGIN * abs(float(looks.mean[0, 0]))
    made = design_lifts("worse_by_at_most", margin)
    return made.log_e_pass(looks.estimate - worse * margin, looks.se, looks.units) >= log(1.0 / ALPHA)


@dataclass(frozen=True, slots=True)
class Versions:
    """Series without an effect, each method's shares of them: ever a claim, and a claim by each share of its looks (a curve)."""

    n: int
    ever: dict[str, float]
    last: float
    at_margin: float
    curve: dict[str, Floats]


GRID = np.linspace(0.0, 1.0, 101)


def versions(series: list[Looks], made: Callable[[Looks, np.random.Generator], Looks], rounds: int, seed: int) -> Versions:
    """Many versions of all series."""
    rng, n, last, passed = np.random.default_rng(seed), 0, 0, 0
    first: dict[str, list[float]] = {name: [] for name in METHODS}
    for looks in (made(looks, rng) for looks in series for _ in range(rounds)):
        n += 1
        for name, claimed in claims(looks).items():
            first[name].append(int(claimed.argmax()) / (len(claimed) - 1) if claimed.any() else 2.0)
            last += bool(claimed[-1]) if name == "z" else 0
        passed += bool(margin_passes(looks, 1.0).any())
    curve = {name: (np.array(when)[:, None] <= GRID).mean(axis=0) for name, when in first.items()}
    return Versions(n, {name: float(np.mean(np.array(when) <= 1.0)) for name, when in first.items()}, last / n, passed / n, curve)


# --------------------------------------------------------------------------------------------------------------------------- the page
def real_table(series: list[Looks]) -> Iterator[str]:
    """What each method says of the real series."""
    yield "| real series | claimed at some look | of these still at the last look | median day of the first claim |"
    yield "|---|---|---|---|"
    found = [(looks, claims(looks)) for looks in series]
    yield f"| z above 1.96 at the last look only | {sum(bool(claimed['z'][-1]) for _, claimed in found)} | | |"
    for name, words in WORDS.items():
        mine = [(looks, claimed[name]) for looks, claimed in found if claimed[name].any()]
        days = [float(looks.day[claimed.argmax()]) for looks, claimed in mine]
        yield f"| {words} | {len(mine)} | {sum(bool(claimed[-1]) for _, claimed in mine)} | {np.median(days):.1f} |"
    passes = [(looks, margin_passes(looks, 0.0)) for looks in series]
    mine = [(looks, passed) for looks, passed in passes if passed.any()]
    days = [float(looks.day[passed.argmax()]) for looks, passed in mine]
    still = sum(bool(passed[-1]) for _, passed in mine)
    yield f"| gate: worse by at most 1 % of the control's mean, passes | {len(mine)} | {still} | {np.median(days):.1f} |"


def false_table(found: dict[str, Versions]) -> Iterator[str]:
    """Shares of false claims in the versions without an effect."""
    yield "| share of series without an effect that are claimed | " + " | ".join(found) + " |"
    yield "|---|" + "---|" * len(found)
    yield "| z above 1.96 at the last look only | " + " | ".join(f"{v.last:.3f}" for v in found.values()) + " |"
    for name, words in WORDS.items():
        yield f"| {words} | " + " | ".join(f"{v.ever[name]:.3f}" for v in found.values()) + " |"
    shown = [f"{v.at_margin:.3f}" for v in found.values()]
    yield "| gate at its limit (a loss of exactly the margin): passes at any look | " + " | ".join(shown) + " |"
    yield "| series | " + " | ".join(f"{v.n:,}" for v in found.values()) + " |"


def section(series: list[Looks], left_out: int, found: dict[str, Versions], args: argparse.Namespace) -> str:
    """What stands between the marks of the page."""
    n_looks, experiments = sum(len(looks.day) for looks in series), len({looks.key[0] for looks in series})
    return "\n".join([
        f"{len(series)} series (a metric of a variant) of {experiments} experiments, {n_looks:,} looks; {left_out:,} looks with fewer than "
        f"{N_FIRST:,} units in an arm or without a variance are left out.",
        "", *real_table(series), "",
        f"{args.rounds} versions of each series without an effect, seed {args.seed}:", "", *false_table(found), "",
        "Between looks the weighed difference of the real series moved "
        f"{np.median([variation(looks) for looks in series]):.1f} times (median) as much as it does where values of units are fixed.", "",
        f"![Share of series without an effect that were claimed, by how many of their looks were read]({args.picture.relative_to('docs')})"
        if args.picture and args.picture.is_relative_to("docs") else "", "",
    ])


# ------------------------------------------------------------------------------------------------------------------------- the picture
STYLE = """.t{font:13px system-ui,sans-serif;fill:#24292f}.grid{stroke:#d0d7de}.limit{stroke:#24292f;stroke-dasharray:5 4}
.curve{fill:none;stroke-width:2.5}.z{stroke:#bc4c00}.sequence{stroke:#8250df;stroke-dasharray:7 3}.mixture{stroke:#0969da}
.num,.axis{fill:#57606a}.strong{font-weight:600}.paper{fill:#fff}"""
NAMES = {"z": "z above 1.96", "sequence": "asymptotic sequence", "mixture": "mixture over lifts"}


def draw(found: Versions) -> str:
    """False claims so far, by the share of the looks that were read."""
    width, height, left, right, top, bottom = 760.0, 360.0, 52.0, 170.0, 30.0, 48.0
    most = float(np.ceil(max(curve[-1] for curve in found.curve.values()) * 20.0) / 20.0)
    x, y = scale(0.0, 1.0, left, width - right), scale(0.0, most, height - bottom, top)
    shapes = [tag("style", STYLE), tag("rect", x=0.0, y=0.0, width=width, height=height, class_="paper")]
    for level in np.arange(0.0, most + 0.01, 0.05).tolist():
        shapes += [line(left, y(level), width - right, y(level), class_="grid"),
                   text(left - 8, y(level) + 4, f"{level * 100:.0f} %", "num", anchor="end")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        shapes.append(text(x(share), height - bottom + 20, f"{share * 100:.0f} %", "num", anchor="middle"))
    shapes += [text((left + width - right) / 2, height - 8, "looks read so far", "axis", anchor="middle"),
               text(left, 18, "series without an effect that were claimed to have one", "strong"),
               line(left, y(ALPHA), width - right, y(ALPHA), class_="limit"), text(left + 8, y(ALPHA) - 6, "alpha: 5 %")]
    places: dict[str, float] = {}
    for name in sorted(METHODS, key=lambda name: float(found.curve[name][-1])):  # words do not lie on each other: each stays above the last
        places[name] = min(y(float(found.curve[name][-1])), min(places.values(), default=height) - 18.0)
    for name in METHODS:
        points = zip(GRID.tolist(), found.curve[name].tolist(), strict=True)
        path = "M" + "L".join(f"{x(share):.1f} {y(value):.1f}" for share, value in points)
        shapes += [tag("path", d=path, class_=f"curve {name}"), text(width - right + 8, places[name] + 4, NAMES[name])]
    words = "Share of series without an effect that were claimed to have one, by how many of their looks were read"
    drawn_ = str(picture(width, height, words, *shapes, class_="chart"))
    return drawn_.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace what stands between the marks of this page")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the false claims into this SVG")
    parser.add_argument("--rounds", type=int, default=20, help="versions of each series without an effect")
    parser.add_argument("--seed", type=int, default=20240611)
    args = parser.parse_args(argv)
    if not args.data.is_file():
        print(f"asos: no file {str(args.data)!r}: get asos_digital_experiments_dataset.parquet from https://osf.io/64jsb/ and name it: "
              "make asos DATA=path", file=sys.stderr)
        return 2
    series, left_out = load(args.data)
    kinds = {"fixed values": drawn, "without memory": forgetful}
    found = {name: versions(series, made, args.rounds, args.seed) for name, made in kinds.items()}
    body = section(series, left_out, found, args)
    print(body)
    if args.picture:
        args.picture.write_text(draw(found["fixed values"]))
    if args.write:
        page = args.write.read_text()
        if not MARKS.search(page):
            parser.error(f"{args.write} has no <!-- asos --> and <!-- /asos -->")
        args.write.write_text(MARKS.sub(lambda marks: f"{marks[1]}\n{body}\n{marks[2]}", page))
    fixed = found["fixed values"]
    return 0 if max(fixed.ever["mixture"], fixed.at_margin) <= ALPHA else 1


if __name__ == "__main__":
    sys.exit(main())
