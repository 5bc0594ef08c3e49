"""How large a learning rate does batch norm allow, and is it faster for it?

N1. "Batch norm lets a larger learning rate train and speeds it up."

Question: up to which rate of plain SGD does a network train, and how soon is it there, with and
without batch norm? Method: MLPs of 2 and 8 layers of 64 ReLU units from He's initializer, 500
training digits in batches of 32, 20 epochs at six rates from .03 to 10. A run trains if it ends at
a held-out accuracy of 85 % or more. Its epochs are those until it first has that, 21 if it never
has; each arm is judged at the rate that is best for it by its mean over the seeds.
Figure: the share of runs that train, and the epochs, against the rate.
Verdict: at each depth the highest rate that trains is larger with batch norm, and there are fewer
epochs. (The largest rate tried is a lower bound, so a gain may be larger than said.)
"""

import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {"N1": "Batch norm lets a larger learning rate train and speeds it up."}
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
DEPTHS = (2, 8)
NORMS = {"none": "without", "batch": "batch norm"}
EPOCHS, TARGET = 20, 0.85
Arm = tuple[int, str]


def trained(arm: Arm, setting: Setting) -> np.ndarray:
    """Held-out accuracy by epoch, `(rates, seeds, epochs)`; 0 once it has diverged."""
    depth, norm = arm
    config = Config(
        epochs=EPOCHS,
        data=DataConfig("digits", train=500, valid=500, select=0, test=0),
        model=ModelConfig("mlp", widths=(64,) * depth, norm=norm, initializer="he_normal"),
        optimizer=OptimizerConfig("sgd"),
        stopping=StoppingConfig(patience=0),
    )
    settings = [{"optimizer.learning_rate": rate} for rate in RATES]
    records = lanes.train(lanes.over_seeds(config, setting.seeds, settings), splits=())
    accuracy = np.zeros((len(records), EPOCHS))
    for row, record in zip(accuracy, records, strict=True):
        curve = record["curves"]
        finite = np.isfinite(curve["valid_loss"])
        row[: len(finite)] = np.where(finite, curve["valid_accuracy"], 0)
    return accuracy.reshape(len(RATES), -1, EPOCHS)


def highest_rate(accuracy: np.ndarray) -> np.ndarray:
    """For each seed log10 of the highest rate that trains; below all tried if none does."""
    trains = accuracy[..., -1] >= TARGET
    rates = np.log10(np.array([RATES[0] / 3, *RATES]))
    return np.where(trains, rates[1:, None], rates[0]).max(axis=0)


def epochs_to_target(accuracy: np.ndarray) -> np.ndarray:
    """`(rates, seeds)`."""
    there = accuracy >= TARGET
    return np.where(there.any(-1), there.argmax(-1) + 1, EPOCHS + 1)


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    found = {(depth, norm): trained((depth, norm), setting) for depth in DEPTHS for norm in NORMS}
    rate = {arm: highest_rate(of) for arm, of in found.items()}
    epochs = {arm: epochs_to_target(of) for arm, of in found.items()}
    fewest = {arm: of[of.mean(1).argmin()] for arm, of in epochs.items()}
    findings = []
    for depth in DEPTHS:
        plain, normed = (depth, "none"), (depth, "batch")
        what = "log10(highest rate that trains), with − without"
        findings.append(Finding(f"{depth} layers, rate", what, rate[normed] - rate[plain]))
    for depth in DEPTHS:
        plain, normed = (depth, "none"), (depth, "batch")
        what = f"epochs to {TARGET:.0%}, each at its best rate, without − with"
        findings.append(Finding(f"{depth} layers, speed", what, fewest[plain] - fewest[normed]))
    return {"N1": Evidence(findings, lambda figure: draw(figure, found, epochs), "500 digits")}


def draw(figure: Figure, found: dict[Arm, np.ndarray], epochs: dict[Arm, np.ndarray]) -> None:
    """Which runs train, and how soon."""
    left, right = figure.subplots(1, 2)
    for number, (depth, norm) in enumerate(found):
        label = f"{depth} layers, {NORMS[norm]}"
        trains = (found[depth, norm][..., -1] >= TARGET).mean(1)
        colour, marker = figures.COLOURS[number], figures.MARKERS[number]
        left.plot(RATES, 100 * trains, color=colour, marker=marker, ms=5, label=label)
        figures.curve(right, RATES, epochs[depth, norm].T, label, number)
    left.set(ylabel=f"% of the runs that end at {TARGET:.0%} or more")
    right.set(ylabel=f"epochs to {TARGET:.0%} ({EPOCHS + 1}: never)")
    for axes in (left, right):
        axes.set(xscale="log", xlabel="learning rate of SGD")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)


if __name__ == "__main__":
    evidence.script()
