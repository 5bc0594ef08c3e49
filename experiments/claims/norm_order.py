"""Does a norm belong before the activation?

N5. "Normalization goes before the activation."

Question: is dense → norm → activation better than dense → activation → norm? Method: MLPs of three
layers of 64 units on digits, 500 to train, batch or layer norm, ReLU or sigmoid, 20 epochs of Adam
at three rates; of each network the rate that is best on the selection split, by the mean over the
other seeds, is tested. Figure: test accuracy of both orders. Verdict: before is better than after
by more than one point, with each norm and each activation; where that fails, the order is a
convention.
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
from regjax.initializers import SCHEMES
from regjax.models.layers import dense
from regjax.normalization import BatchNorm, LayerNorm

CLAIMS = {"N5": "Normalization goes before the activation."}
NORMS = {"batch": BatchNorm, "layer": LayerNorm}
RATES = (0.001, 0.003, 0.01)
NETWORKS = list(product(NORMS, ("relu", "sigmoid")))
POINT = 0.01


class Net(nn.Module):
    """Three dense layers with the norm before or after the activation."""

    classes: int
    norm: str
    activation: str
    order: str

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits."""
        activation = ACTIVATIONS[self.activation]
        scheme = SCHEMES["he_normal" if self.activation == "relu" else "xavier_normal"]
        x = x.reshape(len(x), -1)
        for i in range(3):
            x = dense(x, 64, scheme, f"dense_{i}")
            x = x if self.order == "before" else activation(x)
            x = NORMS[self.norm](name=f"norm_{i}")(x, train=train, mask=mask)
            x = activation(x) if self.order == "before" else x
        return dense(x, self.classes, scheme, "head")


def _network(*kind: Any) -> Callable[[tuple[int, ...], int], Net]:
    def network(shape: tuple[int, ...], classes: int) -> Net:
        del shape
        return Net(classes, *kind)

    return network


for _kind in product(NORMS, ("relu", "sigmoid"), ("before", "after")):
    globals()["_".join(_kind)] = _network(*_kind)  # what a config's `file:` names


def tested(name: str, setting: Setting) -> np.ndarray:
    """Test accuracy of each seed, at the rate that is best on the selection split."""
    config = Config(
        epochs=20,
        data=DataConfig("digits", train=500, valid=200, select=200, test=897),
        model=ModelConfig(f"file:{__file__}:{name}"),
        optimizer=OptimizerConfig("adam"),
        stopping=StoppingConfig(patience=0),
    )
    settings = [{"optimizer.learning_rate": rate} for rate in RATES]
    return lanes.tuned(config, setting.seeds, settings)[0]


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    found, findings = {}, []
    for norm, activation in NETWORKS:
        name = f"{norm} norm, {'ReLU' if activation == 'relu' else activation}"
        of = [tested(f"{norm}_{activation}_{order}", setting) for order in ("before", "after")]
        found |= {f"{name}, before": of[0], f"{name}, after": of[1]}
        findings.append(
            Finding(name, "test accuracy, before − after", of[0] - of[1], "above", POINT)
        )
    return {"N5": Evidence(findings, lambda figure: draw(figure, found), "500 digits")}


def draw(figure: Figure, found: dict[str, np.ndarray]) -> None:
    """Accuracy of each order."""
    axes = figure.subplots()
    figures.bars(axes, found)
    axes.set(xlabel="test accuracy")


if __name__ == "__main__":
    evidence.script()
