"""Does momentum speed up, and does it damp oscillation?

O1. "Momentum speeds up and damps oscillation."

Question: how many steps to a target, and how far does the steepest coordinate travel on the way?
Method: the quadratic ½Σλw² of 20 coordinates with curvatures from 1 to 1,000, spread at random,
down to a millionth of its first value, by gradient descent without momentum and with 0.9, along 41
rates; in float64. How far the steepest coordinate travels, by its distance at the start: 1 is the
straight way, and more is oscillation. And an MLP (64, 64) on 300 digits to a training loss of 0.1,
in batches of 32 (at most 40 epochs) and of all 300 (at most 300), along 7 rates from 0.003 to 3. A
seed's best rate is that of the fewest updates.
Figure: steps and travel on the quadratic along the rate; updates on digits.
Verdict: at each one's best rate the updates without momentum are at least 1.2 times those with
(quadratic, digits in small batches, digits in one batch); the steepest coordinate travels less with
momentum at the plain descent's best rate, and at the limit of what it stands, 2 / (largest +
smallest curvature), the best rate by the books.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax import keys, optimizers
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {"O1": "Momentum speeds up and damps oscillation."}
MOMENTA = {"without momentum": 1e-9, "momentum 0.9": 0.9}  # 0 would be another program
CURVATURE, COORDINATES, STEPS, GOAL = 1000.0, 20, 10_000, 1e-6
LIMIT = 2 * CURVATURE / (CURVATURE + 1)
SCALED = np.sort([*np.geomspace(0.02, 4, 40), LIMIT])  # rates, times the largest curvature
FASTER = 1.2
RATES = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
BATCHES = {32: 40, 300: 300}  # epochs at most
TARGET = 0.1
CONFIG = Config(
    data=DataConfig("digits", train=300, valid=0, select=0, test=600),
    model=ModelConfig("mlp", (64, 64)),
    optimizer=OptimizerConfig("sgd"),
    stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, None, None))  # seeds
@partial(jax.vmap, in_axes=(None, None, None, 0))  # momenta
@partial(jax.vmap, in_axes=(None, None, 0, None))  # rates
def descend(
    curvatures: jax.Array, start: jax.Array, rate: jax.Array, momentum: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Steps to the goal, `STEPS` if it is not reached, and the steepest coordinate's travel."""
    tx = optimizers.sgd(rate, momentum)
    first = (curvatures * start**2).sum()

    def step(carry: Any, _: None) -> tuple[Any, None]:
        w, state, steps, travel, going = carry
        updates: Any
        updates, state = tx.update(curvatures * w, state)
        far = ~((curvatures * w**2).sum() <= GOAL * first)  # also where it is NaN
        going &= far
        travel = travel + jnp.where(going, jnp.abs(updates[-1]), 0)
        return (w + updates, state, steps + going, travel, going), None

    zero = jnp.zeros(())
    start_of = (start, tx.init(start), zero, zero, jnp.array(True))
    (_, _, steps, travel, _), _ = jax.lax.scan(step, start_of, length=STEPS)
    return steps, travel / jnp.abs(start[-1])


def quadratics(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """Steps and travel, `(seeds, momenta, rates)`."""
    curvatures, starts = [], []
    for seed in seeds:
        rng = keys.host_stream(seed, "quadratic")
        between = rng.uniform(size=COORDINATES - 2)
        curvatures.append(CURVATURE ** np.sort([0.0, *between, 1.0]))
        starts.append(rng.normal(size=COORDINATES))
    momenta = jnp.asarray(list(MOMENTA.values()))
    with jax.enable_x64(True):
        found = descend(np.array(curvatures), np.array(starts), SCALED / CURVATURE, momenta)
        steps, travel = (np.array(part) for part in found)
    return steps, travel


def digits(seeds: range, batch: int, epochs: int) -> np.ndarray:
    """Updates to the target at each one's best rate, `(momenta, seeds)`."""
    settings = [
        {"optimizer.momentum": momentum, "optimizer.learning_rate": rate}
        for momentum in MOMENTA.values()
        for rate in RATES
    ]
    settings = [{**s, "batch_size": batch, "epochs": epochs} for s in settings]
    records = lanes.train(lanes.over_seeds(CONFIG, seeds, settings), ())
    updates = np.array([_epochs_to_target(r["curves"]["train_loss"], epochs) for r in records])
    return updates.reshape(len(MOMENTA), len(RATES), -1).min(1) * -(-300 // batch)


def _epochs_to_target(losses: list[float], epochs: int) -> float:
    reached = [i for i, loss in enumerate(losses, 1) if loss <= TARGET]
    return reached[0] if reached else epochs


def measure(setting: Setting) -> dict[str, Evidence]:
    """Descends and trains."""
    steps, travel = quadratics(setting.seeds)
    trained = {batch: digits(setting.seeds, batch, most) for batch, most in BATCHES.items()}
    plain, fast = steps.min(-1).T
    what = "updates without momentum / with"
    findings = [Finding("quadratic, speed", what, plain / fast, "above", FASTER)]
    for batch, (without, with_) in trained.items():
        name = f"digits in batches of {batch}, speed"
        findings.append(Finding(name, what, without / with_, "above", FASTER))
    less = "travel of the steepest coordinate, with momentum / without"
    best, limit = steps[:, 0].argmin(-1), np.full(len(steps), SCALED.searchsorted(LIMIT))
    for name, at in {"the limit": limit, "the best rate": best}.items():
        without, with_ = np.take_along_axis(travel, at[:, None, None], -1)[..., 0].T
        name = f"oscillation, at {name}"
        findings.append(Finding(name, less, with_ / without, "below", 1.0))
    show = partial(draw, steps=steps, travel=travel, trained=trained)
    return {"O1": Evidence(findings, show, "quadratics; 300 digits")}


def draw(
    figure: Figure, steps: np.ndarray, travel: np.ndarray, trained: dict[int, np.ndarray]
) -> None:
    """The quadratic along the rate, and digits."""
    figure.set_size_inches(10, 3.6)
    left, middle, right = figure.subplots(1, 3)
    for i, name in enumerate(MOMENTA):
        reached = np.where(steps[:, i] < STEPS, steps[:, i], np.nan)
        shown = np.isfinite(reached).all(0)
        figures.curve(left, SCALED[shown], reached[:, shown], name, i)
        figures.curve(middle, SCALED[shown], travel[:, i, shown], name, i)
    what = "learning rate · largest curvature"
    left.set(xscale="log", yscale="log", xlabel=what, ylabel="steps to the goal")
    middle.set(
        xscale="log", yscale="log", xlabel=what, ylabel="travel of the steepest / its distance"
    )
    left.legend()
    rows = {
        f"{name}\nbatches of {batch}": updates
        for batch, pair in trained.items()
        for name, updates in zip(MOMENTA, pair, strict=True)
    }
    figures.bars(right, rows)
    right.set(xlabel="updates to a training loss of 0.1", title="digits", xlim=(0, None))
    for axes in (left, middle):
        axes.minorticks_off()


if __name__ == "__main__":
    evidence.script()
