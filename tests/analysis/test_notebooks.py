"""The notebooks run from top to bottom, and what stands in them is what they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebooks`")
nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebooks`")

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "analysis" / "notebooks").glob("*.ipynb"))


def said(notebook: Any) -> list[str]:
    """The text of every output, cell by cell: printed lines, tables as text, pictures as SVG."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            found.append(data.get("image/svg+xml") or data.get("text/plain") or output.get("text") or str(output.get("evalue")))
    return found


def test_both_notebooks_are_there():
    """A glob that finds nothing would pass every test below."""
    assert [path.stem for path in NOTEBOOKS] == ["many-looks", "verdict-by-hand"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_and_gives_what_stands_in_it(path, tmp_path):
    """People trust the outputs that they see; these must be those of this version. An error in a cell stops the run."""
    committed, fresh = nbformat.read(path, as_version=4), nbformat.read(path, as_version=4)
    nbformat.validate(committed)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbclient.NotebookClient(fresh, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert len(said(fresh)) >= 5
    assert said(fresh) == said(committed)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_clean(path):
    """Every code cell has run, in order; no picture is a bitmap, no path is of the machine where it ran."""
    notebook = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == list(
        range(1, sum(cell.cell_type == "code" for cell in notebook.cells) + 1)
    )
    text = path.read_text()
    assert len(text) < 100_000
    assert "image/png" not in text
    assert str(Path.home()) not in text and "/tmp/" not in text
