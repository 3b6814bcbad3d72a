"""Several challengers in one config, or one under a name of its own: a config for each, as if there were no other.

In it the challenger is called `challenger`, as gates and everything behind the config know it, and `alpha` is its share. Problems are
found in these, and told by the path that was written.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from harness.config.gatewords import RolloutWords
from harness.config.problems import Problems, Steps, listed
from harness.core.rollout import CHALLENGER, Family

NAME = r"^[a-z0-9][a-z0-9_-]{0,39}$"
OTHERS = ("incumbent", "replica")
TAKEN = frozenset({
    "truth", "by", "default",  # of a line
    "type", "unit", "range", "labels",  # of an output
    "output", "at_least", "decide", "of", "is",  # of a policy
    "mirror", "predictions", "records", "dead",  # topics
})  # fmt: skip
LONGEST = 100  # of a rollout's name
_SHAPE = re.compile(NAME.replace("$", r"\Z"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """A config with the names of its challengers, in its order."""

    document: Mapping[str, Any]
    names: tuple[str, ...]

    def document_of(self, name: str) -> dict[str, Any]:
        """The config of one challenger, with name and alpha as they were written."""
        found = copy.deepcopy(dict(self.document))
        found["models"] = self._own(found["models"], name)
        for section in ("outputs", "policies"):
            for key, words in _entries(found.get(section)):
                found[section][key] = self._own(words, name) if section == "outputs" or len(self.names) == 1 else words
        for _, words in _entries(found.get("policies")):
            for at in (words, *_choices(words)):
                if isinstance(at.get("at_least"), dict) and not {"by", "default"} & at["at_least"].keys():
                    at["at_least"] = self._own(at["at_least"], name)
        return found

    def rollout_of(self, name: str) -> dict[str, Any]:
        """The same under its own name, with its share of alpha. The config must be valid."""
        found, k = self.document_of(name), len(self.names)
        found["rollout"] = self.family_of(name).rollout_of(name)
        if k > 1:
            found["alpha"] = found.get("alpha", RolloutWords.model_fields["alpha"].default) / k
            found["gates"] = [{**gate, "alpha": gate["alpha"] / k} if "alpha" in gate else gate for gate in found["gates"]]
        return found

    def family_of(self, name: str) -> Family:
        """What its rollout knows of the others."""
        return Family(name=self.document["rollout"], challengers=self.names, challenger=name)

    def _own(self, words: dict[str, Any], name: str) -> dict[str, Any]:
        """A mapping by lane as one challenger has it: what stands under its name, else what stands under `challenger`."""
        kept = {key: value for key, value in words.items() if key not in self.names or key == CHALLENGER}
        return {**kept, CHALLENGER: words[name]} if name in words else kept

    # ------------------------------------------------------------------------------------------------------------------ problems
    def problems_of(self, name: str, read: Problems) -> Problems:
        """What is broken already, as paths of its own config."""

        def own(path: Steps) -> Steps:
            return tuple(CHALLENGER if step == name and self._by_lane(path[:n]) else step for n, step in enumerate(path))

        return Problems([(own(path), said) for path, said in read.found], {own(path) for path in read.broken})

    def written(self, path: Steps, name: str) -> Steps:
        """A path of its own config as it stands, or should stand, in the one that was written."""
        for n, step in enumerate(path):
            words = self._at(path[:n])
            if step == CHALLENGER and self._by_lane(path[:n]) and (name in words or CHALLENGER not in words):
                return (*path[:n], name, *path[n + 1 :])
        return path

    def _by_lane(self, path: Steps) -> bool:
        """Whether what stands under the path is named by lanes."""
        if path[:1] == ("policies",):
            return path[-1] == "at_least" or (len(path) == 2 and len(self.names) == 1)
        return path == ("models",) or (path[:1] == ("outputs",) and len(path) == 2)

    def _at(self, path: Steps) -> Mapping[str, Any]:
        value: Any = self.document
        for step in path:
            if isinstance(value, dict):
                value = value.get(str(step))
            else:
                value = value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else None
        return value if isinstance(value, dict) else {}


def several(value: object, problems: Problems) -> Several | None:
    """The challengers of a document; None where it has one of that name, or none, or is no config at all.

    What is wrong with their names is added to `problems`.
    """
    models = value.get("models") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(models, dict):
        return None
    names = [name for name in models if name not in OTHERS]
    if names in ([], [CHALLENGER]):
        return None
    good = tuple(name for name in names if _is_name(name, models[name], problems))
    rollout = value.get("rollout")
    longest = max(good, key=len, default="")
    if isinstance(rollout, str) and len(rollout) <= LONGEST < len(rollout) + 1 + len(longest):
        problems.add(("rollout",), f"got {len(rollout)} characters; with the challenger `{longest}` at most {LONGEST - 1 - len(longest)}")
    for policy, words in _entries(value.get("policies")) if len(good) > 1 else ():
        for name in {*good, CHALLENGER} & words.keys():
            problems.add(
                ("policies", policy, name), "is for a config with one challenger; with several nobody knows which of them was recorded"
            )
    if not good:  # whatever else is wrong is found in what is left
        return None
    return Several(document={**value, "models": {n: words for n, words in models.items() if n in OTHERS or n in good}}, names=good)


def _is_name(name: object, words: object, problems: Problems) -> bool:
    path: Steps = ("models", str(name))
    meant = get_close_matches(str(name), (*OTHERS, CHALLENGER), n=1, cutoff=0.8)
    if isinstance(words, dict) and "of" in words:
        meant = ["replica"]
    if meant and name != CHALLENGER and not str(name).startswith(CHALLENGER):
        problems.add(path, f"unknown model `{name}`, did you mean `{meant[0]}`?")
        return False
    if not isinstance(name, str) or not _SHAPE.match(name):
        problems.add(path, "expected a challenger's name of at most 40 small letters, digits, - and _")
        return False
    if name in TAKEN:
        problems.add(path, f"the name is taken by words of the config and by topics; a challenger cannot be called {listed(sorted(TAKEN))}")
        return False
    return True


def _entries(section: object) -> list[tuple[str, dict[str, Any]]]:
    """The entries of a section that are mappings."""
    return [(key, words) for key, words in section.items() if isinstance(words, dict)] if isinstance(section, dict) else []


def _choices(policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of `decide` that are mappings."""
    listed_choices = policy.get("decide")
    found = [item for item in listed_choices if isinstance(item, dict)] if isinstance(listed_choices, list) else []
    return [line for item in found for line in item.values() if isinstance(line, dict)]
