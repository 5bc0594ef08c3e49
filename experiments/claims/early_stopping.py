"""Does early stopping avoid overfitting, and save time?

S1. "Early stopping avoids overfitting and saves time."

Method: an MLP (128, 128) without a norm on 300 digits, Adam, at most 150 epochs; stopped by the
accuracy on 300 validation examples with patience 1 to 50, by Prechelt's criteria on their loss, and
not at all, when the last epoch's weights are kept. All over the same seeds, which also draw the
splits, so that differences are paired.
Figure: what is gained in accuracy and lost in epochs, by criterion. Verdict: with the default
patience of 5, accuracy on test is higher than at the last epoch, cross-entropy on test is lower,
and less than half of the epochs are needed; and for a patience of 50 the same.
"""

import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {"S1": "Early stopping avoids overfitting and saves time."}
EPOCHS = 150
PATIENCES = (1, 2, 5, 10, 20, 50)
CRITERIA = {
    "GL, α = 5": {"stopping.name": "gl", "stopping.alpha": 5.0},
    "PQ, α = 0.5": {"stopping.name": "pq", "stopping.alpha": 0.5},
    "UP, 3 strips": {"stopping.name": "up"},
}
BY_LOSS = {"stopping.monitor": "valid_loss", "stopping.mode": "min"}
MEASURED = {"accuracy": "test_accuracy", "loss": "test_loss", "epochs": "epochs"}
Numbers = dict[str, np.ndarray]  # of each seed, by name


def config() -> Config:
    """A run that does not stop."""
    return Config(
        epochs=EPOCHS,
        data=DataConfig(train=300, valid=300, select=0, test=-1),
        model=ModelConfig(widths=(128, 128)),
        optimizer=OptimizerConfig("adam", 1e-3),
        stopping=StoppingConfig(patience=0),
    )


def trained(seeds: range) -> dict[str, Numbers]:
    """What each criterion comes to; "none" is the last epoch."""
    ways = {f"patience {p}": {"stopping.patience": p} for p in PATIENCES}
    ways |= {name: {**changes, **BY_LOSS} for name, changes in CRITERIA.items()}
    stopped = lanes.train(lanes.over_seeds(config(), seeds, list(ways.values())), ("test",))
    last = lanes.train(lanes.over_seeds(config(), seeds), ("test",), last=True)
    columns = {
        name: lanes.column([*last, *stopped], of_record, 1 + len(ways))
        for name, of_record in MEASURED.items()
    }
    return {
        way: {name: values[i] for name, values in columns.items()}
        for i, way in enumerate(("none", *ways))
    }


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    found = trained(setting.seeds)
    findings = [f for way in ("patience 5", "patience 50") for f in gains(found, way)]
    return {"S1": Evidence(findings, lambda figure: draw(figure, found), "300 digits, MLP")}


def gains(found: dict[str, Numbers], way: str) -> list[Finding]:
    """Of stopping in a way."""
    gap = {name: found[way][name] - found["none"][name] for name in MEASURED}
    last = "of the stopped − of the last epoch"
    share = found[way]["epochs"] / EPOCHS
    return [
        Finding(
            f"accuracy with {way}", f"test accuracy {last}", 100 * gap["accuracy"], unit="points"
        ),
        Finding(f"loss with {way}", f"test loss {last}", gap["loss"], "below", unit="nats"),
        Finding(f"time with {way}", f"share of {EPOCHS} epochs", share, "below", 0.5),
    ]


def draw(figure: Figure, found: dict[str, Numbers]) -> None:
    """Gains in accuracy and loss, and epochs."""
    figure.set_size_inches(10, 4)
    left, middle, right = figure.subplots(1, 3, sharey=True)
    ways = [way for way in found if way != "none"]
    none = found["none"]
    figures.bars(left, {w: 100 * (found[w]["accuracy"] - none["accuracy"]) for w in ways})
    figures.bars(middle, {w: found[w]["loss"] - none["loss"] for w in ways})
    figures.bars(right, {w: found[w]["epochs"] for w in ways})
    for axes in (left, middle):
        axes.axvline(0, color="#888888", lw=1)
    left.set(xlabel="test accuracy − last epoch's, points")
    middle.set(xlabel="test loss − last epoch's, nats")
    right.set(xlabel=f"epochs, of {EPOCHS}", xlim=(0, EPOCHS * 1.03))


if __name__ == "__main__":
    evidence.script()
