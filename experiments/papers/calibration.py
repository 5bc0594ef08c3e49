"""Do label smoothing and mixup calibrate a network that is over-confident?

T4. Müller et al. (2019), "When does label smoothing help?", table 3, and Zhang et al. (2018),
"mixup", table 1: label smoothing brings the calibration error of an over-confident network down
without loss of accuracy, and mixup its test error.

Method: a network that fits its few training images without any doubt and is right about far fewer
others: the condition of both papers, which a well calibrated network (claim R1) has not. They train
ResNet-56 on CIFAR-100 and PreAct ResNet-18 on CIFAR-10; here an MLP (128, 128) on 60 digits, Adam,
200 epochs, at full scale the experiment's CNN on 100 images of MNIST. Smoothing with ε from 0 to
0.2, mixup with α from 0 to 1; the expected calibration error has 15 bins. Of the best: that with
the lowest mean error over the other seeds.
Figure: calibration error and test error along ε and α. Verdict: without either the calibration
error is above 5 points; with ε = 0.05, the paper's, it is lower, and test error is at most half a
point higher; the calibration errors of the best ε and of the best α are lower too, and so is the
test error with α = 1, the paper's.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax import config as config_lib
from regjax import metrics
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {"T4": "Label smoothing calibrates an over-confident network, mixup lowers its error."}
SMOOTHING = [0.0, 0.01, 0.05, 0.1, 0.2]
ALPHAS = [0.0, 0.1, 0.2, 0.4, 1.0]
NONE = 1e-6  # in place of an α of 0
CONFIG = Config(
    epochs=200,
    batch_size=20,
    data=DataConfig("digits", train=60, valid=0, select=0, test=-1),
    model=ModelConfig("mlp", widths=(128, 128)),
    optimizer=OptimizerConfig("adam", 1e-3),
    stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
)
SCALE: dict[str, dict[str, Any]] = {
    "small": {},
    "full": {
        "data.name": "tfds:mnist",
        "data.train": 100,
        "data.test": 10000,
        "model.name": "cnn",
        "model.norm": "batch",
    },
}
Numbers = dict[str, np.ndarray]


def measured(config: Config, seeds: range, settings: list[dict[str, Any]]) -> Numbers:
    """Calibration error and test error in %, `(settings, seeds)`."""
    runs = lanes.over_seeds(config, seeds, settings)
    records = lanes.train(runs, ("test",), weights=True)
    outputs = [lanes.outputs(*pair) for pair in zip(runs, records, strict=True)]
    calibration = [
        float(metrics.calibration(jnp.asarray(logits), jnp.asarray(labels)).compute())
        for logits, labels in outputs
    ]
    shape = len(settings), len(seeds)
    return {
        "calibration": 100 * np.reshape(calibration, shape),
        "error": 100 - 100 * lanes.column(records, "test_accuracy", len(settings)),
    }


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains along ε and along α."""
    config = config_lib.with_setting(CONFIG, SCALE[setting.scale])
    along = [{"loss.label_smoothing": strength} for strength in SMOOTHING]
    smoothed = measured(config, setting.seeds, along)
    along = [{"augment.mix": "mixup", "augment.mix_alpha": alpha or NONE} for alpha in ALPHAS]
    mixed = measured(config, setting.seeds, along)
    ece, at = smoothed["calibration"], SMOOTHING.index(0.05)
    best, mixed_best = (
        lanes.by_others(-of["calibration"], of["calibration"]) for of in (smoothed, mixed)
    )
    what = "expected calibration error"
    change, error = f"{what}, with − without", "test error, with − without"
    lost = {name: of["error"] - of["error"][0] for name, of in (("ε", smoothed), ("α", mixed))}

    def below(condition: str, what: str, values: np.ndarray, margin: float, paper: str) -> Finding:
        return Finding(condition, what, values, "below", margin, "points", paper)

    findings = [
        Finding("over-confident", what, ece[0], "above", 5.0, "points", "15.0"),
        below("smoothing calibrates, ε = 0.05", change, ece[at] - ece[0], 0.0, "15.0 to 2.4"),
        below("smoothing calibrates, best ε", change, best - ece[0], 0.0, ""),
        below("smoothing costs nothing", error, lost["ε"][at], 0.5, "no loss"),
        below("mixup calibrates, best α", change, mixed_best - mixed["calibration"][0], 0.0, ""),
        below("mixup lowers the error", error, lost["α"][-1], 0.0, "5.6 to 4.2 %"),
    ]
    data = "100 images of MNIST" if setting.full else "60 digits"
    return {"T4": Evidence(findings, partial(draw, smoothed=smoothed, mixed=mixed), data)}


def draw(figure: Figure, smoothed: Numbers, mixed: Numbers) -> None:
    """Both errors along both strengths."""
    panels = figure.subplots(1, 2, sharey=True)
    pairs = (("label smoothing ε", SMOOTHING, smoothed), ("mixup α", ALPHAS, mixed))
    for axes, (name, along, found) in zip(panels, pairs, strict=True):
        figures.curve(axes, along, found["calibration"].T, "expected calibration error", 0)
        figures.curve(axes, along, found["error"].T, "test error", 1)
        axes.set(xlabel=name)
        axes.set_ylim(bottom=0)
    panels[0].set(ylabel="points")
    panels[1].legend()


if __name__ == "__main__":
    evidence.script()
