"""Does decoupling the decay free its choice from the learning rate's?

T2. Loshchilov & Hutter (2019), "Decoupled weight decay regularization", figures 1 and 2: with L2
the best settings lie on a diagonal of the map of learning rate and strength, with a decoupled decay
they do not; and AdamW's error is lower than Adam's with L2.

Method: a grid of learning rates and decays for Adam with L2 and for AdamW, whose decay is a step's
and not multiplied by the rate, both with one cosine cycle, as in the paper. They train a ResNet on
CIFAR-10 for 100 epochs; here a ResNet of 8 layers on 500 digits for 20, at full scale one of 20
layers on 5,000 images of MNIST. For each seed, over the quarter of its settings with the highest
selection accuracy (all that are as good as the last of them count), the correlation of the
logarithms of rate and decay: near −1 on a diagonal, near 0 if one can be chosen without the other.
Settings of the tuned error are chosen by the mean selection accuracy of the other seeds.
Figure: selection accuracy over both grids. Verdict: the correlation is negative with L2, larger
with the decoupled decay, and the tuned error is lower with it.
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

CLAIMS = {"T2": "Decoupled decay: the best decay does not depend on the rate, the error is lower."}
RATES = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
DECAYS = {
    "Adam with L2": [1e-3, 1e-2, 1e-1, 1.0, 10.0],
    "AdamW": [1e-5, 1e-4, 3e-4, 1e-3, 3e-3],
}
HOW = {"Adam with L2": "coupled", "AdamW": "independent"}
CONFIG = Config(
    epochs=20,
    batch_size=50,
    data=DataConfig("digits", train=500, valid=0, select=300, test=997),
    model=ModelConfig("resnet", norm="batch", depth=8, channels=(8, 16, 32)),
    optimizer=OptimizerConfig("adam", schedule=ScheduleConfig("cosine")),
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
Grids = dict[str, dict[str, np.ndarray]]


def grids(config: Config, seeds: range) -> Grids:
    """Accuracies in %, `(rates, decays, seeds)`, for selection and test, of each optimizer."""
    settings = [
        {"optimizer.learning_rate": rate, "optimizer.weight_decay": decay, "optimizer.decay": how}
        for name, how in HOW.items()
        for rate in RATES
        for decay in DECAYS[name]
    ]
    records = lanes.train(lanes.over_seeds(config, seeds, settings), ("select", "test"))
    shape = len(HOW), len(RATES), -1, len(seeds)
    parts = {
        split: 100 * np.nan_to_num(lanes.column(records, f"{split}_accuracy").reshape(shape))
        for split in ("select", "test")
    }
    return {name: {split: of[i] for split, of in parts.items()} for i, name in enumerate(HOW)}


def slope(grid: np.ndarray, decays: list[float]) -> np.ndarray:
    """Correlation of log rate and log decay over each seed's best quarter of settings."""
    along, across = np.meshgrid(np.log(RATES), np.log(decays), indexing="ij")
    found = []
    for of_seed in np.moveaxis(grid, -1, 0):
        best = of_seed >= np.sort(of_seed, axis=None)[-(of_seed.size // 4)]
        found.append(np.corrcoef(along[best], across[best])[0, 1])
    return np.nan_to_num(found)  # all of one rate or decay: no diagonal


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains both grids."""
    found = grids(config_lib.with_setting(CONFIG, SCALE[setting.scale]), setting.seeds)
    l2, decoupled = (slope(grid["select"], DECAYS[name]) for name, grid in found.items())
    flat = {
        name: [grid[split].reshape(-1, len(setting.seeds)) for split in ("select", "test")]
        for name, grid in found.items()
    }
    with_l2, adamw = (100 - lanes.by_others(*parts) for parts in flat.values())
    what, error = "correlation of log rate and log decay, best quarter", "tuned test error"
    more = f"{what}, decoupled − L2"
    findings = [
        Finding("L2", what, l2, "below", paper="a diagonal"),
        Finding("decoupled", more, decoupled - l2, "above", paper="more separable"),
        Finding(
            "error", f"{error}, AdamW − Adam with L2", adamw - with_l2, "below", 0.0, "points",
            "15 % lower",
        ),
    ]  # fmt: skip
    data = "5,000 images of MNIST" if setting.full else "500 digits"
    return {"T2": Evidence(findings, partial(draw, found=found), data)}


def draw(figure: Figure, found: Grids) -> None:
    """Both maps, each rate's best decay in bold."""
    figure.set_size_inches(10, 3.8)
    panels = figure.subplots(1, 2)
    rates = [f"{rate:g}" for rate in RATES]
    for axes, (name, grid) in zip(panels, found.items(), strict=True):
        decays = [f"{decay:g}" for decay in DECAYS[name]]
        figures.grid(axes, grid["select"].mean(-1), rates, decays, 8.0)
        axes.set(title=name, xlabel="decay" + " a step" * (name == "AdamW"))
        axes.set_ylabel("learning rate")
    figure.colorbar(panels[1].images[0], ax=list(panels), label="selection accuracy / %")


if __name__ == "__main__":
    evidence.script()
