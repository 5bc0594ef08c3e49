"""A trained run looked at: its best weights on one split, class by class."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.table import Table

from regjax import step
from regjax.checkpoint import Checkpoints
from regjax.config import ParallelConfig
from regjax.data import Data
from regjax.errors import InputError
from regjax.objective import example_losses
from regjax.state import RunState
from regjax.train import Assembled, assemble
from regjax.workdir import Workdir

NUMBERS = (
    "accuracy",
    "r2",
    "root_mean_squared_error",
    "mean_absolute_error",
    "loss",
    "examples",
)


def best(path: str | Path) -> tuple[Assembled, RunState]:
    """Returns a trained run's parts, and its state after the best epoch.

    Raises:
      InputError: no run there, no checkpoint yet, or other data than it was trained on.
    """
    workdir = Workdir(path)
    config = workdir.read_config()
    config.parallel = ParallelConfig("single")  # whatever it was trained on
    parts = assemble(config)
    with Checkpoints(workdir.checkpoints, read_only=True) as checkpoints:
        latest = checkpoints.latest()
        about = checkpoints.about(latest) if latest else {"best": 0}
        if not about["best"]:
            raise InputError(f"--workdir '{path}' has no checkpoint of a finite epoch; train first")
        if about["data"] != parts.data.fingerprint:
            raise InputError(
                f"{parts.config.data.name} is not the data that '{path}' was trained on; put "
                "those back, or train anew in another --workdir"
            )
        return parts, checkpoints.restore(about["best"], parts.shapes())


def evaluate(path: str | Path, split: str = "test") -> dict[str, Any]:
    """Evaluates the best checkpoint of a run.

    Args:
      path: the run's folder.
      split: `train`, `valid`, `select` or `test`.

    Returns:
      `split`, `epoch`, `examples`, `loss`; `accuracy` and `classes`: for each its `precision`,
      `recall`, `f1` and `support`; in regression `r2`, and in the target's own units
      `root_mean_squared_error` and `mean_absolute_error`. By scikit-learn, but for the loss.

    Raises:
      InputError: what `best` raises, or an empty split.
    """
    parts, run = best(path)
    arrays = parts.arrays(split)
    if arrays is None:
        raise InputError(f"--split={split} of this run is empty; choose another")
    outputs = jax.jit(step.make_predict(parts.config, parts.network))(run.train, arrays)
    labels = arrays.all_labels()
    judge = _regression if parts.config.data.task == "regression" else _classification
    return {
        "split": split,
        "epoch": int(run.epoch),
        "examples": len(labels),
        "loss": float(example_losses(parts.config, outputs, labels).mean()),
        **judge(parts.data, np.asarray(outputs), np.asarray(labels)),
    }


def _classification(data: Data, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_fscore_support

    predicted = logits.argmax(-1)
    columns: Any = precision_recall_fscore_support(
        labels,
        predicted,
        labels=range(len(data.classes)),
        zero_division=0,  # pyright: ignore[reportArgumentType]
    )
    names = ("precision", "recall", "f1", "support")
    return {
        "accuracy": float((labels == predicted).mean()),
        "classes": {
            name: dict(zip(names, (x.item() for x in row), strict=True))
            for name, row in zip(data.classes, zip(*columns, strict=True), strict=True)
        },
    }


def _regression(data: Data, outputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    from sklearn import metrics

    assert data.target_scale is not None
    predicted, unit = outputs[:, 0], float(data.target_scale)
    return {
        **({"r2": float(metrics.r2_score(targets, predicted))} if len(targets) > 1 else {}),
        "root_mean_squared_error": metrics.root_mean_squared_error(targets, predicted) / unit,
        "mean_absolute_error": metrics.mean_absolute_error(targets, predicted) / unit,
    }


def table(measured: dict[str, Any]) -> Table:
    """The classes of what `evaluate` returned, as a table."""
    made = Table("class", title=f"{measured['split']}, best epoch {measured['epoch']}")
    for name in ("precision", "recall", "f1", "support"):
        made.add_column(name, justify="right")
    for name, row in measured["classes"].items():
        scores = [f"{row[key]:.4f}" for key in ("precision", "recall", "f1")]
        made.add_row(name, *scores, str(row["support"]))
    return made
