"""Averages of the weights along the way, kept beside them; last in a chain.

The updates pass unchanged. The average is `average` in the state, in at least float32:
`optax.tree.get(opt_state, "average")` finds it in a chain. Evaluate with it; batch statistics are
to be taken anew for it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from regjax.dtypes import wide
from regjax.transforms.common import check_given

PyTree = Any
Number = jax.Array | float


class AverageState(NamedTuple):
    """The average, updates seen, and how many weights are in it."""

    count: jax.Array
    averaged: jax.Array
    average: PyTree


def _averaging(weight: Any, counts: Any) -> optax.GradientTransformation:
    """Keeps average + weight(n) · (w − average), n weights averaged, where counts(t) is true.

    With none in it yet, the average is w.
    """

    def init(params: PyTree) -> AverageState:
        zero = jnp.zeros((), jnp.int32)
        # Half precision would round each small step away.
        average = jax.tree.map(lambda w: jnp.array(w, wide(jnp.asarray(w).dtype)), params)
        return AverageState(zero, zero, average)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> Any:
        check_given(params, "an average")
        counted, n = counts(state.count), state.averaged

        def move(a: jax.Array, w: jax.Array) -> jax.Array:
            share = jnp.where(counted, weight(n.astype(a.dtype)), 0)
            share = jnp.where(n == 0, 1, share).astype(a.dtype)
            # Not a + share·(w − a): with a share of 1 the average is to be w exactly.
            return (1 - share) * a + share * w

        average = jax.tree.map(move, state.average, optax.apply_updates(params, updates))
        averaged = n + jnp.where(counted, 1, 0)
        return updates, AverageState(state.count + 1, averaged, average)

    return optax.GradientTransformation(init, update)


def ema(decay: Number) -> optax.GradientTransformation:
    """Exponential average a ← d·a + (1 − d)·w after each update.

    The first weights are taken whole, as in `torch.optim.swa_utils.get_ema_multi_avg_fn`. (Polyak
    and Juditsky, 1992, average all alike, as `swa` does.)

    >>> tx = ema(0.75)
    >>> w = jnp.array([0.0])
    >>> state = tx.init(w)
    >>> for _ in range(2):
    ...     updates, state = tx.update(jnp.array([4.0]), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> state.average
    Array([5.], dtype=float32)
    """
    return _averaging(lambda n: 1 - jnp.asarray(decay), lambda t: True)


def swa(start: int | jax.Array = 0, every: int | jax.Array = 1) -> optax.GradientTransformation:
    """Stochastic weight averaging, Izmailov et al. (2018): the plain mean of the weights visited.

    `torch.optim.swa_utils.AveragedModel`, updated after the updates number start + 1,
    start + 1 + every, ...; until then the average is the weights themselves (there: the first ones,
    by which a run would be judged, and stopped, before it is averaged).

    Args:
      start: updates before the first that counts.
      every: take one weight of so many updates, such as those of an epoch.

    >>> tx = swa(start=1)
    >>> w = jnp.array([0.0])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jnp.array([2.0]), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> state.average
    Array([5.], dtype=float32)
    """
    return _averaging(lambda n: 1 / (n + 1), lambda t: (t >= start) & ((t - start) % every == 0))
