"""Is regularization needless with much data, or with a simple model?

P6. "Regularization is needless with much data or a simple model."

Question: how much does tuned regularization gain, by the size of the data and of the network?
Method: MLPs with two hidden layers of 64 and of 4 units on 50 and 1,100 digits, 600 updates of
Adam with batches of 50 in each. L2 in the loss (λ from 0 to 1e-2) together with dropout (0 or 0.4),
eight settings; the gain is the test accuracy of the setting with the best mean selection accuracy
of the other seeds, less that of training without either on the same seed. 300 digits select, 397
test.
Figure: test accuracy without and with, and the gain, along the size of the data.
Verdict: the gain is below half a point with much data (1,100, 64 units) and with a simple model
(50, 4 units), is above half a point otherwise (50, 64 units), and falls with the data (64 units).
"""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PenaltyConfig,
    StoppingConfig,
)

CLAIMS = {"P6": "Regularization is needless with much data or a simple model."}
SIZES = [50, 1100]
WIDTHS = {"64 units": (64, 64), "4 units": (4, 4)}
UPDATES, BATCH = 600, 50
NONE = 1e-9  # 0 is another program
SETTINGS = [
    {"penalty.strength": strength, "model.dropout_rate": rate}
    for rate in (NONE, 0.4)
    for strength in (0.0, 1e-4, 1e-3, 1e-2)
]  # the first is without
CONFIG = Config(
    batch_size=BATCH,
    data=DataConfig("digits", valid=0, select=300, test=397),
    model=ModelConfig("mlp"),
    penalty=PenaltyConfig("l2"),
    optimizer=OptimizerConfig("adam", 0.003),
    stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
)
Numbers = dict[str, np.ndarray]


def train(seeds: range, size: int, widths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Test accuracies in % of each seed, without and with tuned regularization."""
    fixed = {"data.train": size, "model.widths": widths, "epochs": UPDATES * BATCH // size}
    runs = lanes.over_seeds(CONFIG, seeds, [fixed | setting for setting in SETTINGS])
    records = lanes.train(runs, ("select", "test"))
    select, test = (
        100 * lanes.column(records, f"{split}_accuracy", len(SETTINGS))
        for split in ("select", "test")
    )
    return test[0], lanes.by_others(select, test)


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains every network on every size."""
    without: Numbers = {}
    tuned: Numbers = {}
    for name, widths in WIDTHS.items():
        pairs = [train(setting.seeds, size, widths) for size in SIZES]
        without[name], tuned[name] = (np.array(part).T for part in zip(*pairs, strict=True))
    gains = {name: tuned[name] - without[name] for name in WIDTHS}
    wide, simple = gains.values()
    what, unit = "test accuracy, tuned regularization − none", "points"
    less = "gain with 50 digits − with 1,100"
    findings = [
        Finding("much data", what, wide[:, -1], "below", 0.5, unit),
        Finding("simple model", what, simple[:, 0], "below", 0.5, unit),
        Finding("little data, large model", what, wide[:, 0], "above", 0.5, unit),
        Finding("falls with data", less, wide[:, 0] - wide[:, -1], "above", 0.0, unit),
    ]
    show = partial(draw, without=without, tuned=tuned, gains=gains)
    return {"P6": Evidence(findings, show, "50 to 1,100 digits")}


def draw(figure: Figure, without: Numbers, tuned: Numbers, gains: Numbers) -> None:
    """Along the size: accuracies, and gains."""
    left, right = figure.subplots(1, 2)
    for i, name in enumerate(WIDTHS):
        figures.curve(left, SIZES, without[name], f"{name}, without", 2 * i)
        figures.curve(left, SIZES, tuned[name], f"{name}, tuned", 2 * i + 1)
        figures.curve(right, SIZES, gains[name], name, 2 * i + 1)
    right.axhline(0, color="#888888", lw=1)
    left.set(ylabel="test accuracy / %")
    right.set(ylabel="gain by regularization / points")
    for axes in (left, right):
        axes.set(xscale="log", xlabel="training digits")
        axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
        axes.minorticks_off()
        axes.legend()


if __name__ == "__main__":
    evidence.script()
