"""Does a penalty set weights exactly to zero?

P1. "L1 sets weights exactly to zero." Not by the gradient of its term, but by a proximal step.
P2. "L2 shrinks weights and never to zero."

Question: how many weights are exactly 0 after training, and what does it cost? Method: an MLP
(64, 64) on 500 digits, plain SGD for 100 epochs, so that L1 in the loss and as a proximal step have
the same minima: λ·Σ|w| over the kernels in the loss, the same λ as a proximal step after each
update, and λ·Σw² in the loss, for λ from 0 to 3e-3; the weights are those of the epoch with the
least training loss. And the lasso on scikit-learn's diabetes data, a random half of the rows each
seed, where the exact solution is known: by proximal steps (`solvers.fista`), and by 20,000 steps
along the gradient of the same objective with Adam, whose rate falls to 0; both in float64.
Figure: share of zeros, accuracy, and the norm of the weights along λ; bands are 95 % intervals.
Verdict: P1: at λ = 1e-3 more than 1 % of the network's weights are exactly zero (a proximal step,
the loss term); of the coefficients that are 0 in scikit-learn's lasso more than half are (both);
the proximal solution differs from scikit-learn's by at most 1e-6 of the largest coefficient.
P2: at λ = 1e-3 and 3e-3 the norm is less than 0.9 of that without, and not one weight is zero.
"""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax import keys, penalties, solvers, trees
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {
    "P1": "L1 sets weights exactly to zero.",
    "P2": "L2 shrinks weights and never to zero.",
}
STRENGTHS = [0.0, 1e-4, 3e-4, 1e-3, 3e-3]
AT, STRONG = STRENGTHS.index(1e-3), STRENGTHS.index(3e-3)
ARMS = {
    "L1, proximal step": {"penalty.name": "l1", "penalty.mode": "proximal"},
    "L1 in the loss": {"penalty.name": "l1"},
    "L2 in the loss": {"penalty.name": "l2"},
}
CONFIG = Config(
    epochs=100,
    data=DataConfig("digits", train=500, valid=0, select=0, test=800),
    model=ModelConfig("mlp", (64, 64)),
    optimizer=OptimizerConfig("sgd", 0.1),
    stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
)
STEPS = 20_000
Numbers = dict[str, np.ndarray]


def networks(seeds: range) -> dict[str, Numbers]:
    """For each arm shares of zeros, accuracies and norms, `(strengths, seeds)`."""
    settings = [{**arm, "penalty.strength": s} for arm in ARMS.values() for s in STRENGTHS]
    runs = lanes.over_seeds(CONFIG, seeds, settings)
    records = lanes.train(runs, ("test",), weights=True)
    shape = len(ARMS), len(STRENGTHS), len(seeds)
    weights = [_weights(record) for record in records]
    numbers = {
        "zeros": np.array([(w == 0).mean() for w in weights]).reshape(shape),
        "norm": np.array([np.linalg.norm(w) for w in weights]).reshape(shape),
        "accuracy": 100 * lanes.column(records, "test_accuracy").reshape(shape),
    }
    return {arm: {k: v[i] for k, v in numbers.items()} for i, arm in enumerate(ARMS)}


def _weights(record: Any) -> np.ndarray:
    """All values of a run's kernels."""
    kernels = trees.select(record["weights"].evaluated().params, "kernels")
    return np.concatenate([np.ravel(kernel) for kernel in kernels])


@jax.jit
def lassos(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Coefficients by proximal steps and by the gradient; x and y are centered."""

    def loss(w: jax.Array) -> jax.Array:
        return ((y - x @ w) ** 2).mean() / 2

    start = jnp.zeros(x.shape[1])
    options = {"max_iterations": 10_000, "tolerance": 1e-12}
    exact = solvers.fista(loss, penalties.prox_l1, start, 1.0, **options).params
    tx = optax.adam(optax.cosine_decay_schedule(10.0, STEPS))
    gradient = jax.grad(lambda w: loss(w) + penalties.l1(w))

    def step(carry: Any, _: None) -> tuple[Any, None]:
        w, state = carry
        updates, state = tx.update(gradient(w), state)
        return (optax.apply_updates(w, updates), state), None

    (descended, _), _ = jax.lax.scan(step, (start, tx.init(start)), length=STEPS)
    return exact, descended


def linear(seeds: range) -> Numbers:
    """Of each seed: what is found of the lasso's zeros, and how far the solution is off."""
    found = []
    data: Any = load_diabetes()
    with jax.enable_x64(True):
        for seed in seeds:
            x, y = data["data"], data["target"]
            half = keys.host_stream(seed, "half").permutation(len(y))[: len(y) // 2]
            x, y = x[half] - x[half].mean(0), y[half] - y[half].mean()
            known = Lasso(1.0, fit_intercept=False, tol=1e-14, max_iter=1_000_000).fit(x, y).coef_
            exact, descended = (np.array(w) for w in lassos(jnp.asarray(x), jnp.asarray(y)))
            zero = np.equal(known, 0)
            off = abs(exact - known).max() / abs(known).max()
            shares = [np.mean(w[zero] == 0) for w in (exact, descended)]
            found.append((*shares, off))
    return dict(zip(("proximal", "descended", "off"), np.array(found).T, strict=True))


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains all arms at every strength, and solves the lassos."""
    arms, lasso = networks(setting.seeds), linear(setting.seeds)
    proximal, in_loss, l2 = arms.values()
    share, of_known = "share of weights that are exactly 0", "share of scikit-learn's zeros found"
    one = 1 / _count()
    l1 = [
        Finding("network, proximal step", share, proximal["zeros"][AT], "above", 0.01),
        Finding("network, in the loss", share, in_loss["zeros"][AT], "above", 0.01),
        Finding("lasso, proximal step", of_known, lasso["proximal"], "above", 0.5),
        Finding("lasso, in the loss", of_known, lasso["descended"], "above", 0.5),
        Finding(
            "lasso, value", "largest difference from scikit-learn", lasso["off"], "below", 1e-6
        ),
    ]
    ratio, p2 = l2["norm"] / l2["norm"][:1], []
    for at in (AT, STRONG):
        name = f"λ = {STRENGTHS[at]:g}"
        what = "norm of the weights / without a penalty"
        p2.append(Finding(f"shrinks, {name}", what, ratio[at], "below", 0.9))
        p2.append(Finding(f"no zeros, {name}", share, l2["zeros"][at], "below", one))
    show = partial(draw, arms=arms)
    data = "500 digits"
    return {"P1": Evidence(l1, show, f"{data}; diabetes"), "P2": Evidence(p2, show, data)}


def _count() -> int:
    """Weights of the network's kernels."""
    sizes = [64, *CONFIG.model.widths, 10]
    return sum(a * b for a, b in itertools.pairwise(sizes))


def draw(figure: Figure, arms: dict[str, Numbers]) -> None:
    """Along λ: zeros, accuracy, norm."""
    places = np.where(np.array(STRENGTHS) > 0, STRENGTHS, STRENGTHS[1] / 3)
    labels = {
        "zeros": "share of weights exactly 0",
        "accuracy": "test accuracy / %",
        "norm": "norm of the weights",
    }
    for axes, (name, label) in zip(figure.subplots(1, 3), labels.items(), strict=True):
        for i, (arm, of) in enumerate(arms.items()):
            figures.curve(axes, places, of[name].T, arm, i)
        axes.set(xscale="log", xlabel="λ", ylabel=label)
        axes.set_xticks(places[[0, 1, 3]], ["0", "1e-4", "1e-3"])
        axes.minorticks_off()
    figure.axes[1].set_ylim(90, 100)
    figure.axes[1].legend()


if __name__ == "__main__":
    evidence.script()
