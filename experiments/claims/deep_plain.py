"""Should orthogonal initialization be kept out of feed-forward nets?

I5. "Orthogonal should not be used in feed-forward nets."

Question: what does an orthogonal start cost a plain feed-forward network, shallow or very deep?
Method: networks of 5 and 50 layers of 32 tanh units and of 50 of ReLU, without norm or residual
connections, 500 digits to train, 20 epochs of Adam in batches of 50 at three rates; from orthogonal
matrices (for ReLU times √2) and from the initializer of the activation's own, Xavier or He. The
rate that is best on the selection split, by the mean over the other seeds, is tested. Figure: test
accuracy by start, and of the deep networks against the rate. Verdict: in each network an orthogonal
start costs more than one point of accuracy. At full scale the deep ones have 200 layers.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.activations import ACTIVATIONS
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig
from regjax.initializers import Scheme, gain, scheme
from regjax.models.layers import Activation, dense

CLAIMS = {"I5": "Orthogonal should not be used in feed-forward nets."}
TIMES = 2  # the seeds: with ten, other seeds had another verdict
WIDTH = 32
DEPTHS = {"small": (5, 50), "full": (5, 200)}
RATES = (0.0003, 0.001, 0.003)
OWN = {"tanh": "xavier_normal", "relu": "he_normal"}
LABELS = {"xavier_normal": "Xavier", "he_normal": "He", "orthogonal": "orthogonal"}
POINT = 0.01


class Layer(nn.Module):
    """A hidden layer, as a step of a scan."""

    activation: Activation
    start: Scheme

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        """Returns its output."""
        return self.activation(dense(x, WIDTH, self.start, "dense")), None


class Plain(nn.Module):
    """Hidden layers one after the other, compiled as one."""

    classes: int
    activation: str
    start: str
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits."""
        activation = ACTIVATIONS[self.activation]
        scaled = self.start == "orthogonal" and self.activation == "relu"
        start = scheme(self.start, gain("relu") if scaled else 1.0)
        x = activation(dense(x.reshape(len(x), -1), WIDTH, start, "first"))
        layers = nn.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth - 1
        )
        x, _ = layers(activation, start, name="layers")(x, None)
        return dense(x, self.classes, start, "head")


def _network(*kind: Any) -> Callable[[tuple[int, ...], int], Plain]:
    def network(shape: tuple[int, ...], classes: int) -> Plain:
        del shape
        return Plain(classes, *kind)

    return network


for _kind in product(OWN, LABELS, {depth for scale in DEPTHS.values() for depth in scale}):
    globals()["_".join(map(str, _kind))] = _network(*_kind)  # what a config's `file:` names


def tested(name: str, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Test accuracy of each seed at the best rate, and at every rate `(rates, seeds)`."""
    config = Config(
        epochs=20,
        batch_size=50,
        data=DataConfig("digits", train=500, valid=200, select=200, test=897),
        model=ModelConfig(f"file:{__file__}:{name}"),
        optimizer=OptimizerConfig("adam"),
        stopping=StoppingConfig(patience=0),
    )
    settings = [{"optimizer.learning_rate": rate} for rate in RATES]
    return lanes.tuned(config, setting.seeds, settings)


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    shallow, deep = DEPTHS[setting.scale]
    best, every, findings = {}, {}, []
    for activation, depth in [("tanh", shallow), ("tanh", deep), ("relu", deep)]:
        name, own = (
            f"{depth} layers of {'ReLU' if activation == 'relu' else activation}",
            OWN[activation],
        )
        for start in ("orthogonal", own):
            label = f"{name}, {LABELS[start]}"
            best[label], every[label] = tested(f"{activation}_{start}_{depth}", setting)
        cost = best[f"{name}, orthogonal"] - best[label]
        what = f"test accuracy, orthogonal − {LABELS[own]}"
        findings.append(Finding(name, what, cost, "below", -POINT))
    return {"I5": Evidence(findings, lambda figure: draw(figure, best, every), "500 digits")}


def draw(figure: Figure, best: dict[str, np.ndarray], every: dict[str, np.ndarray]) -> None:
    """Accuracy at the best rate, and of the deep networks against the rate."""
    figure.set_size_inches(10, 3.8)
    left, right = figure.subplots(1, 2)
    figures.bars(left, best)
    for number, (name, of) in enumerate(every.items()):
        if number > 1:
            figures.curve(right, RATES, of.T, name, number)
    left.set(xlabel="test accuracy, each at its best rate")
    right.set(xscale="log", xlabel="learning rate of Adam", ylabel="test accuracy")
    right.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    right.minorticks_off()
    right.legend()


if __name__ == "__main__":
    evidence.script()
