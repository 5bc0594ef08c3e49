"""Do ReLU units die, and Leaky ReLU's not?

A2. "ReLU units die; Leaky ReLU's do not."

Question: how many hidden units get no gradient any more, by learning rate? Method: an MLP of two
layers of 64 units on digits, from He's initializer, 20 epochs of Adam at rates from .001 to .1. A
unit is dead if the gradient of its incoming weights is exactly 0 over all training examples; also
counted are those never above 0, which with Leaky ReLU still learn, at a hundredth of the pace. Some
are so at the start: died is the share at the end less that at the start.
Figure: the shares at the end against the learning rate; and through training at .03.
Verdict: at a small (.001), a moderate (.01) and a large rate (.1) more than a unit in twenty of
ReLU dies; of Leaky ReLU at the large rate less than one in twenty, in both senses.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.batch import Arrays
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig
from regjax.diagnostics import dead_units, layer_inputs
from regjax.losses import cross_entropy
from regjax.network import Network
from regjax.state import TrainState

CLAIMS = {"A2": "ReLU units die; Leaky ReLU's do not."}
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
NAMES = {"relu": "ReLU", "leaky_relu": "Leaky ReLU"}
COMMON = 0.05
EPOCHS = 20


def look(network: Network, state: TrainState, train: Arrays) -> tuple[jax.Array, jax.Array]:
    """Shares of units without gradient, and of those never above 0."""
    batch = train.take(jnp.arange(len(train)), jnp.ones(len(train)))

    def loss(params: dict) -> jax.Array:
        return cross_entropy(network.apply(params, {}, batch.images)[0], batch.labels).mean()

    grads = jax.grad(loss)(state.params)
    still = [(grads[name]["kernel"] == 0).all(axis=0) for name in ("dense_0", "dense_1")]
    given = layer_inputs(network.module, {"params": state.params}, batch.images)
    never = [dead_units(given[name]) for name in ("dense_1", "head")]
    return jnp.concatenate(still).mean(), jnp.concatenate(never).mean()


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    shares = {}
    for activation, name in NAMES.items():
        config = Config(
            epochs=EPOCHS,
            data=DataConfig("digits", valid=0.2, select=0, test=0),
            model=ModelConfig(
                "mlp", widths=(64, 64), activation=activation, initializer="he_normal"
            ),
            optimizer=OptimizerConfig("adam"),
        )
        settings = [{"optimizer.learning_rate": rate} for rate in RATES]
        _, seen = lanes.follow(lanes.over_seeds(config, setting.seeds, settings), look)
        shape = (len(RATES), len(setting.seeds), EPOCHS + 1)
        for what, values in zip(("dead", "never above 0"), seen, strict=True):
            shares[name, what] = values.reshape(shape)

    def finding(name: str, what: str, rate: float, claimed: str) -> Finding:
        of = shares[name, what][RATES.index(rate)]
        said = f"share of units {what}, end − start"
        return Finding(
            f"{name}, rate {rate:g}, {what}", said, of[:, -1] - of[:, 0], claimed, COMMON
        )

    findings = [
        finding("ReLU", "dead", 0.1, "above"),
        finding("ReLU", "dead", 0.01, "above"),
        finding("ReLU", "dead", 0.001, "above"),
        finding("Leaky ReLU", "dead", 0.1, "below"),
        finding("Leaky ReLU", "never above 0", 0.1, "below"),
    ]
    return {"A2": Evidence(findings, lambda figure: draw(figure, shares), "digits")}


def draw(figure: Figure, shares: dict[tuple[str, str], np.ndarray]) -> None:
    """Shares against the rate, and through training."""
    left, right = figure.subplots(1, 2, sharey=True)
    for number, ((name, what), values) in enumerate(shares.items()):
        figures.curve(left, RATES, values[..., -1].T, f"{name}, {what}", number)
        figures.curve(right, range(EPOCHS + 1), values[RATES.index(0.03)], name, number)
    left.set(xscale="log", xlabel="learning rate of Adam", ylabel="share of hidden units")
    right.set(xlabel="epoch, learning rate .03")
    left.legend()


if __name__ == "__main__":
    evidence.script()
