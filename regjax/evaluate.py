"""A trained run looked at: its best or refitted weights on one split, class by class."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table
from rich.text import Text

from regjax import feed, step
from regjax.assembly import Assembled, assemble, refitted
from regjax.checkpoint import Checkpoints
from regjax.config import Config, ParallelConfig
from regjax.data import Data
from regjax.errors import InputError
from regjax.objective import example_losses
from regjax.state import RunState
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
    """Returns a trained run's parts, and its state after the best epoch, or after its refit.

    A refit that has not ended yet does not count.

    Raises:
      InputError: no run there, no checkpoint yet, or other data than it was trained on.
    """
    workdir = Workdir(path)
    config = workdir.read_config()
    config.parallel = ParallelConfig("single")  # whatever it was trained on
    parts = assemble(config)
    folder, shapes = workdir.checkpoints, parts.shapes()
    if is_refitted(workdir, config):
        folder, shapes = workdir.refit, refitted(parts).shapes()
    with Checkpoints(folder, read_only=True) as checkpoints:
        latest = checkpoints.latest()
        number = checkpoints.best()
        if latest is None or not number:
            raise InputError(f"--workdir '{path}' has no checkpoint of a finite epoch; train first")
        if checkpoints.about(latest)["data"] != parts.data.fingerprint:
            raise InputError(
                f"{parts.config.data.name} is not the data that '{path}' was trained on; put "
                "those back, or train anew in another --workdir"
            )
        return parts, checkpoints.restore(number, shapes)


def is_refitted(workdir: Workdir, config: Config) -> bool:
    """Whether the run is looked at after its refit."""
    return config.stopping.refit != "none" and workdir.read_result() is not None


def predictions(parts: Assembled, run: RunState, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the network's outputs `(N, K)` on a whole split, and its labels `(N,)`.

    Raises:
      InputError: an empty split.
    """
    if not parts.data.splits[split].examples:
        raise InputError(f"--split={split} of this run is empty; choose another")
    predict = jax.jit(step.make_predict(parts.config, parts.network))
    found = []
    with feed.once(parts, (split,)) as given:
        for arrays in itertools.chain.from_iterable(arrays for _, arrays in given):
            counted = arrays.counted()
            kept = slice(None) if counted is None else np.asarray(counted)
            outputs, labels = predict(run.train, arrays), arrays.all_labels()
            found.append((np.asarray(outputs)[kept], np.asarray(labels)[kept]))
    outputs, labels = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return outputs, labels


def evaluate(path: str | Path, split: str = "test") -> dict[str, Any]:
    """Evaluates the best checkpoint of a run; of one with a refit, the refitted weights.

    Args:
      path: the run's folder.
      split: `train`, `valid`, `select` or `test`.

    Returns:
      `split`, `epoch`, `refit` (whether it is an epoch of that), `examples`, `loss`; `accuracy`
      and `classes`: for each its `precision`, `recall`, `f1` and `support`; in regression `r2`, and
      in the target's own units `root_mean_squared_error` and `mean_absolute_error`. By
      scikit-learn, but for the loss.

    Raises:
      InputError: what `best` raises, or an empty split.
    """
    parts, run = best(path)
    outputs, labels = predictions(parts, run, split)
    judge = _regression if parts.config.data.task == "regression" else _classification
    return {
        "split": split,
        "epoch": int(run.epoch),
        "refit": is_refitted(Workdir(path), parts.config),
        "examples": len(labels),
        "loss": float(
            example_losses(parts.config, jnp.asarray(outputs), jnp.asarray(labels)).mean()
        ),
        **judge(parts.data, outputs, labels),
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
    # In float32 the mean of targets that are all the same may be another.
    targets, predicted = targets.astype(np.float64), outputs[:, 0].astype(np.float64)
    unit, scored = float(data.target_scale), {}
    if len(targets) > 1:
        with np.errstate(divide="ignore", invalid="ignore"):  # of those, as in training
            scored["r2"] = float(metrics.r2_score(targets, predicted, force_finite=False))
    return {
        **scored,
        "root_mean_squared_error": metrics.root_mean_squared_error(targets, predicted) / unit,
        "mean_absolute_error": metrics.mean_absolute_error(targets, predicted) / unit,
    }


def table(measured: dict[str, Any]) -> Table:
    """The classes of what `evaluate` returned, as a table."""
    which = "refit, epoch" if measured["refit"] else "best epoch"
    made = Table("class", title=f"{measured['split']}, {which} {measured['epoch']}")
    for name in ("precision", "recall", "f1", "support"):
        made.add_column(name, justify="right")
    for name, row in measured["classes"].items():
        scores = [f"{row[key]:.4f}" for key in ("precision", "recall", "f1")]
        made.add_row(Text(name), *scores, str(row["support"]))
    return made
