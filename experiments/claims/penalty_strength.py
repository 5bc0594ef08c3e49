"""How strong should a penalty be?

P5. "Too strong a penalty underfits, too weak overfits."
P7. "The smaller λ, the better", the finding of the experiment that this project started from.

Method: an MLP (64, 64) on 300 digits, Adam, no norm; λ of L1 and of L2 (λ·Σw²) over every
parameter, on a grid from 1e-6 to 1, decade by decade, and 0; each over the same seeds, which
also draw the splits. P5: 60 epochs, the last one's weights; the best λ of a penalty is that of the
largest mean accuracy on `select`, and all is compared with it on `test`. P7: as in the experiment,
λ from 1e-6 to 1e-2, early stopping with patience 5.
Figure: error on train and test along λ. Verdict: P5: at λ = 1 the error on train is larger than at
the best λ, and at λ = 0 test is worse than there, in accuracy and in cross-entropy. P7: within a
seed, accuracy on test falls with λ (Spearman's ρ below 0), for either penalty.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {
    "P5": "Too strong a penalty underfits, too weak overfits.",
    "P7": "The smaller λ, the better.",
}
TIMES = 4  # the seeds: with twice ten, another processor's rounding had another verdict
PENALTIES = {"l1": "L1", "l2": "L2"}
GRID = [0.0, *(10.0**power for power in range(-6, 1))]
SEARCHED = slice(1, 6)  # 1e-6 to 1e-2
DATA = "300 digits, MLP"


def config(early: bool) -> Config:
    """A run, but for its penalty and seed."""
    monitor, mode = ("valid_accuracy", "max") if early else ("train_loss", "min")
    made = Config(
        epochs=60,
        data=DataConfig(train=300, valid=300, select=400, test=-1),
        model=ModelConfig(widths=(64, 64)),
        optimizer=OptimizerConfig("adam", 2e-3),
        stopping=StoppingConfig(monitor=monitor, mode=mode, patience=5 if early else 0),
    )
    made.penalty.mask = "all"
    return made


def measured(early: bool, seeds: range) -> dict[str, np.ndarray]:
    """Accuracies in percent and the loss on test, `(penalties, strengths, seeds)` each."""
    settings = [
        {"penalty.name": name, "penalty.strength": strength}
        for name in PENALTIES
        for strength in GRID
    ]
    runs = lanes.over_seeds(config(early), seeds, settings)
    splits = ("train", "select", "test")
    records = lanes.train(runs, splits, last=not early)
    shape = (len(PENALTIES), len(GRID), len(seeds))
    found = {
        split: 100 * lanes.column(records, f"{split}_accuracy").reshape(shape) for split in splits
    }
    return found | {"loss": lanes.column(records, "test_loss").reshape(shape)}


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures both claims."""
    whole, stopped = measured(False, setting.seeds), measured(True, setting.seeds)
    both = [f for i, name in enumerate(PENALTIES.values()) for f in both_ends(whole, i, name)]
    falls = [
        Finding(name, "rank correlation of test accuracy with λ", trends(stopped, i), "below")
        for i, name in enumerate(PENALTIES.values())
    ]
    return {
        "P5": Evidence(both, lambda figure: draw(figure, whole), DATA),
        "P7": Evidence(falls, lambda figure: draw(figure, stopped), DATA),
    }


def both_ends(found: dict[str, np.ndarray], i: int, name: str) -> list[Finding]:
    """What P5 says of a penalty."""
    best = found["select"][i].mean(axis=1).argmax()
    names = ("train", "test", "loss")
    train, test, loss = (found[name][i] - found[name][i, best] for name in names)
    at = f"{GRID[best]:.0e}".replace("e-0", "e-")
    strong = f"train accuracy at λ = 1 − at the best λ, {at}"
    weak = f"at λ = 0 − at the best λ, {at}"
    return [
        Finding(f"too strong {name}", strong, train[-1], "below", unit="points"),
        Finding(f"too weak {name}", f"test accuracy {weak}", test[0], "below", unit="points"),
        Finding(f"too weak {name}, by its loss", f"test loss {weak}", loss[0], unit="nats"),
    ]


def trends(accuracy: dict[str, np.ndarray], i: int) -> np.ndarray:
    """Spearman's ρ of λ and test accuracy for each seed; 0 where accuracy is constant."""
    rows = accuracy["test"][i, SEARCHED].T
    found: list[Any] = [spearmanr(GRID[SEARCHED], row)[0] for row in rows]
    return np.nan_to_num(found)


def draw(figure: Figure, accuracy: dict[str, np.ndarray]) -> None:
    """Error along λ, a panel a penalty; λ = 0 stands at the left end."""
    x = [GRID[1] / 10, *GRID[1:]]
    panels = figure.subplots(1, len(PENALTIES), sharey=True)
    for i, (axes, name) in enumerate(zip(panels, PENALTIES.values(), strict=True)):
        for number, split in enumerate(("train", "test")):
            figures.curve(axes, x, 100 - accuracy[split][i].T, split, number)
        axes.set(xscale="log", title=name, xlabel="λ")
        axes.set_xticks(x, ["0", *(f"1e{power}" for power in range(-6, 0)), "1"])
    panels[0].set(yscale="symlog", ylabel="error in percent", ylim=(0, 100))
    panels[0].legend(loc="upper left")


if __name__ == "__main__":
    evidence.script()
