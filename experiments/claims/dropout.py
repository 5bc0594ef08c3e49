"""Does dropout reduce overfitting, and is p = ½ the rate for hidden layers?

D1. "Dropout reduces overfitting; p = .5 for hidden layers."

Question: how do the gap between training and test data and the test accuracy go with the rate?
Method: MLPs with two hidden layers of 128 and of 16 units on 300 digits, 60 epochs of Adam, rates
from 0 to 0.8. Of the best rate: that with the best mean test accuracy of the other seeds. At
--scale=full also the order of Srivastava et al. (2014, table 9) on 1,000 images of MNIST with their
network: L2, L1 and L2, max-norm, dropout with L2, dropout with max-norm, from the worst; each with
the best of four strengths by the mean selection accuracy of the other seeds; five seeds.
Figure: gap and test accuracy along the rate; bands are 95 % intervals.
Verdict: with 128 units and p = ½ the gap of the accuracies and of the losses is smaller than
without, and test accuracy is higher; with 128 and with 16 units the best rate is at most half a
point better than ½. Full: each of table 9 is better than the one before.
"""

import itertools
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax import config as config_lib
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {"D1": "Dropout reduces overfitting; p = .5 for hidden layers."}
RATES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
HALF = RATES.index(0.5)
WIDTHS = {"128 units": (128, 128), "16 units": (16, 16)}
CONFIG = Config(
    epochs=60,
    data=DataConfig("digits", train=300, valid=0, select=0, test=-1),
    optimizer=OptimizerConfig("adam", 0.003),
    stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
)
NAMES = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
Numbers = dict[str, np.ndarray]

TABLE_9 = Config(
    epochs=50,
    data=DataConfig("tfds:mnist", train=1000, valid=2000, select=5000, stratified=False),
    model=ModelConfig("mlp", (1024, 1024, 2048)),
    optimizer=OptimizerConfig("sgd", 0.03, momentum=0.9),
    stopping=StoppingConfig(patience=0),
)
TABLE_9_SEEDS = 5
STRENGTHS = [{"penalty.strength": strength} for strength in (1e-6, 1e-5, 1e-4, 1e-3)]
RADII = [{"constraint.radius": radius} for radius in (1.0, 2.0, 3.0, 4.0)]
ARMS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "L2": ({"penalty.name": "l2"}, STRENGTHS),
    "L1 and L2": ({"penalty.name": "elastic"}, STRENGTHS),
    "max-norm": ({"constraint.name": "max_norm"}, RADII),
    "dropout, L2": ({"model.dropout_rate": 0.5, "penalty.name": "l2"}, STRENGTHS),
    "dropout, max-norm": ({"model.dropout_rate": 0.5, "constraint.name": "max_norm"}, RADII),
}


def along_the_rate(seeds: range, widths: tuple[int, ...]) -> Numbers:
    """Accuracies in % and losses, `(rates, seeds)`."""
    settings = [
        {"model.widths": widths, "model.dropout_rate": rate or 1e-9}  # 0 is another program
        for rate in RATES
    ]
    records = lanes.train(lanes.over_seeds(CONFIG, seeds, settings))
    found = {name: lanes.column(records, name, len(RATES)) for name in NAMES}
    return {name: of * (100 if "accuracy" in name else 1) for name, of in found.items()}


def table_9(config: Config, seeds: range) -> Numbers:
    """Test accuracies in % of each arm, tuned."""
    found = {}
    for name, (fixed, strengths) in ARMS.items():
        runs = lanes.over_seeds(config_lib.with_setting(config, fixed), seeds, strengths)
        records = lanes.train(runs, ("select", "test"))
        parts = ("select_accuracy", "test_accuracy")
        found[name] = 100 * lanes.by_others(
            *(lanes.column(records, part, len(strengths)) for part in parts)
        )
    return found


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains at every rate; at full scale also the table."""
    found = {name: along_the_rate(setting.seeds, widths) for name, widths in WIDTHS.items()}
    wide, findings = found["128 units"], []
    gaps = {
        "accuracies": (wide["train_accuracy"] - wide["test_accuracy"], "points"),
        "losses": (wide["test_loss"] - wide["train_loss"], "nats"),
    }
    for name, (gap, unit) in gaps.items():
        what = f"gap of the {name} between training and test data, p = ½ − none"
        findings.append(Finding(f"gap, {name}", what, gap[HALF] - gap[0], "below", 0.0, unit))
    gain = wide["test_accuracy"][HALF] - wide["test_accuracy"][0]
    what = "test accuracy, p = ½ − none"
    findings.append(Finding("accuracy", what, gain, "above", 0.0, "points"))
    for name, of in found.items():
        accuracy = of["test_accuracy"]
        better = lanes.by_others(accuracy, accuracy) - accuracy[HALF]
        what = "test accuracy, best rate − p = ½"
        findings.append(Finding(f"p = ½, {name}", what, better, "below", 0.5, "points"))
    if setting.full:
        table = table_9(TABLE_9, setting.seeds[:TABLE_9_SEEDS])
        findings += ordered(table)
    return {"D1": Evidence(findings, partial(draw, found=found), "300 digits")}


def ordered(table: Numbers) -> list[Finding]:
    """That each arm is better than the one before."""
    what = "test accuracy on 1,000 images of MNIST, the first − the second"
    names = list(table)
    return [
        Finding(f"{a} > {b}", what, table[a] - table[b], "above", 0.0, "points")
        for b, a in itertools.pairwise(names)
    ]


def draw(figure: Figure, found: dict[str, Numbers]) -> None:
    """Along the rate: the gap, and test accuracy."""
    left, right = figure.subplots(1, 2)
    for i, (name, of) in enumerate(found.items()):
        gap = of["train_accuracy"] - of["test_accuracy"]
        figures.curve(left, RATES, gap.T, name, i)
        figures.curve(right, RATES, of["test_accuracy"].T, name, i)
    left.set(xlabel="dropout rate p", ylabel="training − test accuracy / points")
    right.set(xlabel="dropout rate p", ylabel="test accuracy / %")
    left.legend()


if __name__ == "__main__":
    evidence.script()
