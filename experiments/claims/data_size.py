"""Is regularization needless with much data, or with a simple model?

P6. "Regularization is needless with much data or a simple model."

Question: how much does tuned regularization gain, by the size of the data and of the network?
Method: an MLP with two hidden layers of 64 units and a softmax regression on 50 and 1,100 digits,
600 updates of Adam with batches of 50 in each. L2 in the loss (λ from 0 to 1e-2), in the MLP
together with dropout (0 or 0.4), so eight settings and four; the gain is the test accuracy of the
setting with the best mean selection accuracy of the other seeds, less that of training without
either on the same seed. 300 digits select, 397 test.
Figure: test accuracy without and with, and the gain, along the size of the data.
Verdict: the gain is below half a point with much data (1,100, MLP) and with a simple model
(50, softmax regression), is above half a point otherwise (50, MLP), and falls with the data (MLP).
"""

from functools import partial

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
    PenaltyConfig,
    StoppingConfig,
)

CLAIMS = {"P6": "Regularization is needless with much data or a simple model."}
SIZES = [50, 1100]
UPDATES, BATCH = 600, 50
NONE = 1e-9  # 0 is another program
STRENGTHS = [{"penalty.strength": strength} for strength in (0.0, 1e-4, 1e-3, 1e-2)]
DROPOUT = [
    {"model.dropout_rate": rate} | strength for rate in (NONE, 0.4) for strength in STRENGTHS
]
MODELS = {"MLP": ((64, 64), DROPOUT), "softmax regression": ((), STRENGTHS)}  # first without either
CONFIG = Config(
    batch_size=BATCH,
    data=DataConfig("digits", valid=0, select=300, test=397),
    model=ModelConfig("mlp"),
    penalty=PenaltyConfig("l2"),
    optimizer=OptimizerConfig("adam", 0.003),
    stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
)
Numbers = dict[str, np.ndarray]


def train(seeds: range, size: int, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Test accuracies in % of each seed, without and with tuned regularization."""
    widths, settings = MODELS[model]
    fixed = {"data.train": size, "model.widths": widths, "epochs": UPDATES * BATCH // size}
    tuned, every = lanes.tuned(config_lib.with_setting(CONFIG, fixed), seeds, settings)
    return 100 * every[0], 100 * tuned


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains every network on every size."""
    without: Numbers = {}
    tuned: Numbers = {}
    for name in MODELS:
        pairs = [train(setting.seeds, size, name) for size in SIZES]
        without[name], tuned[name] = (np.array(part).T for part in zip(*pairs, strict=True))
    gains = {name: tuned[name] - without[name] for name in MODELS}
    mlp, simple = gains.values()
    what, unit = "test accuracy, tuned regularization − none", "points"
    less = "gain with 50 digits − with 1,100"
    findings = [
        Finding("much data", what, mlp[:, -1], "below", 0.5, unit),
        Finding("simple model", what, simple[:, 0], "below", 0.5, unit),
        Finding("little data, large model", what, mlp[:, 0], "above", 0.5, unit),
        Finding("falls with data", less, mlp[:, 0] - mlp[:, -1], "above", 0.0, unit),
    ]
    show = partial(draw, without=without, tuned=tuned, gains=gains)
    return {"P6": Evidence(findings, show, "50 to 1,100 digits")}


def draw(figure: Figure, without: Numbers, tuned: Numbers, gains: Numbers) -> None:
    """Along the size: accuracies, and gains."""
    left, right = figure.subplots(1, 2)
    for i, name in enumerate(MODELS):
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
    left.legend(loc="lower right")
    right.legend()


if __name__ == "__main__":
    evidence.script()
