"""The notebook runs from top to bottom, on CPU, at its small size."""

import json
import os
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from regjax import config as config_lib

from .conftest import ROOT

NOTEBOOK = ROOT / "experiments" / "colab.ipynb"


@pytest.fixture(scope="module")
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def test_its_config_is_that_of_mnist_1000(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGJAX_SIZE", raising=False)
    values: dict[str, Any] = {"os": os}
    exec(next(cell.source for cell in notebook.cells if "Config(" in cell.source), values)
    file = config_lib.load(str(ROOT / "configs" / "mnist_1000.py"))
    assert config_lib.differences(file, values["config"]) == []


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGJAX_SIZE", "small")
    monkeypatch.setenv("REGJAX_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbclient.NotebookClient(notebook, timeout=120).execute(cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    text = "".join(output.get("text", "") for output in outputs)
    assert "at once" in text
    assert "resumed" in text
    folder = tmp_path / "runs" / "digits_small"
    results = [json.loads((folder / run / "result.json").read_text()) for run in ("run", "resumed")]
    times = {"seconds", "compile_seconds"}
    kept = [{k: v for k, v in result.items() if k not in times} for result in results]
    assert kept[0] == kept[1]
    assert results[0]["test_accuracy"] > 0.9
    assert (folder / "curves.png").stat().st_size > 10_000
