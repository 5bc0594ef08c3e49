"""The averaged weights of a run, with statistics of their own, for evaluation."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from regjax.batch import Arrays
from regjax.config import Config
from regjax.models import OWN
from regjax.network import Network
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
    built in, as there.

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

    def after(start: PyTree, batch: tuple[jax.Array, jax.Array]) -> PyTree:
        """The running statistics s after a batch, (1 − m)·s + m·b: b are the batch's."""
        images, mask = spread.place(train.take(*batch).images), batch[1]
        there = {**statistics, STATISTICS: start}
        _, moved = network.apply(params, there, images, train=True, mask=mask, key=key)
        return moved[STATISTICS]

    running = statistics[STATISTICS]
    shares = _shares(config, running, partial(after, batch=jax.tree.map(lambda r: r[0], rows)))

    def add(total: PyTree, batch: tuple[jax.Array, jax.Array]) -> tuple[PyTree, None]:
        measured = jax.tree.map(_of_batch, running, after(running, batch), shares)
        return jax.tree.map(jnp.add, total, weighted(measured, batch[1].sum())), None

    zero = jax.tree.map(jnp.zeros_like, running)
    total, _ = lax.scan(add, zero, rows)
    count, parts = jnp.asarray(len(train), jnp.float32), len(rows[0]) * spread.parts
    mean = weighted_mean(spread.total(total), count, parts)
    return Weights(params, {**statistics, STATISTICS: mean})


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
