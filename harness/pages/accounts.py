"""The accounting of a verdict as the page shows it: where every event went, and whether it adds up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.pages import svg
from harness.pages.words import humanised


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """A whole and the parts it must be the sum of."""

    whole: str
    total: int
    parts: tuple[tuple[str, int], ...]
    picture: Markup

    @property
    def holds(self) -> bool:
        """Whether the parts add up to the whole."""
        return self.total == sum(n for _, n in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The identity, who is charged with missing events, every lane's tally, and the outcomes."""

    equations: tuple[Equation, ...]
    missing: tuple[tuple[str, str, int], ...]
    tallies: tuple[str, ...]
    lanes: tuple[tuple[str, tuple[int, ...]], ...]
    outcomes: tuple[tuple[str, int], ...]


def accounts(verdict: Mapping[str, Any]) -> Accounts:
    """From the object of verdict.json."""
    counts, lanes = verdict["counts"], verdict["lanes"]
    missing = tuple((lane, humanised(reason), n) for lane, by in counts["missing"].items() for reason, n in by.items() if n)
    words = tuple(dict.fromkeys(["answered", *(word for tally in lanes.values() for word, n in tally.items() if n)]))
    read = tuple((name, counts[name]) for name in ("duplicates", "unsampled", "mirrored"))
    settled = tuple((humanised(name), counts[name]) for name in ("invalid", "shed", "in_flight"))
    settled += (("missing", sum(n for by in counts["missing"].values() for n in by.values())), ("paired", counts["paired"]))
    return Accounts(
        equations=(_equation("read", counts["read"], read), _equation("mirrored", counts["mirrored"], settled)),
        missing=missing,
        tallies=tuple(humanised(word) for word in words),
        lanes=tuple((lane, tuple(tally.get(word, 0) for word in words)) for lane, tally in lanes.items()),
        outcomes=tuple((humanised(name), n) for name, n in verdict["outcomes"].items() if isinstance(n, int)) + _requests(verdict),
    )


def _requests(verdict: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Requests for labels that found their event, and those that never did; empty where none are recorded."""
    found = verdict.get("requests")
    return (("asked for", found["joined"]), ("asked for, orphaned", found["orphaned"])) if found else ()


def _equation(whole: str, total: int, parts: tuple[tuple[str, int], ...]) -> Equation:
    words = f"{total:,} {whole}: " + ", ".join(f"{n:,} {name}" for name, n in parts)
    return Equation(whole=whole, total=total, parts=parts, picture=svg.flow(parts, words))
