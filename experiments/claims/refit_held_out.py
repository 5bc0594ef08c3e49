"""Does early stopping waste the data that it holds out?

S2. "Early stopping wastes the held-out data", which training afterwards would make use of.

Method: configs/digits.py, its MLP with batch norm and dropout, on 150 digits with another 150 held
out to stop by, no more than 60 epochs. Then `stopping.refit` trains on all 300: from the start for
as many epochs as were best (`restart`), or on from the best weights until the held-out examples'
loss is down to the training loss there (`continue`). All ways over the same seeds, which also draw
the splits and the start; test is of 1,000 other digits.
Figure: test accuracy of each way, and its gain. Verdict: something is wasted if a refit, of either
kind, gains more than half a point of test accuracy.
"""

import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from experiments import evidence, figures
from experiments.evidence import Evidence, Finding, Setting
from regjax import config as config_lib
from regjax.config import Config
from regjax.train import train

CLAIMS = {"S2": "Early stopping wastes the held-out data."}
REFITS = ("restart", "continue")
MARGIN = 0.5  # points
NONE = "best epoch, 150 digits"


def config() -> Config:
    """A run before its refit."""
    sizes = {"data.train": 150, "data.valid": 150, "data.select": 0, "data.test": 1000}
    changes = {**sizes, "epochs": 60, "parallel.mode": "single", "checkpoint_every": 60}
    return config_lib.with_setting(config_lib.load("configs/digits.py"), changes)


def of_seed(seed: int) -> dict[str, float]:
    """Test accuracy in percent without a refit and with each."""
    with tempfile.TemporaryDirectory() as folder:
        results = {
            refit: train(
                config_lib.with_setting(config(), {"seed": seed, "stopping.refit": refit}),
                Path(folder) / refit,
                Console(quiet=True),
            )
            for refit in REFITS
        }
    before = results[REFITS[0]]["refit"]["before"]["test_accuracy"]
    after = {refit: result["test_accuracy"] for refit, result in results.items()}
    return {name: 100 * value for name, value in {NONE: before, **after}.items()}


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    rows = [of_seed(seed) for seed in setting.seeds]
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    gains = [
        Finding(
            f"refit by {refit}",
            "test accuracy, of the refit − of the best epoch",
            found[refit] - found[NONE],
            margin=MARGIN,
            unit="points",
        )
        for refit in REFITS
    ]
    return {"S2": Evidence(gains, lambda figure: draw(figure, found), "150 + 150 digits, MLP")}


def draw(figure: Figure, found: dict[str, np.ndarray]) -> None:
    """Accuracies, and the paired gains."""
    left, right = figure.subplots(1, 2)
    figures.bars(left, {NONE: found[NONE], **{f"refit, {r}": found[r] for r in REFITS}})
    figures.bars(right, {r: found[r] - found[NONE] for r in REFITS})
    right.axvline(MARGIN, color="#888888", ls="--", lw=1)
    left.set(xlabel="test accuracy, percent")
    right.set(xlabel="gain in test accuracy, points")


if __name__ == "__main__":
    evidence.script()
