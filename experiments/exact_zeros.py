"""Does L1 set weights exactly to zero? In the loss, no; as a proximal step, yes.

python -m experiments.exact_zeros [--seeds=5] [--workdir=runs/exact_zeros]

Method: an MLP on digits, trained by SGD without a penalty, with λ·Σ|w| over its kernels in the
loss, and with the same λ as a proximal step after each update; each over the same seeds, which also
draw the splits. Without momentum or Adam's scaling, so that both minimize the same objective;
without batch norm, which would undo the shrinking. Counted at the best epoch: weights of the
kernels that are exactly 0. About five minutes on 2 CPU cores.
"""

import copy
import json
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from regjax import config as config_lib
from regjax import evaluate, train, trees

_SEEDS = flags.DEFINE_integer("seeds", 5, "runs of each arm", lower_bound=1)
_STRENGTH = flags.DEFINE_float("strength", 6e-4, "λ", lower_bound=0)
_EPOCHS = flags.DEFINE_integer("epochs", 300, "at most", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", "runs/exact_zeros", "where the runs go")

ARMS = {"no penalty": None, "L1 in the loss": "loss", "L1 as a proximal step": "proximal"}


def settings(mode: str | None, seed: int) -> config_lib.Config:
    """The config of one run."""
    config = copy.deepcopy(config_lib.load("configs/digits.py"))
    config.seed, config.epochs = seed, _EPOCHS.value
    config.optimizer = config_lib.OptimizerConfig("sgd", 0.1)
    config.model = config_lib.ModelConfig("mlp", (256, 256))
    config.stopping.patience = 0
    if mode:
        config.penalty = config_lib.PenaltyConfig("l1", _STRENGTH.value, mode=mode)
    return config


def measure(config: config_lib.Config, path: Path) -> tuple[float, int, int]:
    """Trains, if not done yet; returns test accuracy, and zeros and weights of the kernels."""
    result = train.train(config, path, Console(quiet=True))
    kernels = trees.select(evaluate.best(path)[1].train.params, "kernels")
    zeros = sum(int((np.asarray(kernel) == 0).sum()) for kernel in kernels)
    return result["test_accuracy"], zeros, sum(kernel.size for kernel in kernels)


def main(argv: list[str]) -> None:
    """Trains all arms and prints their table."""
    del argv
    console, rows = Console(), {}
    table = Table("arm", "test accuracy", "exact zeros", "of weights", "share")
    for name, mode in ARMS.items():
        runs = [
            measure(settings(mode, seed), Path(_WORKDIR.value) / f"{mode or 'none'}_{seed}")
            for seed in range(_SEEDS.value)
        ]
        accuracy, zeros, weights = (np.array(column) for column in zip(*runs, strict=True))
        share = float((zeros / weights).mean())
        table.add_row(
            name,
            f"{accuracy.mean():.4f} ± {accuracy.std(ddof=len(accuracy) > 1):.4f}",
            f"{zeros.min():,} to {zeros.max():,}",
            f"{weights[0]:,}",
            f"{share:.2%}",
        )
        rows[name] = {"test_accuracy": accuracy.tolist(), "zeros": zeros.tolist(), "share": share}
    console.print(table)
    (Path(_WORKDIR.value) / "exact_zeros.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    app.run(main)
