"""Hidden units: moments, zeros, saturation, the dead, the rank of what they say together.

`h` is `(..., U)`: the last axis is units (or channels), every other is examples, places or steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from regjax.dtypes import widen

Number = jax.Array | float


class Statistics(NamedTuple):
    """Of a layer's values: mean, standard deviation, share of exact zeros, smallest, largest."""

    mean: jax.Array
    std: jax.Array
    zeros: jax.Array
    smallest: jax.Array
    largest: jax.Array


def statistics(h: jax.Array) -> Statistics:
    """Returns the statistics of all values, in at least float32; `jax.vmap(..., -1)` by unit.

    >>> statistics(jnp.array([[0.0, 2.0], [0.0, 2.0]])).std
    Array(1., dtype=float32)
    """
    h = widen(h)
    return Statistics(h.mean(), h.std(), (h == 0).mean(), h.min(), h.max())


def saturation(
    h: jax.Array, low: Number = -1.0, high: Number = 1.0, margin: Number = 0.03
) -> jax.Array:
    """Share of the values near an end of the activation's range (Glorot & Bengio 2010).

    Args:
      h: `(..., U)`, after the activation.
      low, high: its range, by default that of tanh; an infinite end is never reached.
      margin: what is near; by default |tanh| ≥ .97. Of a sigmoid, whose range is half as wide, half
        of it is the same share.

    >>> saturation(jnp.array([[-0.99, 0.0], [0.5, 1.0]]))
    Array(0.5, dtype=float32)
    """
    h = widen(h)
    return ((h <= low + margin) | (h >= high - margin)).mean()


def dead_units(h: jax.Array, threshold: Number = 0.0) -> jax.Array:
    """Which units `(U,)` are never above the threshold: before or after a ReLU, those it cuts off.

    >>> dead_units(jnp.array([[-1.0, 0.0, 2.0], [-3.0, 0.0, -1.0]]))
    Array([ True,  True, False], dtype=bool)
    """
    return ~(h > threshold).any(axis=tuple(range(h.ndim - 1)))


def distinct_units(h: jax.Array, tolerance: Number = 0.0) -> jax.Array:
    """How many units differ, somewhere by more than the tolerance, from every unit before them.

    Units that start equal and are given equal gradients stay equal: one unit, many times.

    >>> distinct_units(jnp.array([[1.0, 1.0, 2.0], [3.0, 3.0, 4.0]]))
    Array(2, dtype=int32)
    """
    units = _matrix(h).T

    def is_new(number: jax.Array) -> jax.Array:
        gap = jnp.abs(units - jnp.take(units, number, axis=0)[None]).max(axis=1)
        return ~((gap <= tolerance) & (jnp.arange(len(units)) < number)).any()

    return jax.lax.map(is_new, jnp.arange(len(units))).sum(dtype=jnp.int32)


def numerical_rank(h: jax.Array, tolerance: Number | None = None) -> jax.Array:
    """How many singular values are above the tolerance times the largest.

    Args:
      h: `(..., U)`, as a matrix `(examples, U)`.
      tolerance: None is max(examples, U)·ε, as in `numpy.linalg.matrix_rank`.

    >>> numerical_rank(jnp.array([[1.0, 2.0], [2.0, 4.0]]))
    Array(1, dtype=int32)
    """
    matrix = _matrix(h)
    if tolerance is None:
        tolerance = max(matrix.shape) * float(jnp.finfo(matrix.dtype).eps)
    values = jnp.linalg.svd(matrix, compute_uv=False)
    return (values > tolerance * values[0]).sum(dtype=jnp.int32)


def effective_rank(h: jax.Array, centred: bool = False) -> jax.Array:
    """exp(−Σ pᵢ log pᵢ) with pᵢ = σᵢ / Σσ of the singular values (Roy & Vetterli 2007).

    From 1, if the units say one thing, to min(examples, U), if their singular values are the same;
    0 of zeros.

    Args:
      h: `(..., U)`, as a matrix `(examples, U)`.
      centred: without each unit's mean, which in units that are never negative is most of them.

    >>> effective_rank(jnp.diag(jnp.array([2.0, 2.0, 0.0]))).round(4)
    Array(2., dtype=float32)
    """
    matrix = _matrix(h)
    if centred:
        matrix = matrix - matrix.mean(axis=0, keepdims=True)
    values = jnp.linalg.svd(matrix, compute_uv=False)
    total = values.sum()
    shares = values / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, jnp.exp(jax.scipy.special.entr(shares).sum()), 0)


def _matrix(h: jax.Array) -> jax.Array:
    return widen(h).reshape(-1, h.shape[-1])
