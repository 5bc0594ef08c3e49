"""Pages whose examples are run: what is printed there is what comes out."""

import doctest
from pathlib import Path

import nbclient
import nbformat
import pytest

from .conftest import ROOT


@pytest.mark.parity
def test_from_pytorch() -> None:
    page = ROOT / "experiments" / "from_pytorch.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert failed == 0
    assert tried > 30


@pytest.mark.slow
def test_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook from top to bottom at its small size; committed without outputs."""
    notebook = nbformat.read(ROOT / "experiments" / "tutorial.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    settings = {"SIZE": "small", "RUNS": str(tmp_path), "ROOT": str(ROOT)}
    for name, value in settings.items():
        monkeypatch.setenv(f"REGJAX_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbclient.NotebookClient(notebook, timeout=300).execute(cwd=str(tmp_path))
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    shown = "".join(output.get("data", {}).get("text/html", "") for output in outputs)
    assert "<td>batch</td>" in shown and "<td>none</td>" in shown
    assert (tmp_path / "tutorial" / "report.html").is_file()
