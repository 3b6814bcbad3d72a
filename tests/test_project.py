"""What is true of the project as a whole: what it ships, what an import costs, who may import whom, how long a file may be."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import analysis
import harness

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("analysis", "harness")
HEAVY = {"pandas", "pyarrow", "scipy", "sklearn", "statsmodels"}
REGISTRY = re.compile(r"https?://[^\s\"']*(/simple/|/maven2|/-/[a-z]|/packages/[0-9a-f]{2}/)|^\S+ @ |--hash=|--(extra-)?index-url", re.M)
TEXT = {"", ".cfg", ".css", ".html", ".ini", ".ipynb", ".j2", ".js", ".json", ".lua", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and lines of each function of a file, without its docstring and decorators."""
    for node in ast.walk(ast.parse(path.read_text(), path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            described = len(node.body) > 1 and ast.get_docstring(node) is not None
            docstring = first.end_lineno - first.lineno + 1 if described and first.end_lineno else 0
            yield f"{path.relative_to(ROOT)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


@pytest.mark.slow
def test_the_wheel_holds_the_two_packages_whole_and_nothing_else(tmp_path):
    """A Lua script or a template that is not shipped works in the checkout and fails where it is installed."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=600)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert shipped == {path.relative_to(ROOT).as_posix() for path in files}
    assert {f"{package}/py.typed" for package in PACKAGES} <= shipped


@pytest.mark.skipif("SHADOW_EXPECT_WHEEL" not in os.environ, reason="only .ci/run installs the wheel")
@pytest.mark.parametrize("package", [analysis, harness], ids=PACKAGES)
def test_the_tests_of_a_release_import_the_wheel(package):
    """Tests that import the checkout say nothing of what people install; nor would the processes that they start."""
    assert "site-packages" in Path(package.__file__).parts
    child = subprocess.run(
        [sys.executable, "-c", f"import {package.__name__} as p; print(p.__file__)"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == package.__file__


@pytest.mark.parametrize("name", [module(path) for path in sources(*PACKAGES) if path.name == "__init__.py" or path.parent.name == "roles"])
def test_packages_and_roles_import_light(name):
    """A router, lane or joiner starts at once and stays small; heavy libraries are imported by the functions that use them."""
    code = f"import sys, {name}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (child.returncode, HEAVY & set(child.stdout.split())) == (0, set()), child.stderr


def test_imports_go_down_only():
    """The layers of harness and analysis, and what must not know of transports, are contracts in pyproject.toml."""
    run = subprocess.run([str(Path(sys.executable).with_name("lint-imports"))], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_files_and_functions_stay_short():
    """A file over 400 lines or a function over 50, less its docstring, says two things."""
    files = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources(*PACKAGES, "benchmarks")}
    lengths = dict(entry for path in sources(*PACKAGES, "benchmarks") for entry in functions(path))
    too_long = {name: n for name, n in files.items() if n > 400} | {name: n for name, n in lengths.items() if n > 50}
    assert too_long == {}


def test_no_file_names_a_package_registry():
    """Where packages come from is the reader's own setting; an address written here breaks behind another mirror."""
    folders = [ROOT / name for name in (*PACKAGES, ".ci", "benchmarks", "configs", "docs", "tests")]
    files = [*ROOT.glob("*"), *(path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts)]
    texts = [path for path in files if path.is_file() and path.suffix in TEXT and path != Path(__file__).resolve()]
    found = [str(path.relative_to(ROOT)) for path in texts if REGISTRY.search(path.read_text(errors="replace"))]
    assert found == []
