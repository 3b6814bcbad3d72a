"""From a YAML file to a Rollout: read, shape, meaning, with all problems together."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from harness.config import challengers, meaning, online, policies
from harness.config.gates import gates
from harness.config.gatewords import RolloutWords
from harness.config.metrics import Scope
from harness.config.problems import Problems, Steps
from harness.config.reading import read_file, read_yaml
from harness.config.shape import Parts, parts_of
from harness.core.errors import ConfigError, UsageError
from harness.core.rollout import CHALLENGER, Events, Rollout

T = TypeVar("T")


def load(path: Path, challenger: str | None = None) -> Rollout:
    """The rollout that a YAML file describes; of several challengers the named one. Opens no connection and no model file.

    Raises:
        UsageError: there is no such file, or it cannot be read; it has several challengers and none is named, or no such one.
        ConfigError: it is no valid config; every problem is in it, by path.
    """
    return chosen(load_all(path), challenger, source=str(path))


def load_all(path: Path) -> tuple[Rollout, ...]:
    """The rollouts that a YAML file describes, one for each challenger. Raises as `load` does."""
    path = Path(path)
    problems = Problems()
    document = read_yaml(read_file(path), str(path), problems)
    return _rollouts(document, str(path), path.resolve().parent, problems)


def parse(document: object, *, source: str, folder: Path) -> Rollout:
    """The rollout that a plain document (as of YAML or JSON) describes; `source` names it in messages.

    Relative paths of `recorded:` models start in `folder`.

    Raises:
        ConfigError: it is no valid config; every problem is in it, by path.
        UsageError: it has several challengers.
    """
    return chosen(parse_all(document, source=source, folder=folder), None, source=source)


def parse_all(document: object, *, source: str, folder: Path) -> tuple[Rollout, ...]:
    """The rollouts that a plain document describes, one for each challenger. Raises ConfigError."""
    return _rollouts(document, source, folder, Problems())


def chosen(rollouts: Sequence[Rollout], challenger: str | None, *, source: str) -> Rollout:
    """The only rollout of a config, or that of the challenger named. Raises UsageError."""
    named = {rollout.spoken(CHALLENGER): rollout for rollout in rollouts}
    if challenger is None and len(rollouts) == 1:
        return rollouts[0]
    if challenger is None:
        raise UsageError(f"{source}: has several challengers; name one with --challenger: {', '.join(named)}")
    if challenger not in named:
        raise UsageError(f"--challenger {challenger}: {source} has {', '.join(named)}")
    return named[challenger]


def digest(document: Mapping[str, object]) -> str:
    """SHA-256 of the canonical JSON of a config (sorted keys, compact): comments and order do not matter."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _rollouts(value: object, source: str, folder: Path, problems: Problems) -> tuple[Rollout, ...]:
    several = challengers.several(value, problems)
    if several is None:
        return (_rollout(value, source, folder, problems),)
    found: list[tuple[Steps, str]] = list(problems.found)
    for name in several.names:
        own = several.problems_of(name, problems)
        known = len(own.found)
        _fields(parts_of(several.document_of(name), own), own)
        found += [(several.written(path, name), said) for path, said in own.found[known:]]
    if found:
        raise ConfigError(source, Problems(list(dict.fromkeys(found))).sorted([*several.document, *RolloutWords.model_fields]))
    derived = ((name, _rollout(several.rollout_of(name), source, folder, Problems())) for name in several.names)
    return tuple(replace(rollout, family=several.family_of(name)) for name, rollout in derived)


def _rollout(value: object, source: str, folder: Path, problems: Problems) -> Rollout:
    parts = parts_of(value, problems)
    fields = _fields(parts, problems)
    if problems.found:
        raise ConfigError(source, problems.sorted([*parts.document, *RolloutWords.model_fields]))
    document = copy.deepcopy(dict(parts.document))
    return Rollout(sha256=digest(document), folder=folder, document=document, **fields)


def _by_name(usable: Mapping[str, T]) -> tuple[T, ...]:
    return tuple(usable[name] for name in sorted(usable))


def _fields(parts: Parts, problems: Problems) -> dict[str, Any]:
    """What a Rollout is made of; may have holes where there are problems.

    What rows and frames are laid out by (segments, outputs, truths, recorded decisions) stands in the order of names, not of the document:
    the order of keys is no part of a config's hash, and whoever reads a config from the store must lay rows out as it was done.
    """
    simple = parts.simple
    outcomes = meaning.outcomes(parts, problems)
    segments = meaning.segments(parts, problems)
    meaning.topics(parts, problems)
    online.topics(parts, problems)
    models = meaning.models(parts, problems)
    outputs = meaning.outputs(parts, problems)
    known_policies = policies.policies(parts, outputs, segments, tuple(models), problems)
    harms = policies.harms(parts, known_policies, problems)
    truths = frozenset(outcomes.truth) if outcomes else frozenset() if "outcomes" not in parts.document else None
    measures, exposures = online.measures(parts, problems), online.exposures(parts, segments, problems)
    scope = Scope(
        outputs, known_policies, harms, segments, tuple(models), truths, least=outcomes.least if outcomes else None,
        requested=outcomes is not None and outcomes.requested is not None,
        replica_share=models["replica"].percent / 100.0 if "replica" in models else None, measures=measures,
        exposed="exposures" in parts.document, carried=None if parts.exposures is None else frozenset(parts.exposures.segments),
    )  # fmt: skip
    events = parts.events
    return {
        "name": simple["rollout"],
        "events": Events(topic=events.topic, unit=events.unit, segments=_by_name(segments.usable)) if events else None,
        "models": models,
        "outputs": dict(sorted(outputs.usable.items())),
        "policies": dict(known_policies.usable),
        "harms": dict(harms.usable),
        "outcomes": outcomes,
        "exposures": exposures,
        "online": measures,
        "sample_percent": simple["sample"].percent if simple["sample"] else None,
        "window_s": simple["pairing"].window if simple["pairing"] else None,
        "gates": gates(dict(parts.gates), scope, problems),
        "stages": meaning.stages(parts, harms, problems),
        "alpha": simple["alpha"],
        "looks_s": simple["looks"],
        "detect": meaning.detect(simple["detect"]),
        "keep": meaning.keep(simple["keep"], outcomes, problems),
        "expires_s": simple["expires"],
    }
