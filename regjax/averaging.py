"""The averaged weights of a run, with statistics of their own, for evaluation."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from regjax.batch import Arrays
from regjax.config import Config
from regjax.models import OWN, build
from regjax.network import Network
from regjax.normalization import reparametrization
from regjax.spread import ALONE, Spread, is_real, weighted, weighted_mean

PyTree = Any
STATISTICS = "batch_stats"  # the collection of running statistics, in Flax's word


class Weights(NamedTuple):
    """What a network is evaluated with."""

    params: PyTree
    statistics: PyTree


def averaged(
    config: Config,
    network: Network,
    opt_state: PyTree,
    statistics: PyTree,
    train: Arrays | None,
    key: jax.Array,
    spread: Spread = ALONE,
) -> Weights:
    """Returns the average that the optimizer keeps, its batch statistics taken over `train`.

    Those of the weights on their way belong to other activations; Izmailov et al. (2018) pass once
    over the training set for the average's, `torch.optim.swa_utils.update_bn`. Here each batch
    counts by its size; there is no augmentation, and no dropout but what a network of your own has
    built in, as there. A batch is measured as inference will see what comes before: by the kernels
    that it uses, spectral norm's vectors not moving, and through batch renormalization as through
    batch norm, since the running statistics that would correct it are not the average's.

    Args:
      config: the run.
      network: its network.
      opt_state: with an `average`, of `transforms.ema` or `swa`.
      statistics: of the weights on their way.
      train: the training set; not needed where there are no batch statistics.
      key: random key, for a network of your own.
      spread: where a batch's examples are.
    """
    params = optax.tree.get(opt_state, "average")
    if STATISTICS not in statistics:
        return Weights(params, statistics)
    assert train is not None, "refused where data are streamed"
    rows = spread.rows(jnp.arange(len(train)), config.batch_size)
    measuring = _measuring(config, network, train.images.shape[1:])
    kernels, mask = network.config.kernels, network.config.kernels_mask
    used, fixed = reparametrization.effective(kernels, params, statistics, False, mask)

    def after(start: PyTree, batch: tuple[jax.Array, jax.Array]) -> PyTree:
        """The running statistics s after a batch, (1 − m)·s + m·b: b are the batch's."""
        images, mask = spread.place(train.take(*batch).images), batch[1]
        there = {**fixed, STATISTICS: start}
        _, moved = measuring.apply(used, there, images, train=True, mask=mask, key=key)
        return moved[STATISTICS]

    running = statistics[STATISTICS]
    if not config.model.name.startswith(OWN):  # of nothing m·b, without cancellation
        running = jax.tree.map(jnp.zeros_like, running)
    shares = _shares(config, running, partial(after, batch=jax.tree.map(lambda r: r[0], rows)))

    def add(total: PyTree, batch: tuple[jax.Array, jax.Array]) -> tuple[PyTree, None]:
        measured = jax.tree.map(_of_batch, running, after(running, batch), shares)
        return jax.tree.map(jnp.add, total, weighted(measured, batch[1].sum())), None

    zero = jax.tree.map(jnp.zeros_like, running)
    total, _ = lax.scan(add, zero, rows)
    count, parts = jnp.asarray(len(train), jnp.float32), len(rows[0]) * spread.parts
    mean = weighted_mean(spread.total(total), count, parts)
    return Weights(params, {**statistics, STATISTICS: mean})


def _measuring(config: Config, network: Network, shape: tuple[int, ...]) -> Network:
    """The network of kernels as they are used; its batch norms know a batch's statistics alone."""
    plain = network._replace(config=dataclasses.replace(network.config, kernels="plain"))
    if config.model.norm != "batch_renorm":
        return plain
    model = dataclasses.replace(config.model, norm="batch")
    return plain._replace(module=build(model, shape, network.classes))


def _shares(config: Config, running: PyTree, after: Callable[[PyTree], PyTree]) -> PyTree:
    """A batch's share m in each of the running statistics.

    A network of your own says it nowhere: there it is measured, by statistics so large that a
    batch's are nothing beside them. What is no such mean is what it is after the batch: m = 1.
    """
    if not config.model.name.startswith(OWN):
        return jax.tree.map(lambda _: config.model.norm_momentum, running)
    large = jax.tree.map(lambda s: jnp.full_like(s, 2**20), running)
    low, high = after(jax.tree.map(jnp.zeros_like, running)), after(large)

    def share(low: jax.Array, high: jax.Array, large: jax.Array) -> jax.Array:
        m = 1 - (high - low) / large
        return jnp.where(m > 0, m, 1)  # also where it is NaN

    return jax.tree.map(share, low, high, large)


def _of_batch(running: jax.Array, after: jax.Array, share: jax.Array | float) -> jax.Array:
    """A batch's statistics; a whole number, as a counter's, is what it is after the batch."""
    return running + (after - running) / share if is_real(running) else after
