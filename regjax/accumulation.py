"""The gradient of a batch, taken at once or in micro-batches one after the other.

A micro-batch has its share of the whole batch's sums, as a device's part has (`regjax.spread`):
shares are by the whole batch's count, so they add up to its gradient however uneven they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from regjax import keys
from regjax.batch import Batch
from regjax.config import Config
from regjax.network import Network
from regjax.objective import Parts, make_example_terms, make_objective, make_weight_term
from regjax.spread import ALONE, Spread, weighted, weighted_mean
from regjax.strengths import Strengths

PyTree = Any
Gradient = Callable[[PyTree, Strengths, PyTree, Batch, jax.Array], tuple[PyTree, Parts]]


def make_gradient(config: Config, network: Network, spread: Spread = ALONE) -> Gradient:
    """Returns `gradient(params, strengths, statistics, batch, key) -> (grads, parts)`.

    Those of `make_objective` on the batch, of a batch in parts this part's share. With
    `config.accumulate` above 1 the examples are dealt out to that many micro-batches, so that the
    activations of one are in memory at a time; what looks at parameters alone is added once. What
    is random (dropout, the directions of the Jacobian penalty) is drawn anew for each, and norms by
    the batch see each by itself: all start from the step's running statistics, and the new ones are
    the mean of theirs by count.
    """
    if config.accumulate == 1:
        return jax.grad(make_objective(config, network, spread), has_aux=True)
    of_weights = jax.grad(make_weight_term(config, spread), has_aux=True)

    def gradient(
        params: PyTree, strengths: Strengths, statistics: PyTree, batch: Batch, key: jax.Array
    ) -> tuple[PyTree, Parts]:
        whole = spread._replace(count=spread.total(batch.mask.sum()))
        of_examples = jax.grad(make_example_terms(config, network, whole), has_aux=True)

        def share(numbered: tuple[jax.Array, Batch]) -> tuple[PyTree, Parts]:
            number, micro = numbered
            own = keys.stream(key, keys.MICRO, number)
            grads, parts = of_examples(params, strengths, statistics, spread.place(micro), own)
            return grads, parts._replace(statistics=weighted(parts.statistics, micro.mask.sum()))

        def add(total: PyTree, numbered: tuple[jax.Array, Batch]) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, share(numbered)), None

        numbered = jnp.arange(config.accumulate), dealt(batch, config.accumulate, spread)
        like = jax.eval_shape(share, jax.tree.map(lambda x: x[0], numbered))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        (grads, parts), _ = lax.scan(add, zero, numbered)
        added, penalty = of_weights(params, strengths)
        examples = jnp.maximum(batch.mask.sum(), 1)
        mean = weighted_mean(parts.statistics, examples, config.accumulate)
        parts = parts._replace(penalty=parts.penalty + penalty, statistics=mean)
        return jax.tree.map(jnp.add, grads, added), parts

    return gradient


def dealt(batch: Batch, count: int, spread: Spread = ALONE) -> Batch:
    """A batch `(N, ...)` as `count` micro-batches `(count, N / count, ...)`, row by row in turn.

    Like cards: so the examples of a short last batch are spread evenly, and under `jit` each device
    keeps the rows it has. Where the rows cannot be divided, padding is added.

    >>> rows = jnp.arange(4)
    >>> dealt(Batch(rows, rows, jnp.ones(4)), 2).images
    Array([[0, 2],
           [1, 3]], dtype=int32)
    """
    short = -len(batch.mask) % (count * (1 if spread.sharding is None else spread.parts))

    def deal(x: jax.Array, mode: str) -> jax.Array:
        rows = jnp.pad(x, ((0, short), *[(0, 0)] * (x.ndim - 1)), mode)
        return rows.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)

    # Padding repeats a row: what a network makes of an example of zeros may not be finite.
    micro = jax.tree.map(lambda x: deal(x, "edge"), batch)
    return micro._replace(mask=deal(batch.mask, "constant"))
