"""Members and levels of a plan."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest

from analysis.plan import Plan
from analysis.types import Gate, InputError, Metric

FLIP = Gate(name="flip", metric=Metric(kind="flip", policy="p"), word="below", limit=0.1)
HARM = Gate(name="harm", metric=Metric(kind="harm", policy="p", truth=True, decisions=("true",)), word="below", limit=0.1)
LISTED = {"gender": ("f", "m"), "region": ("ES", "SE", "PT"), "city": None}


def plan(*gates: Gate, **changes: object) -> Plan:
    return Plan(gates, **{"alpha": 0.05, "n_stages": 2, "listed": LISTED, **changes})


@pytest.mark.parametrize(("each", "members"), [
    ((), 1), ((("gender",),), 2), ((("gender",), ("region",)), 5), ((("gender", "region"),), 6), ((("city",),), 1),
    ((("gender",), ("city",), ("gender", "city")), 3), ((("planet",),), 1),
])
def test_members_are_fixed_by_the_config(each, members):
    """Every listed value is one, all that is not listed is one more: K must not grow with what is seen."""
    assert plan(replace(FLIP, each=each)).n_members() == members


def test_gates_that_do_not_count_are_no_members():
    """`report` and `dry_run` cost the others nothing."""
    found = plan(FLIP, HARM, replace(FLIP, name="a", dry_run=True), replace(FLIP, name="b", on_fail="report"))
    assert (found.n_members(), found.n_members("labelled"), found.n_members("unlabelled")) == (2, 1, 1)


def test_levels_of_both_groups_add_up_to_the_level_of_the_stage():
    """The labelled members are a group of their own, because their prefix is another."""
    found = plan(FLIP, HARM, replace(HARM, name="two", each=(("gender",),)))
    assert sum(exp(-found.log_enough(group)) for group in ("labelled", "unlabelled")) == pytest.approx(0.025)
    assert found.fail_level == pytest.approx(0.025 / 4) and plan().fail_level == 0.025


def test_the_digest_names_what_must_not_change():
    """Equal plans have one digest, whatever segments stand beside; each change has another."""
    base = plan(FLIP, HARM)
    assert base.digest() == plan(FLIP, HARM, listed={}).digest()
    others = [plan(HARM, FLIP), plan(FLIP), plan(FLIP, HARM, alpha=0.01), plan(FLIP, HARM, n_stages=1),
              plan(FLIP, replace(HARM, expect=0.01)), plan(FLIP, replace(HARM, metric=replace(HARM.metric, truth=False)))]
    assert len({base.digest(), *(other.digest() for other in others)}) == 7


@pytest.mark.parametrize("changes", [{"alpha": 0.0}, {"alpha": 1.0}, {"alpha": float("nan")}, {"n_stages": 0}])
def test_what_is_no_level_is_refused(changes):
    """No chance of error outside (0, 1), no part of nothing."""
    with pytest.raises(InputError):
        plan(FLIP, **changes)


def test_gates_need_their_own_names_and_levels():
    """Rows of a verdict are found by name."""
    for gates in ((FLIP, FLIP), (replace(FLIP, alpha=1.5),)):
        with pytest.raises(InputError):
            plan(*gates)
