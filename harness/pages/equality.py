"""Whether the models are equally accurate, and whether the challenger is more than a copy: for reports and terminals, never a gate."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Any

from analysis.figures.equality import Equality, Wrong, accuracy, copy_of_decisions, copy_of_numbers
from analysis.types import PairTable
from harness.core.rollout import Policy, Rollout
from harness.pages.companions import folded
from harness.pages.numbers import count, figures
from harness.pages.words import humanised

if TYPE_CHECKING:
    from rich.table import Table

HEADS = ("question", "only challenger", "only other", "rest", "e-value", "answer")
LARGEST_E = 1e6


def wrong_of(rollout: Rollout, policy: Policy) -> Wrong:
    """The errors of a policy: of true and false the other class, of several decisions the harms that the config names."""
    if not policy.choices:
        return (False, ("true",)), (True, ("false",))
    return tuple((harm.truth, harm.decisions) for harm in rollout.harms.values() if harm.policy == policy.name)


def equalities(rollout: Rollout, table: PairTable, *, look: int | None) -> list[Equality]:
    """Both questions for every policy and output that the table can answer them of, at the rollout's alpha each. look: as of `folded`."""
    all_pairs, matured = folded(rollout, table, look)
    judged = [p for p in rollout.policies.values() if f"{p.name}.incumbent" in table.columns and f"{p.name}.challenger" in table.columns]
    found = [accuracy(matured, policy.name, wrong_of(rollout, policy), alpha=rollout.alpha) for policy in judged]
    found += [copy_of_decisions(all_pairs, policy.name, alpha=rollout.alpha) for policy in judged]
    numbers = [output.name for output in rollout.outputs.values() if output.type == "number"]
    found += [copy_of_numbers(all_pairs, name, alpha=rollout.alpha) for name in numbers if f"{name}.incumbent" in table.columns]
    return [one for one in found if one is not None]


def document(one: Equality) -> dict[str, Any]:
    """One answer with its counts; the same keys for both questions."""
    return {"name": one.name, "question": QUESTIONS[one.question], "only_challenger": one.challenger, "only_other": one.other,
            "concordant": one.concordant, "log_e": one.log_e, "alpha": one.alpha, "different": one.different}  # fmt: skip


QUESTIONS = {
    "accuracy": "equally accurate among labelled?",
    "copy": "different from a mere copy?",
}
ANSWERS = {("accuracy", True): "no: the {better} is right more often", ("accuracy", False): "nothing speaks against it",
           ("copy", True): "yes", ("copy", False): "it may be a copy"}  # fmt: skip


def cells(one: Equality) -> tuple[str, ...]:
    """One answer in words, in the order of `HEADS`."""
    better = "challenger" if one.challenger > one.other else "incumbent"
    e_value = figures(exp(one.log_e)) if one.log_e < 13.8 else f"over {count(int(LARGEST_E))}"
    return (f"{humanised(one.name)}: {QUESTIONS[one.question]}", count(one.challenger), count(one.other), count(one.concordant),
            e_value, ANSWERS[one.question, one.different].format(better=better))  # fmt: skip


def equality_table(found: list[Equality], alpha: float) -> Table:
    """The answers as the terminal shows them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left", title_style="dim",
                  title=f"for the report: one voice a unit, valid at every look; proved at an e-value of {1.0 / alpha:g}")  # fmt: skip
    for head in HEADS:
        table.add_column(head, no_wrap=head in (HEADS[0], HEADS[-1]))
    for one in found:
        table.add_row(*(Text(cell) for cell in cells(one)))
    return table
