"""Does dropout reduce overfitting, and is p = ½ the rate for hidden layers?

D1. "Dropout reduces overfitting; p = .5 for hidden layers."

Question: how do the gap between training and test data and the test accuracy go with the rate?
Method: MLPs with two hidden layers of 128 and of 16 units on 300 digits, 60 epochs of Adam, rates
from 0 to 0.8. Of the best rate: that with the best mean test accuracy of the other seeds. The
order of Srivastava et al. (2014, table 9) is `experiments.papers.dropout_table`'s.
Figure: gap and test accuracy along the rate; bands are 95 % intervals.
Verdict: with 128 units and p = ½ the gap of the accuracies and of the losses is smaller than
without, and test accuracy is higher; with 128 and with 16 units the best rate is at most half a
point better than ½.
"""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.config import Config, DataConfig, OptimizerConfig, StoppingConfig

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


def along_the_rate(seeds: range, widths: tuple[int, ...]) -> Numbers:
    """Accuracies in % and losses, `(rates, seeds)`."""
    settings = [
        {"model.widths": widths, "model.dropout_rate": rate or 1e-9}  # 0 is another program
        for rate in RATES
    ]
    records = lanes.train(lanes.over_seeds(CONFIG, seeds, settings))
    found = {name: lanes.column(records, name, len(RATES)) for name in NAMES}
    return {name: of * (100 if "accuracy" in name else 1) for name, of in found.items()}


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains at every rate."""
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
    return {"D1": Evidence(findings, partial(draw, found=found), "300 digits")}


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
