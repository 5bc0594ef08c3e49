"""Does Adagrad's learning rate die, and does RMSProp repair that?

O2. "Adagrad's rate dies; RMSProp repairs it." (Adagrad sums squared first gradients.)

Question: how large is a step for a gradient of the same size, and what does it learn late? Method:
an MLP (32) on 300 digits, 4,000 steps of batches of 32, with clean labels, whose gradients fade as
they are learned, and with a fifth of the labels drawn anew in each step, whose gradients never
fade. Then every class gets another's label, and 200 steps more are made. The effective rate is
‖step‖ / ‖gradient‖, its geometric mean over 200 steps. Five rates for each optimizer; a seed has
the one with the best mean accuracy of the other seeds before the change. Accuracy is of 1,000
others.
Figure: effective rate with both kinds of labels, and accuracy with noisy ones, over time, tuned.
Verdict: from steps 100 to 300 to the last 200 before the change the effective rate falls to less
than a third with Adagrad (noisy, clean), not so far with RMSProp (noisy, clean); 200 steps after
the change RMSProp has the higher accuracy (noisy).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax import keys, losses, models, optimizers

CLAIMS = {"O2": "Adagrad's rate dies; RMSProp repairs it."}
RATES = {
    "Adagrad": [0.003, 0.01, 0.03, 0.1, 0.3],
    "RMSProp": [0.0003, 0.001, 0.003, 0.01, 0.03],
}
MAKE = {"Adagrad": optimizers.adagrad, "RMSProp": optimizers.rmsprop}
NOISE = {"noisy labels": 0.2, "clean labels": 0.0}
STEPS, AFTER, BATCH, TRAIN = 4000, 200, 32, 300
PART = 100  # steps between looks
NETWORK = models.MLP(10, (32,))
BEFORE = STEPS // PART  # the look at the change
Numbers = dict[str, np.ndarray]


def task(seed: int) -> dict[str, Any]:
    """Data, and what is drawn in each step."""
    rng = keys.host_stream(seed, "task")
    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))[: TRAIN + 1000]
    steps = STEPS + AFTER, BATCH
    return {
        "x": (images[order] / 8 - 1).astype(np.float32),
        "y": labels[order].astype(np.int32),
        "batches": rng.integers(TRAIN, size=steps),
        "chance": rng.uniform(size=steps).astype(np.float32),
        "other": rng.integers(10, size=steps),
        "change": np.arange(STEPS + AFTER) >= STEPS,
    }


@partial(jax.jit, static_argnames="name")
@partial(jax.vmap, in_axes=(0, 0, None, None, None))  # seeds
@partial(jax.vmap, in_axes=(None, None, 0, None, None))  # rates
@partial(jax.vmap, in_axes=(None, None, None, 0, None))  # noise
def train(
    params: Any, given: dict[str, jax.Array], rate: jax.Array, noise: jax.Array, name: str
) -> tuple[jax.Array, jax.Array]:
    """Log of the effective rate and accuracy, of each `PART` of steps."""
    tx = MAKE[name](rate)

    def logits(params: Any, x: jax.Array) -> Any:
        return NETWORK.apply({"params": params}, x)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return losses.cross_entropy(logits(params, x), y).mean()

    def step(carry: Any, drawn: Any) -> tuple[Any, jax.Array]:
        params, state = carry
        rows, chance, other, change = drawn
        y = jnp.where(chance < noise, other, given["y"][rows] + change) % 10
        gradient = jax.grad(loss)(params, given["x"][rows], y)
        updates, state = tx.update(gradient, state)
        sizes = jnp.log(optax.tree.norm(updates) / (optax.tree.norm(gradient) + 1e-30) + 1e-30)
        return (optax.apply_updates(params, updates), state), sizes

    def part(carry: Any, drawn: Any) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        carry, sizes = jax.lax.scan(step, carry, drawn)
        said = jnp.argmax(logits(carry[0], given["x"][TRAIN:]), -1)
        right = said == (given["y"][TRAIN:] + drawn[-1][-1]) % 10
        return carry, (sizes.mean(), right.mean())

    drawn = tuple(given[key] for key in ("batches", "chance", "other", "change"))
    drawn = jax.tree.map(lambda a: a.reshape(-1, PART, *a.shape[1:]), drawn)
    return jax.lax.scan(part, (params, tx.init(params)), drawn)[1]


def tuned(seeds: range) -> dict[str, dict[str, Numbers]]:
    """Of each kind of labels and optimizer, log10 of the effective rate and accuracy in %, `(seeds,
    parts)`.
    """
    tasks = [task(seed) for seed in seeds]
    given = {key: np.stack([t[key] for t in tasks]) for key in tasks[0]}
    root = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    params = jax.jit(jax.vmap(lambda key: NETWORK.init(key, jnp.ones((1, 64)))["params"]))(root)
    found: dict[str, dict[str, Numbers]] = {kind: {} for kind in NOISE}
    for name, rates in RATES.items():
        noise = jnp.asarray(list(NOISE.values()))
        made = train(params, given, jnp.asarray(rates), noise, name)
        sizes, right = (np.array(part) for part in made)  # (seeds, rates, noise, parts)
        for i, kind in enumerate(NOISE):
            before = right[:, :, i, BEFORE - 1].T
            places = np.broadcast_to(np.arange(len(rates))[:, None], before.shape)
            chosen = np.arange(len(tasks)), lanes.by_others(before, places)
            found[kind][name] = {
                "rate": sizes[:, :, i][chosen] / np.log(10),
                "accuracy": 100 * right[:, :, i][chosen],
            }
    return found


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains with both optimizers on both kinds of labels."""
    found = tuned(setting.seeds)
    what = "log10 of the effective rate, steps 3,800 to 4,000 − steps 100 to 300"
    findings = []
    for name, claimed in {"Adagrad": "below", "RMSProp": "above"}.items():
        for kind, of in found.items():
            rate = of[name]["rate"]
            change = rate[:, BEFORE - 2 : BEFORE].mean(1) - rate[:, 1:3].mean(1)
            findings.append(Finding(f"{name}, {kind}", what, change, claimed, np.log10(1 / 3)))
    late = {name: of["accuracy"][:, -1] for name, of in found["noisy labels"].items()}
    gain = late["RMSProp"] - late["Adagrad"]
    after = "accuracy 200 steps after a change of the task, RMSProp − Adagrad"
    findings.append(Finding("learning late", after, gain, "above", 0.0, "points"))
    return {"O2": Evidence(findings, partial(draw, found=found), "300 digits")}


def draw(figure: Figure, found: dict[str, dict[str, Numbers]]) -> None:
    """Rates and accuracy over time."""
    figure.set_size_inches(10, 3.6)
    axes = figure.subplots(1, 3)
    time = PART * (np.arange((STEPS + AFTER) // PART) + 1)
    for i, name in enumerate(RATES):
        for panel, (kind, of) in zip(axes, found.items(), strict=False):
            figures.curve(panel, time[:BEFORE], of[name]["rate"][:, :BEFORE], name, i)
            panel.set(ylabel="log10 ‖step‖ / ‖gradient‖", xlabel="step", title=kind)
        figures.curve(axes[2], time, found["noisy labels"][name]["accuracy"], name, i)
    axes[0].legend()
    axes[2].axvline(STEPS, color="#888888", ls="--", lw=1)
    axes[2].set(ylabel="test accuracy / %", xlabel="step", title="a new task at step 4,000")
    axes[2].set_ylim(0, 100)


if __name__ == "__main__":
    evidence.script()
