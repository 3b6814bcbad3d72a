"""How many contributions each method needs, as a ratio to the information limit, on the same seeded streams; `make calibrate` prints it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, log

import numpy as np
from order_dependent import empirical_bernstein, first, forgetful_betting, hedged_betting, msprt

from analysis.calibration.measure import ALPHA, Measured, Size, kl
from analysis.sequential.designs import Question, design
from analysis.simulate import turns
from analysis.types import Word

HORIZON = 20_000


@dataclass(frozen=True, slots=True)
class Stream:
    """A question and the truth it is asked under: values with their chances, the mean to be shown smaller than `m` on [0, 1].

    limit: ln(1/alpha)/KL, or the horizon where the null is true. variance, tau: what mSPRT is told.
    drifts: the chance of a 1 is 0.55 and 0.45 in turns of 1,000, so that the running mean is never under a half.
    """

    name: str
    values: tuple[float, ...]
    chances: tuple[float, ...]
    m: float
    limit: float
    variance: float
    tau: float
    question: Question
    drifts: bool = False

    def draw(self, rng: np.random.Generator, runs: int) -> np.ndarray:
        """Contributions of some runs, shape (runs, horizon); one run where nothing is random."""
        if self.drifts:
            return (rng.random((runs, HORIZON)) < turns(0.55, 0.45, 1_000, HORIZON)).astype(float)
        return rng.choice(self.values, (1 if 1.0 in self.chances else runs, HORIZON), p=self.chances)

    @property
    def null(self) -> bool:
        """Whether nothing should be shown."""
        return self.limit == HORIZON


def _rate(truth: float) -> Stream:
    limit = HORIZON if truth == 0.02 else log(1 / ALPHA) / (kl(truth, 0.02) if truth else -log(0.98))
    question = Question(kind="rate", low=0.0, high=1.0, word="below", limit=0.02)
    name = f"rate below 0.02, {f'truth {truth}' if truth else 'no event'}"
    return Stream(name, (0.0, 1.0), (1 - truth, truth), 0.02, limit, 0.02 * 0.98, 0.01, question)


def _signs(mean: float, limit: float) -> Stream:
    word: Word = "worse_by_at_most"
    question = Question(kind="sign", low=-1.0, high=1.0, word=word, limit=0.01, discordance=0.05)
    chances = ((0.05 - mean) / 2, 0.95, (0.05 + mean) / 2)
    return Stream(f"accuracy, margin 0.01, truth {mean:g}", (-1.0, 0.0, 1.0), chances, 0.5 + 0.01 / 2, limit, 0.05 / 4, 0.005, question)


HALF = Question(kind="rate", low=0.0, high=1.0, word="below", limit=0.5)
DRIFT = Stream("rate below 0.5, turns of 0.55 and 0.45", (0.0, 1.0), (0.5, 0.5), 0.5, HORIZON, 0.25, 0.05, HALF, drifts=True)
STREAMS = (_rate(0.01), _rate(0.005), _rate(0.015), _rate(0.0), _signs(0.0, 3_048.0), _rate(0.02), _signs(-0.01, HORIZON), DRIFT)


def ours(stream: Stream, xs: np.ndarray, *, closed_form: bool = False) -> float:
    """The first contribution at which our process has enough, from counts at every contribution."""
    q = stream.question
    made = design(Question(kind=q.kind, low=q.low, high=q.high, word=q.word, limit=q.limit, method="beta-binomial") if closed_form else q)
    values = np.array(stream.values)
    counts = np.cumsum(xs[:, None] == values, axis=0)
    for start in range(0, len(counts), 2_000):
        enough = made.log_e_pass(counts[start : start + 2_000], values) >= log(1 / ALPHA)
        if enough.any():
            return float(start + np.argmax(enough) + 1)
    return inf


def smaller(stream: Stream, xs: np.ndarray) -> list[float]:
    """The same contributions on [0, 1] with the sign turned where a larger mean is to be shown."""
    found: list[float] = (xs if stream.question.kind == "rate" else 0.5 - xs / 2).tolist()
    return found


METHODS: dict[str, Callable[[Stream, np.ndarray], float]] = {
    "mixture of constant bets (ours)": ours,
    "closed form, truncated Beta (ours, rates)": lambda stream, xs: ours(stream, xs, closed_form=True),
    "hedged betting, order-dependent": lambda stream, xs: first(hedged_betting(smaller(stream, xs), stream.m)),
    "plug-in empirical Bernstein, order-dependent": lambda stream, xs: first(empirical_bernstein(smaller(stream, xs), stream.m)),
    "aGRAPA that forgets, order-dependent": lambda stream, xs: first(forgetful_betting(smaller(stream, xs), stream.m)),
    "mSPRT, asymptotic": lambda stream, xs: first(msprt(smaller(stream, xs), stream.m, variance=stream.variance, tau=stream.tau)),
}


def compared(rng: np.random.Generator, size: Size, streams: Sequence[Stream] = STREAMS) -> Iterator[tuple[Measured, ...]]:
    """A line for each method: its mean stopping time over the limit on each stream, or its share of false rejections."""
    runs = max(size.few // 4, 10)
    drawn = {one.name: one.draw(rng, runs) for one in streams}
    for method, stop in METHODS.items():
        line = []
        for stream in streams:
            if "rates" in method and stream.question.kind != "rate":
                continue
            stops = np.array([stop(stream, xs) for xs in drawn[stream.name]])
            value = np.isfinite(stops).mean() if stream.null else np.minimum(stops, HORIZON).mean() / stream.limit
            line.append(Measured(task=f"{method}: {stream.name}", value=float(value), most=inf, runs=len(stops)))
        yield tuple(line)


def compared_table(lines: Sequence[tuple[Measured, ...]]) -> str:
    """Methods down, streams across; what is not decided by the horizon counts as decided there."""
    names = [one.task.partition(": ")[2] for one in lines[0]]
    null = {stream.name for stream in STREAMS if stream.null}
    head = ["method", *(f"{name}{' (false)' if name in null else ''}" for name in names)]
    rows = []
    for line in lines:
        found = {one.task.partition(": ")[2]: one for one in line}
        method = line[0].task.partition(": ")[0]
        rows.append([method, *(f"{found[name].value:.2f}" if name in found else "" for name in names)])
    runs = lines[0][0].runs
    shown = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(shown) + f"\n\n{runs} runs of at most {HORIZON:,} contributions, a look at each.\n"
