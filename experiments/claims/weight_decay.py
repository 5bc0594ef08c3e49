"""Is an L2 penalty weight decay, and does AdamW, which has the latter, beat Adam with the former?

P3. "L2 and weight decay are the same." Only for plain SGD (Loshchilov & Hutter 2019).
O3. "AdamW beats Adam (on this data)."

Question: do λ·Σw² in the loss and the decay 2λ make the same steps; which is tuned more easily; and
which ends better? Method: 200 full-batch steps of a small network in float64 with both, for SGD,
SGD with momentum and Adam: how far the weights are apart. And an MLP (64, 64) on 300 digits for 40
epochs with Adam, over a grid of learning rates and decays, both coupled (L2) and decoupled, where
the decay is per step and not multiplied by the rate, as the paper has it; at a constant rate that
is AdamW with a grid of its own. Both grids have the same number of settings, 4 × 5, and 1e-7 stands
for none. Accuracies are of 500 digits for selection and of the other 997 for the result; a setting
is chosen for a seed by the mean selection accuracy of the other seeds.
Figure: mean selection accuracy over both grids, with each rate's best decay; tuned accuracies.
Verdict: P3: the weights differ by at most 1e-6 of their change (SGD, momentum, Adam); keeping the
decay tuned for the rate 1e-3 at one 10 times higher costs as much accuracy with one as with the
other (± 1 point); the tuned accuracies are the same (± half a point).
O3: AdamW's tuned accuracy is more than half a point above Adam's, with L2 and without.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax import keys, optimizers, penalties, transforms
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {
    "P3": "L2 and weight decay are the same.",
    "O3": "AdamW beats Adam (on this data).",
}
TIMES = 2  # the seeds: with ten, other seeds had another verdict
RATES = [1e-3, 3e-3, 1e-2, 3e-2]
DECAYS = {
    "Adam with L2": [1e-7, 1e-5, 1e-4, 1e-3, 1e-2],
    "AdamW": [1e-7, 1e-5, 1e-4, 1e-3, 1e-2],
}
HOW = {"Adam with L2": "coupled", "AdamW": "independent"}
LOW, HIGH = 0, 2  # of the rates: 1e-3, and 10 times that
CONFIG = Config(
    epochs=40,
    data=DataConfig("digits", train=300, valid=0, select=500, test=997),
    model=ModelConfig("mlp", (64, 64)),
    optimizer=OptimizerConfig("adam"),
    stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
)
STEPS, STRENGTH = 200, 1e-3
HALF_A_POINT = 0.5
SAME = {
    "SGD": (partial(optimizers.sgd, 0.1), 0.1),
    "SGD with momentum": (partial(optimizers.sgd, 0.1, momentum=0.9), 0.1),
    "Adam": (partial(optimizers.adam, 0.01), 0.01),
}


def apart(seed: int) -> list[float]:
    """How far L2 and decay end from each other, by how far they went, for each of `SAME`."""
    rng = keys.host_stream(seed, "network")
    x, y = rng.normal(size=(64, 10)), rng.normal(size=(64, 1))
    start = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in ((10, 16), (16, 1))]
    return [float(distance) for distance in _apart(jnp.asarray(x), jnp.asarray(y), start)]


@jax.jit
def _apart(x: jax.Array, y: jax.Array, start: Any) -> list[jax.Array]:
    def loss(w: Any) -> jax.Array:
        return ((jnp.tanh(x @ w[0]) @ w[1] - y) ** 2).mean()

    def after(tx: optax.GradientTransformation) -> jax.Array:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            w, state = carry
            updates, state = tx.update(jax.grad(loss)(w), state, w)
            return (optax.apply_updates(w, updates), state), None

        (w, _), _ = jax.lax.scan(step, (start, tx.init(start)), length=STEPS)
        return jnp.concatenate([(a - b).ravel() for a, b in zip(w, start, strict=True)])

    distances = []
    for make, rate in SAME.values():
        l2 = after(optax.chain(transforms.add_penalty(penalties.l2, STRENGTH), make()))
        decayed = after(optax.chain(make(), transforms.decoupled_decay(2 * STRENGTH, rate)))
        distances.append(jnp.linalg.norm(l2 - decayed) / jnp.linalg.norm(l2))
    return distances


def grids(seeds: range) -> dict[str, dict[str, np.ndarray]]:
    """Accuracies in %, `(rates, decays, seeds)`, for selection and test, of each optimizer."""
    settings = [
        {"optimizer.learning_rate": rate, "optimizer.weight_decay": d, "optimizer.decay": HOW[name]}
        for name, decays in DECAYS.items()
        for rate in RATES
        for d in decays
    ]
    records = lanes.train(lanes.over_seeds(CONFIG, seeds, settings), ("select", "test"))
    shape = len(HOW), len(RATES), -1, len(seeds)
    parts = {
        split: 100 * lanes.column(records, f"{split}_accuracy").reshape(shape)
        for split in ("select", "test")
    }
    return {name: {split: of[i] for split, of in parts.items()} for i, name in enumerate(HOW)}


def tuned(grid: dict[str, np.ndarray], decays: slice = slice(None)) -> np.ndarray:
    """Test accuracy of the best setting, for each seed by the others."""
    select, test = (grid[split][:, decays] for split in ("select", "test"))
    seeds = select.shape[-1]
    return lanes.by_others(select.reshape(-1, seeds), test.reshape(-1, seeds))


def cost_of_keeping(grid: dict[str, np.ndarray]) -> np.ndarray:
    """Accuracy lost by the best decay of one rate at a higher one, against the best decay there."""
    kept = lanes.by_others(grid["select"][LOW], grid["test"][HIGH])
    return lanes.by_others(grid["select"][HIGH], grid["test"][HIGH]) - kept


def measure(setting: Setting) -> dict[str, Evidence]:
    """Compares the steps, and trains both grids."""
    with jax.enable_x64(True):
        distances = np.array([apart(seed) for seed in setting.seeds]).T
    found = grids(setting.seeds)
    l2, adamw = found["Adam with L2"], found["AdamW"]
    plain = tuned(l2, slice(1))
    gain = tuned(adamw) - tuned(l2)
    cost = cost_of_keeping(l2) - cost_of_keeping(adamw)
    what = "distance of the weights / their change"
    same = [
        Finding(name, what, distance, "below", 1e-6)
        for name, distance in zip(SAME, distances, strict=True)
    ]
    kept = "accuracy lost by keeping the decay at 10 times the rate, L2 − decoupled"
    same.append(Finding("Adam, ease of tuning", kept, cost, "within", 1.0, "points"))
    best = "tuned accuracy, AdamW − Adam with L2"
    same.append(Finding("Adam, tuned accuracy", best, gain, "within", HALF_A_POINT, "points"))
    without = "tuned accuracy, AdamW − Adam without decay"
    better = [
        Finding("against Adam with L2", best, gain, "above", HALF_A_POINT, "points"),
        Finding(
            "against Adam alone", without, tuned(adamw) - plain, "above", HALF_A_POINT, "points"
        ),
    ]
    accuracies = {"Adam": plain, **{name: tuned(grid) for name, grid in found.items()}}
    show, data = partial(draw, found=found, accuracies=accuracies), "300 digits"
    return {"P3": Evidence(same, show, data), "O3": Evidence(better, show, data)}


def draw(figure: Figure, found: dict[str, Any], accuracies: dict[str, np.ndarray]) -> None:
    """Both grids, and what is reached."""
    figure.set_size_inches(11, 3.6)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.2, 1.2, 1])
    means = {name: grid["select"].mean(-1) for name, grid in found.items()}
    rates = [f"{rate:g}" for rate in RATES]
    for axes, (name, mean) in zip((left, middle), means.items(), strict=True):
        decays = ["none", *(f"1e{np.log10(d):.0f}" for d in DECAYS[name][1:])]
        figures.grid(axes, mean, rates, decays, 8.0)
        axes.set(title=name, xlabel="decay" + " a step" * (name == "AdamW"), ylabel="learning rate")
    figure.colorbar(middle.images[0], ax=middle, label="selection accuracy / %")
    figures.bars(right, accuracies)
    right.set(xlabel="test accuracy / %", title="tuned")


if __name__ == "__main__":
    evidence.script()
