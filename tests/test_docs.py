"""What the pages say is there, and what is there is in a page: keys, commands, errors, reasons, names, tests, links, examples."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
import yaml
from jsonschema import Draft202012Validator

from analysis.sequential.designs import Question, design
from analysis.types import Reason
from harness import config
from harness.cli.app import app
from harness.core import errors
from harness.core.rollout import MISSING_REASONS
from harness.core.verdicts import EXIT_CODES

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md")])
SCHEMA = json.loads((ROOT / "configs/rollout.schema.json").read_text())
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
ROW = re.compile(r"^\| `([^`]+)` \| (.*?) \| (`[^`]*`|) \| (.*) \|$", re.M)
LANES = ("incumbent", "challenger")


def text(name: str) -> str:
    return (DOCS / name).read_text()


def everything() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def blocks(page: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page) if kind == language]


def prose(page: str) -> str:
    return FENCE.sub("", page)


# ------------------------------------------------------------------------------------------------------------------------ config
def keys(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, schema) of every key a config can hold. Both lanes are LANE below their own name, a name of the user's is NAME."""
    if "$ref" in node:
        node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
    for branch in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from keys(branch, path)
    for key, inner in node.get("properties", {}).items():
        yield ".".join((*path, key)), inner
        if path[-1:] != ("WORD",) and (*path, key) != ("models", "challenger"):
            shared = key in LANES and path and path[-1] != "at_least"
            yield from keys(inner, (*path, "LANE" if shared else key))
    if isinstance(node.get("additionalProperties"), dict):
        name = (*path, "WORD" if path[-1:] == ("decide",) else "NAME")
        if path == ("events", "segments"):
            yield ".".join(name), node["additionalProperties"]
        if path[-1:] != ("at_least",) and path not in (("models",), ("outputs", "NAME")):  # a challenger's own name is another LANE
            yield from keys(node["additionalProperties"], name)
    if isinstance(node.get("items"), dict):
        yield from keys(node["items"], path)


KEYS: dict[str, list[dict[str, Any]]] = {}
for _path, _schema in keys(SCHEMA):
    KEYS.setdefault(_path, []).append(_schema)
ROWS = {key: (default, example.strip("`"), meaning) for key, default, example, meaning in ROW.findall(text("config.md"))}


def test_every_key_of_a_config_has_its_row_and_every_row_is_a_key():
    """A key that no page explains is used wrongly or not at all; one that is gone sends people the wrong way."""
    assert set(ROWS) == set(KEYS)


DEFAULTS = [key for key, schemas in KEYS.items() if any(schema.get("default") not in (None, {}) for schema in schemas)]


@pytest.mark.parametrize("key", DEFAULTS)
def test_the_default_in_the_page_is_that_of_the_schema(key):
    """A default that is told wrongly is worse than none."""
    (default,) = {json.dumps(schema["default"]).strip('"') for schema in KEYS[key] if "default" in schema}
    assert ROWS[key][0] == f"`{default}`"


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_example_has_the_shape_of_its_key(key):
    """What people paste must be accepted."""
    value = yaml.safe_load(ROWS[key][1])
    found = [list(Draft202012Validator({**schema, "$defs": SCHEMA["$defs"]}).iter_errors(value)) for schema in KEYS[key]]
    assert [] in found, found


def test_every_whole_config_in_a_page_is_accepted(tmp_path):
    """A rollout shown to readers is one that `shadow validate` takes."""
    found = [body for page in PAGES for body in blocks(page.read_text(), "yaml") if body.startswith("rollout:")]
    assert len(found) >= 3
    for body in found:
        config.parse_all(yaml.safe_load(body), source="a page", folder=tmp_path)


# ------------------------------------------------------------------------------------------------------------ commands and words
def commands() -> dict[str, list[str]]:
    """Each command with its long options; those of a group with its name before theirs."""
    group: Any = typer.main.get_command(app)
    visible = {name: command for name, command in group.commands.items() if not command.hidden}
    for name in [name for name, command in visible.items() if hasattr(command, "commands")]:
        visible |= {f"{name} {inner}": command for inner, command in visible.pop(name).commands.items()}
    return {name: [opt for p in command.params for opt in p.opts if opt.startswith("--")] for name, command in visible.items()}


def test_every_command_and_option_is_in_a_page():
    """What no page names nobody finds; `shadow COMMAND --help` only helps who knows the command."""
    pages = everything()
    found = commands()
    assert found
    unnamed = [f"shadow {name}" for name in found if f"shadow {name}" not in pages]
    unnamed += [f"{name} {option}" for name, options in found.items() for option in options if option not in pages]
    assert unnamed == []


def test_no_page_names_an_option_that_no_command_has():
    """An example with an option of yesterday ends with exit code 2."""
    known = {"--help"} | {option for options in commands().values() for option in options}
    lines = [line for page in PAGES for body in blocks(page.read_text(), "console") for line in body.splitlines() if "shadow " in line]
    used = {option for line in lines for option in re.findall(r"(?<=\s)--[a-z-]+", line)}
    assert used and used <= known


def test_every_error_has_its_sentence():
    """Each class is something that a caller or an operator does differently; the page says what."""
    classes = [name for name, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, errors.ShadowError)]
    assert len(classes) > 5
    assert [name for name in classes if f"`{name}`" not in text("guarantees.md")] == []


def test_every_reason_is_in_the_glossary():
    """A verdict names a reason by one word; the page about verdicts says what to do."""
    words = {*MISSING_REASONS, *get_args(Reason), "not_asked", "late"}
    assert [word for word in sorted(words) if f"| `{word}` |" not in text("verdict.md")] == []


def test_exit_codes_are_those_of_the_code():
    """A pipeline branches on them."""
    for page in ("README.md", "docs/verdict.md"):
        rows = dict(re.findall(r"^\| (\d) \| (\w+)", (ROOT / page).read_text(), re.M))
        assert {word: int(code) for code, word in rows.items() if word in EXIT_CODES} == EXIT_CODES, page


def test_every_field_of_a_verdict_is_explained(replayed):
    """Who reads verdict.json reads the page beside it, field by field."""
    _, folder = replayed
    verdict = json.loads((folder / "out" / "verdict.json").read_text())
    fields = {*verdict, *verdict["counts"], *verdict["outcomes"], *verdict["watermark"], *verdict["gates"][0]}
    assert [field for field in sorted(fields) if f"`{field}`" not in text("verdict.md")] == []


def test_the_numbers_of_units_in_the_page_are_what_gates_need():
    """Readers plan with them: without one event, how many units until a rate passes at alpha 0.05."""
    found = re.findall(r"`below: ([\d.]+)`[^`;]*?after (\d+)", text("verdict.md"))
    assert len(found) == 2
    for limit, units in found:
        process = design(Question(kind="rate", low=0.0, high=1.0, word="below", limit=float(limit)))
        evidence = process.log_e_pass(np.array([[int(units) - 1, 0], [int(units), 0]]), np.array([0.0, 1.0]))
        assert evidence[0] < math.log(20) <= evidence[1]


def test_a_command_said_to_be_missing_is_missing():
    """The list of what is not there yet is the first thing that gets out of date."""
    listed = (ROOT / "README.md").read_text().partition("## What is not there yet")[2].partition("\n## ")[0]
    assert {name for name in commands() if f"`shadow {name}`" in listed} == set()


# ------------------------------------------------------------------------------------------------------------------ names and links
def resolve(name: str) -> Any:
    """What a dotted name leads to: a module, and attributes in it."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def dotted_names() -> list[str]:
    return sorted({name for page in PAGES for name in re.findall(r"`((?:harness|analysis)(?:\.\w+)+)`", prose(page.read_text()))})


def test_every_dotted_name_in_a_page_leads_to_code():
    """A page that names a function that was moved is out of date in other ways too."""
    names = dotted_names()
    assert len(names) >= 8
    for name in names:
        resolve(name)


def test_one_event_takes_nine_steps_with_a_function_each():
    """The page promises a way that can be followed in the code."""
    steps = re.split(r"^## \d\. ", text("one-event.md"), flags=re.M)[1:]
    assert len(steps) == 9
    assert [step.splitlines()[0] for step in steps if not re.search(r"`(harness|analysis)(\.\w+)+`", step)] == []


def names_of_tests() -> set[str]:
    """Every test of this repository, by name."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py"))
    contracts = (ast.parse(path.read_text()) for path in (ROOT / "harness/testing").rglob("*.py"))
    nodes = (node for tree in (*trees, *contracts) for node in ast.walk(tree))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_test_that_a_page_names_exists():
    """A promise with a test that is gone is only a promise."""
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", prose(page.read_text()))}
    assert len(named) >= 14
    assert named - names_of_tests() == set()


def test_every_promise_has_a_test():
    """The page of guarantees lists seven promises; each shows how it would be noticed if it were broken."""
    sections = re.split(r"^### ", text("guarantees.md"), flags=re.M)[1:8]
    assert len(sections) == 7
    assert [section.splitlines()[0] for section in sections if not re.search(r"`test_\w+`", section)] == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_resolve(page):
    """A reader with five minutes does not search for the page that was meant."""
    for target in re.findall(r"\]\(([^)]+)\)", prose(page.read_text())):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_pages_hold_no_other_words_for_what_has_one():
    """One word for one thing: a second word makes readers look for a second thing."""
    others = re.compile(r"\b(candidate|cohort|guardrail|KPI|ground truth|peeking|backfill)\b")
    assert {page.name: others.findall(prose(page.read_text())) for page in PAGES if others.search(prose(page.read_text()))} == {}


# ---------------------------------------------------------------------------------------------------------------- examples that run
def files_of(page: Path) -> dict[str, str]:
    """File name -> content: blocks that follow a line which says `NAME`: at its end."""
    found = re.findall(r"`([\w-]+\.\w+)`[^`\n]*:\n\n```\w+\n(.*?)^```$", page.read_text(), re.M | re.S)
    return dict(found)


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One `$ shadow ...` line of a page, run in a folder."""
    words = line.removeprefix("$ ").split()
    assert words[0] == "shadow"
    command = [sys.executable, "-m", "harness", *words[1:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def replay_lines(page: Path) -> list[str]:
    joined = [body.replace("\\\n", " ") for body in blocks(page.read_text(), "console")]
    return [line for body in joined for line in body.splitlines() if line.startswith(("$ shadow replay", "$ shadow validate"))]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """The files of docs/start.md, and what its commands said."""
    folder = tmp_path_factory.mktemp("start")
    for name, content in files_of(DOCS / "start.md").items():
        (folder / name).write_text(content)
    lines = replay_lines(DOCS / "start.md")
    assert len(lines) >= 2
    return {line: run(line, folder) for line in lines}, folder


def test_the_example_of_the_start_page_ends_as_the_page_says(replayed):
    """Who follows the page from top to bottom sees what the page shows."""
    ran, folder = replayed
    page = text("start.md")
    said = [done for line, done in ran.items() if line.startswith("$ shadow replay")][-1]
    assert said.returncode == EXIT_CODES["hold"], said.stderr
    shown = [line for body in blocks(page, "text") for line in body.splitlines() if line.startswith(("  - ", "verdict:"))]
    assert shown
    assert [line for line in shown if line not in said.stdout.splitlines()] == []
    for line, done in ran.items():
        assert line.startswith("$ shadow replay") or done.returncode == 0, done.stderr
    assert {path.name for path in (folder / "out").iterdir()} >= {"verdict.json", "report.html"}


def test_the_example_of_the_readme_ends_as_it_says(tmp_path):
    """The first thing anybody pastes."""
    for name, content in files_of(ROOT / "README.md").items():
        (tmp_path / name).write_text(content)
    (line,) = [line for line in replay_lines(ROOT / "README.md") if line.startswith("$ shadow replay")]
    done = run(line, tmp_path)
    assert done.returncode == EXIT_CODES["hold"], done.stderr
    (shown,) = [body.splitlines() for body in blocks((ROOT / "README.md").read_text(), "text") if "is read again at each look" in body]
    assert len(shown) == 3
    assert [s for s in shown if s not in done.stdout.splitlines()] == []
