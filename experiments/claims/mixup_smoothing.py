"""Do mixup and label smoothing generalise better, and are they less over-confident?

R1. "Mixup and label smoothing generalise better and are less over-confident."

Method: an MLP (128, 128) on 300 digits, Adam, 100 epochs, no early stopping, which would cure
over-confidence itself; plain, with mixup (α = 0.2 and 1), and with label smoothing (ε = 0.05 and
0.1), each over the same seeds, which also draw the splits. Over-confidence is the mean confidence
on test − the accuracy there; the expected calibration error has 15 bins.
Figure: accuracy, over-confidence and calibration error of each. Verdict: against plain training,
with α = 1 and with ε = 0.1, accuracy on test is higher and over-confidence lower; and the
calibration error is lower too.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax import metrics
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {"R1": "Mixup and label smoothing generalise better and are less over-confident."}
ARMS = {
    "plain": {},
    "smoothing ε = 0.05": {"loss.label_smoothing": 0.05},
    "smoothing ε = 0.1": {"loss.label_smoothing": 0.1},
    "mixup α = 0.2": {"augment.mix": "mixup", "augment.mix_alpha": 0.2},
    "mixup α = 1": {"augment.mix": "mixup", "augment.mix_alpha": 1.0},
}
MEASURED = {
    "accuracy": "test accuracy, percent",
    "over-confidence": "confidence − accuracy, points",
    "calibration": "expected calibration error, points",
}


def config() -> Config:
    """A plain run."""
    return Config(
        epochs=100,
        data=DataConfig(train=300, valid=100, select=0, test=-1),
        model=ModelConfig(widths=(128, 128)),
        optimizer=OptimizerConfig("adam", 1e-3),
        stopping=StoppingConfig(patience=0),
    )


def of_run(run: Config, record: dict) -> list[float]:
    """A run's figures, as in `MEASURED`."""
    logits, labels = map(jnp.asarray, lanes.outputs(run, record))
    confidence = 100 * float(jax.nn.softmax(logits).max(axis=1).mean())
    accuracy = 100 * record["test_accuracy"]
    error = 100 * float(metrics.calibration(logits, labels).compute())
    return [accuracy, confidence - accuracy, error]


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    runs = lanes.over_seeds(config(), setting.seeds, list(ARMS.values()))
    records = lanes.train(runs, ("test",), last=True, weights=True)
    numbers = np.array([of_run(*pair) for pair in zip(runs, records, strict=True)])
    table = numbers.reshape(len(ARMS), len(setting.seeds), len(MEASURED))
    found = dict(zip(ARMS, table, strict=True))
    findings = []
    for arm in ("mixup α = 1", "smoothing ε = 0.1"):
        gap = (found[arm] - found["plain"]).T
        for (name, what), values in zip(MEASURED.items(), gap, strict=True):
            side = "above" if name == "accuracy" else "below"
            what = f"{what.split(',')[0]}, − plain"
            findings.append(Finding(f"{name} with {arm}", what, values, side, unit="points"))
    return {"R1": Evidence(findings, lambda figure: draw(figure, found), "300 digits, MLP")}


def draw(figure: Figure, found: dict[str, np.ndarray]) -> None:
    """A panel a figure, a row an arm."""
    figure.set_size_inches(10, 3.6)
    panels = figure.subplots(1, len(MEASURED), sharey=True)
    for i, (axes, what) in enumerate(zip(panels, MEASURED.values(), strict=True)):
        figures.bars(axes, {arm: values[:, i] for arm, values in found.items()})
        axes.set(xlabel=what)
    panels[1].axvline(0, color="#888888", lw=1)


if __name__ == "__main__":
    evidence.script()
