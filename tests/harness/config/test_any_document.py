"""Whatever stands in a config, the answer is a Rollout or a ConfigError."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.config import load, parse
from harness.core.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"
DOCUMENTS = [yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("age-regression", "content-moderation", "recorded-replay")]
WORDS = [
    "age",
    "adult",
    "truth",
    "by",
    "default",
    "at_least",
    "below",
    "within",
    "loss",
    "harm",
    "scores",
    "label",
    "true",
    "10s",
    "/x",
    "",
    "1e3",
]
KEYS = st.one_of(st.sampled_from(WORDS), st.sampled_from(sorted({key for document in DOCUMENTS for key in document})), st.text(max_size=4))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -1, 0, 1, 0.5, 18]),
    st.text(max_size=6),
    st.sampled_from(WORDS),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)
STRANGE = st.one_of(VALUES, st.binary(max_size=3), st.dates(), st.dictionaries(st.integers(), VALUES, max_size=2), st.just(object()))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document, the document itself too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, item in inner for place in places(item, (*path, step)))]


def mutated(data: st.DataObject, document: Any) -> Any:
    """The document with one place changed, removed or enriched."""
    place = data.draw(st.sampled_from(places(document)))
    if not place:
        return document if data.draw(st.booleans()) else data.draw(STRANGE)
    inner = document
    for step in place[:-1]:
        inner = inner[step]
    match data.draw(st.sampled_from(["change", "swap", "remove", "add"])):
        case "change":
            inner[place[-1]] = data.draw(STRANGE)
        case "swap":
            other = data.draw(st.sampled_from(places(document)))
            found = document
            for step in other:
                found = found[step]
            inner[place[-1]] = copy.deepcopy(found)
        case "remove":
            del inner[place[-1]]
        case "add" if isinstance(inner, dict):
            inner[data.draw(KEYS)] = data.draw(STRANGE)
        case "add":
            inner.append(data.draw(STRANGE))
    return document


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_a_changed_config_is_accepted_or_refused_but_never_crashes(data: st.DataObject) -> None:
    """A traceback names no path, and exit 1 is no verdict."""
    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        if not isinstance(document, dict):
            break
        document = mutated(data, document)
    try:
        rollout = parse(document, source="test", folder=Path())
    except ConfigError as error:
        assert error.problems
        str(error).encode()
    else:
        assert rollout.name and {"incumbent", "challenger"} <= set(rollout.lanes)
        assert all(policy.lines.keys() >= {"incumbent", "challenger", "truth"} for policy in rollout.policies.values())


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60), st.integers(0, 1_500), st.integers(0, 30))
def test_a_damaged_file_is_accepted_or_refused_but_never_crashes(tmp_path_factory: Any, inserted: str | bytes, at: int, lost: int) -> None:
    """Editors, merges and disks do strange things to files."""
    text = (CONFIGS / "recorded-replay.yaml").read_bytes()
    new = inserted.encode("utf-8", "surrogatepass") if isinstance(inserted, str) else inserted
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(text[:at] + new + text[at + lost :])
    try:
        load(path)
    except ConfigError as error:
        assert error.problems
