"""All problems of one config, collected by path, without those that only follow from another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Generic, TypeVar

from harness.core.errors import Problem

T = TypeVar("T")
Steps = tuple[str | int, ...]
_LONGEST_SHOWN = 60


@dataclass(slots=True)
class Problems:
    """What is wrong so far. A place that is reported once is broken: nothing more is said of it, nor of what lies under it."""

    found: list[tuple[Steps, str]] = field(default_factory=list)
    broken: set[Steps] = field(default_factory=set)

    def add(self, path: Steps, message: str) -> None:
        """Reports a problem at `path`, unless it lies in something that is already broken."""
        if not self.is_broken(path):
            self.found.append((path, message))
        self.broken.add(path)

    def absent(self, path: Steps, message: str) -> None:
        """Reports that something is not in `path`, unless a broken part of it may be what was meant."""
        if not self.touches(path):
            self.add(path, message)

    def is_broken(self, path: Steps) -> bool:
        """Whether `path` or anything around it was reported."""
        return any(path[:length] in self.broken for length in range(len(path) + 1))

    def touches(self, path: Steps) -> bool:
        """Whether `path` or anything inside it was reported."""
        return any(place[: len(path)] == path for place in self.broken)

    def sorted(self, order: Iterable[str]) -> tuple[Problem, ...]:
        """Every problem: sections in the order of the document, then as they were found."""
        places = {name: number for number, name in enumerate(order)}
        ranked = sorted(self.found, key=lambda item: places.get(str(item[0][0]), len(places)) if item[0] else -1)
        return tuple(Problem(".".join(map(str, path)), message) for path, message in ranked)


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What may be referred to by name. `named`: every name in the document, usable or not; None when nobody can know."""

    noun: str
    usable: Mapping[str, T]
    named: frozenset[str] | None

    def find(self, name: str, path: Steps, problems: Problems) -> T | None:
        """What the name stands for; None after reporting it, or silently when what it names is itself broken."""
        if name in self.usable:
            return self.usable[name]
        if self.named is not None and name not in self.named:
            problems.add(path, f"no {self.noun} `{name}`{instead(name, self.named)}")
        return None


def instead(word: str, words: Iterable[str]) -> str:
    """What to write instead: the close word, or the list of all."""
    known = sorted(words)
    close = get_close_matches(word, known, n=1, cutoff=0.75)
    if close:
        return f", did you mean `{close[0]}`?"
    return f"; expected {listed(known)}" if known else "; there is none"


def listed(words: Iterable[object]) -> str:
    """Words for a sentence: a, b or c."""
    *first, last = [str(word) for word in words]
    return f"{', '.join(first)} or {last}" if first else last


def shown(value: object) -> str:
    """A value of the config as it is quoted in a message: short, in YAML's words."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list)) and not value:
        return "an empty mapping" if isinstance(value, dict) else "an empty list"
    text = repr(value) if isinstance(value, (str, int, float, dict, list)) else type(value).__name__
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
