"""A trained run looked at from inside: its best or refitted weights on one split.

Losses are the data loss, as evaluation has it. All but the outputs is measured on a few examples of
the split, drawn by the run's seed, in float32.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from regjax import diagnostics, keys, metrics, step, trees
from regjax.assembly import Assembled
from regjax.batch import Batch
from regjax.evaluate import best, is_refitted, predictions
from regjax.inspect import layers
from regjax.network import Network
from regjax.objective import example_losses
from regjax.state import RunState
from regjax.workdir import Workdir

PyTree = Any
EXAMPLES = 1024  # that layers, gradients and curvature are measured on
ALONE = 256  # whose own gradients are taken
RHO = 0.05  # of the ball, as in the paper
STEPS = (1, 10)  # of ascent
LANCZOS = 32  # steps, or as many as keep the vectors below
VECTORS = 2**28  # numbers
RATES = 2.0 ** np.arange(-4, 4.5, 0.5)  # along the gradient, in 1/λ₁: unstable from 2 on


class _Look(NamedTuple):
    """What is looked at.

    Attributes:
      parts, run: of the run.
      network: in float32.
      params, statistics: what is evaluated.
      batch: some examples of the split.
      depth: the layers with parameters, in order of depth.
    """

    parts: Assembled
    run: RunState
    network: Network
    params: PyTree
    statistics: PyTree
    batch: Batch
    depth: list[str]

    def loss(self, params: PyTree, images: jax.Array, labels: jax.Array) -> jax.Array:
        """The mean data loss of some examples."""
        outputs, _ = self.network.apply(params, self.statistics, images)
        return example_losses(self.parts.config, outputs, labels).mean()

    def whole(self, function: Callable[..., Any], *others: Any) -> Any:
        """A function of (loss, params, others) on all the examples, compiled."""

        def on(params: PyTree, batch: Batch, *others: Any) -> Any:
            return function(lambda p: self.loss(p, batch.images, batch.labels), params, *others)

        return jax.jit(on)(self.params, self.batch, *others)


def inspect(path: str | Path, split: str = "valid") -> dict[str, Any]:
    """Measures a trained run by `regjax.diagnostics`.

    Args:
      path: the run's folder.
      split: `train`, `valid`, `select` or `test`.

    Returns:
      `split`, `epoch`, `refit` as `evaluate` has them; `examples` of the split and how many
      `measured`; `loss` with its 95 % interval; `layers` by path in order of depth, with their
      units, weights, gradient and covariate shift; `first_to_last`; `sparsity`; `sharpness`;
      `smoothness`; but in regression `calibration`.

    Raises:
      InputError: what `evaluate` raises.
    """
    parts, run = best(path)
    refit = is_refitted(Workdir(path), parts.config)
    return {"split": split, "epoch": int(run.epoch), "refit": refit, **measure(parts, run, split)}


def measure(parts: Assembled, run: RunState, split: str) -> dict[str, Any]:
    """The numbers of `inspect`, of a run's parts and its state."""
    outputs, labels = predictions(parts, run, split)
    look = _look(parts, run, split)
    found: dict[str, Any] = {
        "examples": len(labels),
        "measured": len(look.batch.labels),
        "loss": _mean(example_losses(parts.config, jnp.asarray(outputs), jnp.asarray(labels))),
        **_inside(look),
    }
    if parts.config.data.task == "classification":
        found["calibration"] = _calibration(outputs, labels)
    return _numbers(found)


def _inside(look: _Look) -> dict[str, Any]:
    """What the examples that are looked at say of the network, as arrays."""
    curvature = _sharpness(look)
    smooth = _smoothness(look, curvature["top_eigenvalue"])
    return {**_layers(look), "sharpness": curvature, "smoothness": smooth}


def _numbers(found: Any) -> Any:
    """Arrays as numbers and lists, in dicts that keep their order."""
    if isinstance(found, dict):
        return {name: _numbers(x) for name, x in found.items()}
    return found if isinstance(found, str) else np.asarray(found).tolist()


def _look(parts: Assembled, run: RunState, split: str) -> _Look:
    config = dataclasses.replace(parts.network.config, precision="float32")
    network = parts.network._replace(config=config)
    params, statistics = run.train.evaluated()
    batch = _some(parts, split, min(EXAMPLES, parts.config.eval_batch_size * 4))
    given = jax.eval_shape(
        lambda *arguments: layers.seen(network, *arguments).given,
        *(params, statistics, batch.images),
    )
    depth = layers.owners(params, list(given))
    return _Look(parts, run, network, params, statistics, batch, depth)


def _some(parts: Assembled, split: str, count: int) -> Batch:
    """Examples of a split, drawn by the run's seed: as stored they may be sorted."""
    available = parts.data.splits[split]
    rng = keys.host_stream(parts.config.seed, "inspect")
    count = min(count, available.examples)
    positions = np.sort(rng.choice(available.examples, count, replace=False))
    arrays = parts.placed(*available.read(positions.tolist()))
    return arrays.take(jnp.arange(count), jnp.ones(count))


def _mean(values: jax.Array) -> dict[str, float]:
    """The mean of many examples with its 95 % interval, as of normal errors."""
    array = np.asarray(values, np.float64)
    error = array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else np.nan
    mean = float(array.mean())
    return {"mean": mean, "low": float(mean - 1.96 * error), "high": float(mean + 1.96 * error)}


def _layers(look: _Look) -> dict[str, Any]:
    units = layers.units(look.network, look.params, look.statistics, look.batch.images)
    gradients, ratio = _gradients(look)
    shift = _shift(look)
    kernels = diagnostics.sparsity_by_path(look.params)
    found = {}
    for name in look.depth:
        own = units.get(name) or units.get(f"{name}:0") or {}
        weights: dict[str, Any] = {"norm": optax.tree.norm(_under(look.params, name))}
        if zeros := kernels.get(f"{name}/kernel"):
            weights["zeros"] = zeros._asdict()
        found[name] = {
            **own,
            "weights": weights,
            "gradient": gradients[name],
            "covariate_shift": shift[name],
        }
    covered = "kernels" if kernels else "all"
    return {
        "layers": found,
        "first_to_last": ratio,
        "sparsity": diagnostics.sparsity(look.params, covered)._asdict(),
    }


def _under(tree: PyTree, layer: str) -> list[jax.Array]:
    """The leaves right under a path, or the leaf that it is."""
    return trees.select(tree, lambda name: name == layer or name.rpartition("/")[0] == layer)


def _gradients(look: _Look) -> tuple[dict[str, Any], Any]:
    """Of each layer the norm of the mean gradient, and of single examples' own."""
    norms = look.whole(lambda loss, params: diagnostics.gradient_norms(jax.grad(loss)(params)))
    ordered = diagnostics.gradient_norms(look.params, look.depth)  # for their order
    ratio = diagnostics.first_to_last({name: norms[name] for name in ordered})

    def one(params: PyTree, image: jax.Array, label: jax.Array) -> jax.Array:
        return look.loss(params, image[None], label[None])

    few = [x[:ALONE] for x in (look.batch.images, look.batch.labels)]
    own = jax.jit(lambda p, *few: diagnostics.example_gradient_norms(one, p, *few))(
        look.params, *few
    )

    def together(norms: Mapping[str, jax.Array], layer: str) -> jax.Array:
        """The norms of a layer's parts, as one."""
        names = [n for n in norms if n == layer or n.rpartition("/")[0] == layer]
        return jnp.linalg.norm(jnp.stack([norms[n] for n in names]), axis=0)

    found = {}
    for layer in look.depth:
        ends = jnp.array([0.05, 0.5, 0.95])
        low, median, high = jnp.nanquantile(together(own, layer), ends)
        single = {"median": median, "low": low, "high": high}
        found[layer] = {"norm": together(norms, layer), "examples": single}
    return found, ratio


def _shift(look: _Look) -> dict[str, Any]:
    """Covariate shift by the run's next update, on its batch, as training sees it."""
    parts, run = look.parts, look.run
    batch = _some(parts, "train", parts.config.batch_size)
    key = keys.stream(run.key, keys.DROPOUT, run.train.step)
    update = step.make_train_step(parts.general, parts.network)

    def measure(run: RunState, batch: Batch) -> dict[str, diagnostics.GradientShift]:
        after, _ = update(parts.strengths, run.train, batch, key)

        def loss(params: PyTree) -> jax.Array:
            state = run.train.statistics
            outputs, _ = look.network.apply(params, state, batch.images, train=True, key=key)
            return example_losses(parts.config, outputs, batch.labels).mean()

        return diagnostics.covariate_shift(loss, run.train.params, after.params, look.depth)

    return {
        name: {"distance": shift.distance / shift.norm, "cosine": shift.cosine}
        for name, shift in jax.jit(measure)(run, batch).items()
    }


def _sharpness(look: _Look) -> dict[str, Any]:
    steps = int(np.clip(VECTORS // trees.count(look.params), 2, LANCZOS))
    key = keys.stream(look.run.key, "inspect")
    values = look.whole(lambda loss, p: diagnostics.ritz_values(loss, p, key, steps))

    def ball(loss: Any, params: PyTree, steps: jax.Array) -> jax.Array:
        return jax.lax.map(lambda k: diagnostics.sam_sharpness(loss, params, RHO, k), steps)

    return {
        "top_eigenvalue": values[-1],
        "smallest_eigenvalue": values[0],
        "lanczos_steps": steps,
        "rho": RHO,
        "sam": {"steps": np.array(STEPS), "rise": look.whole(ball, jnp.array(STEPS))},
    }


def _smoothness(look: _Look, top: jax.Array) -> dict[str, Any]:
    """Along the gradient, at rates by what curvature allows; by themselves where that is none."""
    rates = jnp.asarray(RATES, jnp.float32) / jnp.where(top > 0, top, 1)
    start = look.whole(lambda loss, params: loss(params))
    along = look.whole(diagnostics.smoothness, rates)
    return {"start": start, "rates": rates, **along._asdict()}


def _calibration(outputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    logits, classes = jnp.asarray(outputs, jnp.float32), jnp.asarray(labels)
    found = diagnostics.calibration(jax.nn.softmax(logits), classes)
    # As a probability one of e⁻¹²⁰ is 0, and its −log infinite.
    likelihood = metrics.negative_log_likelihood(logits, classes).compute()
    found = found._replace(negative_log_likelihood=likelihood)
    bins = {name: np.asarray(x) for name, x in found.bins._asdict().items()}
    right = np.rint(np.nan_to_num(bins["accuracy"] * bins["count"])).astype(int)
    ends = [
        stats.binomtest(int(k), int(n)).proportion_ci(0.95, method="wilson") if n else (np.nan,) * 2
        for k, n in zip(right, bins["count"], strict=True)
    ]
    bins |= {"accuracy_low": np.array(ends)[:, 0], "accuracy_high": np.array(ends)[:, 1]}
    return {**found._asdict(), "bins": bins}
