"""Where do batch norm and group norm cross, as batches get smaller?

T3. Wu & He (2018), "Group normalization", table 2 and figure 5: batch norm's error rises as batches
get smaller and group norm's does not; they cross, batch norm being better at 32.

Method: ResNets by SGD with momentum, decay and one cosine cycle, with batches of 2 to 32. The
learning rate is proportional to the batch, as in the paper; that of batches of 32 is the best of
three for each norm, by the mean selection accuracy of the other seeds. They train ResNet-50 on
ImageNet, with 32 groups; here a ResNet of 8 layers with groups of 4 on 500 digits for 20 epochs, at
full scale one of 20 layers on 5,000 images of MNIST.
Figure: error along the batch size, theirs and ours.
Verdict: from 32 to 2 batch norm's error rises by more than a point and group norm's by less; at 2
group norm's error is lower, at 32 batch norm's.
"""

from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax import config as config_lib
from regjax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    StoppingConfig,
)

CLAIMS = {"T3": "Batch norm's error rises as batches shrink, group norm's does not; they cross."}
SIZES = [2, 4, 8, 16, 32]
NORMS = {"batch": "batch norm", "group": "group norm"}
RATES = [0.03, 0.1, 0.3]  # at 32
PAPER = {"batch": [34.7, 27.3, 24.8, 23.7, 23.6], "group": [24.1, 24.2, 24.0, 24.2, 24.1]}
POINT = 1.0
CONFIG = Config(
    epochs=20,
    data=DataConfig("digits", train=500, valid=0, select=300, test=997),
    model=ModelConfig("resnet", norm="batch", norm_groups=4, depth=8, channels=(8, 16, 32)),
    optimizer=OptimizerConfig(
        "sgd", momentum=0.9, weight_decay=1e-4, decay="coupled", schedule=ScheduleConfig("cosine")
    ),
    stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
)
SCALE: dict[str, dict[str, Any]] = {
    "small": {},
    "full": {
        "data.name": "tfds:mnist",
        "data.train": 5000,
        "data.select": 5000,
        "data.test": 10000,
        "model.depth": 20,
        "model.channels": (16, 32, 64),
    },
}


def errors(config: Config, seeds: range) -> np.ndarray:
    """Test errors in % along the batch size, `(sizes, seeds)`."""
    every = []
    for size in SIZES:
        settings = [{"optimizer.learning_rate": rate * size / SIZES[-1]} for rate in RATES]
        of_size = config_lib.with_setting(config, {"batch_size": size})
        records = lanes.train(lanes.over_seeds(of_size, seeds, settings), ("select", "test"))
        select, test = (
            lanes.column(records, f"{split}_accuracy", len(RATES)) for split in ("select", "test")
        )
        every.append(100 - 100 * test)
    return np.array([lanes.by_others(select, of_size) for of_size in every])  # as it is at 32


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains both norms at every size."""
    config = config_lib.with_setting(CONFIG, SCALE[setting.scale])
    found = {
        norm: errors(config_lib.with_setting(config, {"model.norm": norm}), setting.seeds)
        for norm in NORMS
    }
    batch, group = found["batch"], found["group"]
    rise = "test error, batches of 2 − of 32"
    gap = "test error, batch norm − group norm"
    theirs = {norm: f"{of[-1]} % at 32, {of[0]} % at 2" for norm, of in PAPER.items()}
    at = [f"{b} % and {g} %" for b, g in zip(PAPER["batch"], PAPER["group"], strict=True)]
    findings = [
        Finding(
            "batch norm fails",
            rise,
            batch[0] - batch[-1],
            "above",
            POINT,
            "points",
            theirs["batch"],
        ),
        Finding(
            "group norm holds",
            rise,
            group[0] - group[-1],
            "below",
            POINT,
            "points",
            theirs["group"],
        ),
        Finding("at 2", gap, batch[0] - group[0], "above", 0.0, "points", at[0]),
        Finding("at 32", gap, batch[-1] - group[-1], "below", 0.0, "points", at[-1]),
    ]
    data = "5,000 images of MNIST" if setting.full else "500 digits"
    return {"T3": Evidence(findings, partial(draw, found=found, data=data), data)}


def draw(figure: Figure, found: dict[str, np.ndarray], data: str) -> None:
    """Errors along the batch size."""
    left, right = figure.subplots(1, 2)
    for i, (norm, name) in enumerate(NORMS.items()):
        figures.curve(left, SIZES, [PAPER[norm]] * 2, name, i)
        figures.curve(right, SIZES, found[norm].T, name, i)
    left.set(title="paper, ImageNet, images a GPU")
    right.set(title=data)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set(xlabel="batch size", ylabel="error / %")
        axes.set_xticks(SIZES, [str(size) for size in SIZES])
        axes.legend()


if __name__ == "__main__":
    evidence.script()
