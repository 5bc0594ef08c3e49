"""Do bias and variance trade off inversely with complexity?

B1. "Bias and variance trade off inversely with complexity": a larger model has less bias and more
variance, so that the error has a minimum between. Not a law (Neal et al. 2018; Belkin et al. 2019).

Method: MLPs of one hidden layer, 2 to 256 units wide, trained by Adam for 300 steps on all of 100
digits at once. For each seed 12 training sets and starts, drawn from the same half of the digits;
the other half is predicted. The squared error of the probabilities is divided into bias² and
variance, which sum to it exactly (the noise of labels counts as bias).
Figure: bias², variance and error along the width; and the error in classes. Verdict: along the
widths, bias² falls (Spearman's ρ within a seed), variance rises, and the error of the widest is
above that of the best.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from experiments import evidence, figures
from experiments.evidence import Evidence, Finding, Setting
from regjax import diagnostics, keys, losses, models
from regjax.config import ModelConfig
from regjax.data import digits

CLAIMS = {"B1": "Bias and variance trade off inversely with complexity."}
WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256)
SETS, EXAMPLES, STEPS, RATE = 12, 100, 300, 0.01
PARTS = ("bias", "variance", "error")


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a seed's training sets `(SETS, EXAMPLES)`, and of its test examples."""
    rng = keys.host_stream(seed, "sets")
    order = rng.permutation(len(digits.load().labels))
    pool, test = np.array_split(order, 2)
    return np.stack([rng.choice(pool, EXAMPLES, replace=False) for _ in range(SETS)]), test


def predictor(width: int) -> Any:
    """Returns `predict(x, y, inputs, key) -> (N, K)`, probabilities after training on x, y."""
    network = models.build(ModelConfig(widths=(width,)), (64,), 10)
    adam = optax.adam(RATE)

    def predict(x: jax.Array, y: jax.Array, inputs: jax.Array, key: jax.Array) -> jax.Array:
        def loss(params: Any) -> jax.Array:
            return losses.cross_entropy(network.apply({"params": params}, x), y).mean()

        def step(_: Any, now: Any) -> Any:
            params, state = now
            updates, state = adam.update(jax.grad(loss)(params), state)
            return optax.apply_updates(params, updates), state

        params = network.init(key, x)["params"]
        params, _ = lax.fori_loop(0, STEPS, step, (params, adam.init(params)))
        return jax.nn.softmax(network.apply({"params": params}, inputs))

    return predict


def decomposed(width: int, seeds: range) -> dict[str, np.ndarray]:
    """Bias², variance and error of a width, and its share of wrong classes, for each seed."""
    pool = digits.load()
    x = jnp.asarray(pool.images.reshape(len(pool.labels), -1) / 8 - 1, jnp.float32)
    y = jnp.asarray(pool.labels)
    of_sets = jax.jit(jax.vmap(predictor(width), in_axes=(0, 0, None, 0)))
    found = []
    for seed in seeds:
        train, test = drawn(seed)
        starts = jax.random.split(keys.stream(jax.random.key(seed), keys.INIT), SETS)
        predictions = of_sets(x[train], y[train], x[test], starts)
        squared = diagnostics.bias_variance(predictions, y[test])
        wrong = (predictions.argmax(axis=-1) != y[test][None]).mean()
        found.append([*(getattr(squared, part) for part in PARTS), wrong])
    return dict(zip((*PARTS, "wrong"), np.array(found, float).T, strict=True))


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    of_width = [decomposed(width, setting.seeds) for width in WIDTHS]
    found = {name: np.stack([one[name] for one in of_width], axis=1) for name in of_width[0]}
    best = found["error"].mean(axis=0).argmin()
    excess = found["error"][:, -1] - found["error"][:, best]
    ranks = "rank correlation with the width"
    findings = [
        Finding("variance rises", f"variance, {ranks}", trends(found["variance"])),
        Finding("bias falls", f"bias², {ranks}", trends(found["bias"]), "below"),
        Finding(
            "the error has a minimum between",
            f"squared error at width {WIDTHS[-1]} − at the best, {WIDTHS[best]}",
            excess,
        ),
    ]
    return {"B1": Evidence(findings, partial(draw, found=found), "100 digits, MLP")}


def trends(rows: np.ndarray) -> np.ndarray:
    """Spearman's ρ of each row with the widths."""
    return np.array([spearmanr(WIDTHS, row)[0] for row in rows])


def draw(figure: Figure, found: dict[str, np.ndarray]) -> None:
    """The parts of the squared error, and the share of wrong classes."""
    left, right = figure.subplots(1, 2)
    names = {"error": "error", "bias": "bias²", "variance": "variance"}
    for number, (part, name) in enumerate(names.items()):
        figures.curve(left, WIDTHS, found[part], name, number)
    figures.curve(right, WIDTHS, 100 * found["wrong"], "", 3)
    left.set(ylabel="squared error of probabilities", ylim=(0, None))
    right.set(ylabel="wrong classes, percent", ylim=(0, None))
    left.legend()
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
        axes.set(xlabel="hidden units")


if __name__ == "__main__":
    evidence.script()
