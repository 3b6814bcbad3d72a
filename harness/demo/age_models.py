"""The three age models of the demo, trained on real people in a few seconds, and their batch functions.

- `incumbent` decides today: multinomial logistic regression over age bands; answers `{"bands": [p1, ..., p6]}`.
- `regressor` is on trial: gradient boosting on log age; answers `{"age": 21.15}`. Its mean error is lower, and it lets more minors in:
  a regression pulls the young towards the mean, a classifier with an edge at the line does not.
- `corrected` is the same regressor behind three guards, one a line, each trained for the decision there; answers `{"age": ...}`.
  It stops whom the bands stop, and beyond them those of whom a booster trained at that very line is the least sure.

Model URIs are `python:harness.demo.age_models:incumbent` and so on. The folder of trained models is named by SHADOW_DEMO_DIR, read when a
process first asks for a model's version, which a lane does before it sends an event, or calls it. Importing imports no scikit-learn.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.demo.people import FEATURES, load, observe, split
from harness.demo.traffic import SEED, Array

FOLDER = "SHADOW_DEMO_DIR"
LINES = (13, 16, 18)
EDGES = (8.0, 13.0, 16.0, 18.0, 25.0, 40.0, 81.0)  # years: six bands, as in the rollout config
PRICE = 0.012  # share of the people of age whom a guard may stop beyond those that the incumbent stops: 12 in 1,000
NAMES = ("incumbent", "regressor", "corrected")

_VISITS = 4  # observations of each person to train on
_FOLDS = 4


@dataclass(frozen=True)
class BandClassifier:
    """Chances of the age bands. `pipeline` is a fitted scikit-learn classifier whose classes are the bands in order."""

    pipeline: Any

    def chances(self, seen: Array) -> Array:
        """Chance of each band, shape (n, 6); rows add to 1."""
        chances: Array = self.pipeline.predict_proba(seen)
        return chances

    def answers(self, seen: Array) -> list[dict[str, Any]]:
        """`{"bands": [...]}` for each row of observations."""
        return [{"bands": bands} for bands in np.round(self.chances(seen), 6).tolist()]


@dataclass(frozen=True)
class Regressor:
    """Age in years. `booster` is a fitted regression on log age."""

    booster: Any

    def ages(self, seen: Array) -> Array:
        """Estimated age in years, shape (n,)."""
        ages: Array = np.exp(self.booster.predict(seen))
        return ages

    def answers(self, seen: Array) -> list[dict[str, Any]]:
        """`{"age": years}` for each row of observations."""
        return [{"age": age} for age in np.round(self.ages(seen), 2).tolist()]


@dataclass(frozen=True)
class Corrected:
    """The regressor's age, moved over or under a line where the guards say so.

    boosters: a fitted classifier of "of this age or older" for each line. cuts: the chance of it that lets a person over the line.
    """

    regressor: Regressor
    bands: BandClassifier
    boosters: Mapping[int, Any]
    cuts: Mapping[int, float]

    def ages(self, seen: Array) -> Array:
        """Estimated age in years, shape (n,): over a line exactly when its guard, the bands and all lower lines agree."""
        tails = chance_at_least(self.bands.chances(seen))
        low, high = np.zeros(len(seen)), np.full(len(seen), np.inf)
        through = np.ones(len(seen), dtype=bool)
        for line in LINES:
            sure = guard(self.boosters[line].predict_proba(seen)[:, 1], tails[line]) >= self.cuts[line]
            stopped = through & ~(sure & (tails[line] >= 0.5))
            high[stopped] = line - 0.01
            through &= ~stopped
            low[through] = line
        ages: Array = np.clip(self.regressor.ages(seen), low, high)
        return ages

    def answers(self, seen: Array) -> list[dict[str, Any]]:
        """`{"age": years}` for each row of observations."""
        return [{"age": age} for age in np.round(self.ages(seen), 2).tolist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What was trained: on how many people, how long it took, where the guards cut."""

    n_people: int
    seconds: float
    cuts: Mapping[int, float]


def band_median(chances: Array) -> Array:
    """Median age in years of band chances (n, 6), linear inside a band: at or over an edge exactly when the bands above it hold half."""
    cumulated = np.hstack([np.zeros((len(chances), 1)), chances.cumsum(axis=1)])
    return np.array([np.interp(0.5, row, EDGES) for row in cumulated])


def chance_at_least(chances: Array) -> dict[int, Array]:
    """For each line the chance, shape (n,), of being that old or older, of band chances (n, 6)."""
    return {line: chances[:, EDGES.index(line) :].sum(axis=1) for line in LINES}


def guard(boosted: Array, banded: Array) -> Array:
    """One chance from two, shape (n,): the mean of their log odds. Trees and lines err in different places."""
    inside = [np.clip(chance, 1e-6, 1 - 1e-6) for chance in (boosted, banded)]
    odds = np.mean([np.log(chance / (1 - chance)) for chance in inside], axis=0)
    joint: Array = 1 / (1 + np.exp(-odds))
    return joint


def train(folder: Path, seed: int = SEED, *, progress: Callable[[str], None] | None = None) -> Training:
    """Trains the three models on one core and writes them to `folder`; the same seed gives the same models.

    Args:
        folder: Where the models go; made if it is not there. To be named in SHADOW_DEMO_DIR for the batch functions.
        seed: Decides who is trained on; `stream.build` with the same seed takes the others.
        progress: Told what begins, in a few words.

    Raises:
        UsageError: the people or scikit-learn are not installed.
    """
    say = progress or (lambda words: None)
    started = time.perf_counter()
    people = load()
    training, _ = split(people, seed)
    rows = np.repeat(training, _VISITS)
    seen = observe(people, rows, np.random.default_rng([seed, 1]))
    ages = people["age"].to_numpy(float)[rows]
    with _threads().limit(limits=1):
        say(f"incumbent: a classifier of {len(EDGES) - 1} age bands, on {len(training):,} people")
        bands = BandClassifier(_fit_bands(seen, ages))
        say("challenger: a boosted regression of age")
        regressor = Regressor(_fit_regression(seen, ages))
        say(f"corrected challenger: guards at {', '.join(map(str, LINES))}, {_FOLDS}-fold cross-validation")
        cuts = _choose_cuts(seen, ages, rows)
        boosters = {line: _fit_booster(seen, ages >= line) for line in LINES}
    folder.mkdir(parents=True, exist_ok=True)
    models = zip(NAMES, (bands, regressor, Corrected(regressor, bands, boosters, cuts)), strict=True)
    for name, model in models:
        _file(folder, name).write_bytes(pickle.dumps(model, protocol=5))
    return Training(n_people=len(training), seconds=time.perf_counter() - started, cuts=cuts)


@dataclass(frozen=True, slots=True)
class Served:
    """A trained model as a batch function, loaded from SHADOW_DEMO_DIR once a process."""

    name: str

    @property
    def version(self) -> str | None:
        """Name and hash of the trained file, as in `regressor/3f2a91c0d4e5`; None where nothing is trained. It loads the model, so that
        no event waits for that."""
        try:
            return _loaded(self.name).version
        except UsageError:
            return None

    def __call__(self, events: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """An answer for each event's data. Data that is no object gets `{}`, which a lane counts as a bad output of that event alone.

        Raises:
            UsageError: SHADOW_DEMO_DIR names no folder with this model.
        """
        loaded = _loaded(self.name)
        readable = [index for index, data in enumerate(events) if isinstance(data, Mapping)]
        answers: list[dict[str, Any]] = [{} for _ in events]
        if readable:
            seen = np.array([[_number(events[index].get(feature)) for feature in FEATURES] for index in readable], dtype=float)
            with loaded.threads.limit(limits=1):
                for index, answer in zip(readable, loaded.model.answers(seen), strict=True):
                    answers[index] = answer
        return answers


incumbent, regressor, corrected = Served("incumbent"), Served("regressor"), Served("corrected")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model, its version, and hold of the threads that it may use."""

    model: BandClassifier | Regressor | Corrected
    version: str
    threads: Any


@cache
def _loaded(name: str) -> _Loaded:
    """The trained model from SHADOW_DEMO_DIR. Only ever one that this machine has written: unpickling runs code."""
    folder = os.environ.get(FOLDER)
    if not folder:
        raise UsageError(f"{FOLDER} is not set: it names the folder of the trained models; `shadow demo age` makes one")
    path = _file(Path(folder), name)
    if not path.is_file():
        raise UsageError(f"{path}: no trained model here; `shadow demo age` trains it")
    threads, content = _threads(), path.read_bytes()
    model: BandClassifier | Regressor | Corrected = pickle.loads(content)
    with threads.limit(limits=1):
        model.answers(np.full((1, len(FEATURES)), np.nan))  # the first answer sets up what later ones find ready
    return _Loaded(model, f"{name}/{hashlib.sha256(content).hexdigest()[:12]}", threads)


def _number(value: Any) -> float:
    """The value if it is a number, else NaN: models take a signal that they cannot read as one that they have not seen."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else np.nan


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.pickle"


def _threads() -> Any:
    """Hold of the threads of all numeric libraries. Raises UsageError when scikit-learn is not installed."""
    try:
        import sklearn.ensemble  # noqa: F401  (its threads can be held only once it is loaded)
        threadpoolctl = import_module("threadpoolctl")  # comes with scikit-learn, without types
    except ImportError as error:
        raise UsageError(f"the demo's models need scikit-learn ({error}); run: pip install 'shadow-harness[demo]'") from error
    return threadpoolctl.ThreadpoolController()


def _fit_bands(seen: Array, ages: Array) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fill = SimpleImputer(strategy="median", add_indicator=True)
    return make_pipeline(fill, StandardScaler(), LogisticRegression(max_iter=1_000)).fit(seen, np.digitize(ages, EDGES[1:-1]))


def _fit_regression(seen: Array, ages: Array) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    booster = HistGradientBoostingRegressor(max_iter=250, learning_rate=0.06, early_stopping=False, random_state=1)
    return booster.fit(seen, np.log(ages))


def _fit_booster(seen: Array, old_enough: NDArray[np.bool_]) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    booster = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.06, max_leaf_nodes=8, l2_regularization=5.0, early_stopping=False, random_state=1
    )
    return booster.fit(seen, old_enough)


def _choose_cuts(seen: Array, ages: Array, person: NDArray[np.int64]) -> dict[int, float]:
    """The cut of each guard: the highest that keeps its price on people whom the models of the fold have not seen.

    At each line, in turn, PRICE of the people of age are stopped beyond those whom the bands stop; those whom a lower line has
    already stopped count.
    """
    from sklearn.model_selection import GroupKFold

    chances = np.zeros((len(ages), len(EDGES) - 1))
    boosted = {line: np.zeros(len(ages)) for line in LINES}
    for fitted, judged in GroupKFold(_FOLDS).split(seen, groups=person):
        chances[judged] = _fit_bands(seen[fitted], ages[fitted]).predict_proba(seen[judged])
        for line in LINES:
            boosted[line][judged] = _fit_booster(seen[fitted], ages[fitted] >= line).predict_proba(seen[judged])[:, 1]
    tails = chance_at_least(chances)
    cuts: dict[int, float] = {}
    stopped = np.zeros(len(ages), dtype=bool)
    for line in LINES:
        of_age = ages >= line
        stopped |= tails[line] < 0.5
        chance = guard(boosted[line], tails[line])
        share = float(np.mean(tails[line][of_age] < 0.5)) + PRICE
        cuts[line] = float(np.quantile(np.where(stopped, 0.0, chance)[of_age], share))
        stopped |= chance < cuts[line]
    return cuts
