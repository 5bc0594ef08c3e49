"""What becomes of a network whose weights start at zero or at a constant?

I1. "Zero or constant initialization fails: units stay identical."

Question: do the units of a layer ever differ, and what does such a network learn? Method: an MLP of
two layers of 64 ReLU units on digits, pixels in [0, 1] (of negative inputs positive constants make
silent units, which would decide it by another cause), 20 epochs of Adam (.003); kernels all 0, all
.1, or He's, biases 0; and all .1 with dropout of .2, which is random where weights are not. At the
start and after each epoch the effective rank (Roy & Vetterli 2007) of the last hidden layer over
256 training examples: 1 if all units say the same, 0 if they are silent. Figure: that rank and the
held-out accuracy by epoch; chance is .1.
Verdict: the rank never passes 1.5, from zeros, from constants, and from constants with dropout; and
from zeros and from constants accuracy ends more than ten points below He's.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.batch import Arrays
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig
from regjax.diagnostics import effective_rank, layer_inputs
from regjax.network import Network
from regjax.state import TrainState

CLAIMS = {"I1": "Zero or constant initialization fails: units stay identical."}
EPOCHS, EXAMPLES = 20, 256
STARTS = {
    "zeros": {"initializer": "zeros"},
    "constant .1": {"initializer": "constant", "initializer_scale": 0.1},
    "constant .1, dropout": {
        "initializer": "constant",
        "initializer_scale": 0.1,
        "dropout_rate": 0.2,
    },
    "He": {"initializer": "he_normal"},
}


def look(network: Network, state: TrainState, train: Arrays) -> jax.Array:
    """Effective rank of the last hidden layer."""
    images = train.take(jnp.arange(EXAMPLES), jnp.ones(EXAMPLES)).images
    return effective_rank(layer_inputs(network.module, {"params": state.params}, images)["head"])


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    ranks, accuracies = {}, {}
    for name, start in STARTS.items():
        config = Config(
            epochs=EPOCHS,
            data=DataConfig("digits", valid=0.4, select=0, test=0, scaling="unit"),
            model=ModelConfig("mlp", widths=(64, 64), **start),
            optimizer=OptimizerConfig("adam", 0.003),
        )
        measured, ranks[name] = lanes.follow(lanes.over_seeds(config, setting.seeds), look)
        accuracies[name] = measured["valid_accuracy"]
    findings = [
        Finding(f"units, {name}", "largest effective rank", ranks[name].max(1), "below", 1.5)
        for name in list(STARTS)[:3]
    ] + [
        Finding(
            f"accuracy, {name}",
            "accuracy − with He's",
            accuracies[name][:, -1] - accuracies["He"][:, -1],
            "below",
            -0.1,
        )
        for name in list(STARTS)[:2]
    ]
    return {"I1": Evidence(findings, lambda figure: draw(figure, ranks, accuracies), "digits")}


def draw(figure: Figure, ranks: dict[str, np.ndarray], accuracies: dict[str, np.ndarray]) -> None:
    """Rank and accuracy by epoch."""
    left, right = figure.subplots(1, 2)
    for number, name in enumerate(STARTS):
        figures.curve(left, range(EPOCHS + 1), ranks[name], name, number)
        figures.curve(right, range(1, EPOCHS + 1), accuracies[name], name, number)
    left.set(yscale="symlog", xlabel="epoch", ylabel="effective rank of 64 units")
    right.set(xlabel="epoch", ylabel="held-out accuracy", ylim=(0, 1))
    left.axhline(1, color="#888888", ls="--", lw=1)
    right.axhline(0.1, color="#888888", ls="--", lw=1)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)


if __name__ == "__main__":
    evidence.script()
