"""The two pure functions that every norm is made of, `statistics` and `normalize`."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from regjax.compiling import in_blocks
from regjax.dtypes import widen

FEW = 8  # places that are summed as they are

Number = jax.Array | float
# Takes `(N, H, W, ...)` to fewer places, each with one of its values by their order: max pooling.
Pool = Callable[[jax.Array], jax.Array]


class Statistics(NamedTuple):
    """Mean and biased variance, broadcastable against the input, and the values in each mean."""

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


def statistics(
    x: jax.Array,
    axes: Sequence[int],
    mask: jax.Array | None = None,
    axis_name: str | None = None,
) -> Statistics:
    """Mean μ = Σx / m and biased variance Σ(x − μ)² / m over `axes`.

    Args:
      x: `(N, ..., C)`, floating.
      axes: the axes to reduce; kept with size 1.
      mask: `(N,)` of 0 and 1; rows with 0 are padding and do not count. None: all count.
      axis_name: a mapped axis (of `vmap`, `pmap`, `shard_map`) to reduce over as well. Sums and
        counts are added up, not means averaged, so uneven masks are exact.

    Returns:
      Statistics in at least float32; m is 0 where no row counts, the rest then 0.

    Raises:
      TypeError: whole numbers, as which what is normalized would be cut off.

    >>> statistics(jnp.array([[1.0], [3.0]]), axes=(0,)).variance
    Array([[1.]], dtype=float32)
    """
    axes = tuple(axis % x.ndim for axis in axes)
    x = widened(x)
    count = jnp.asarray(math.prod(x.shape[axis] for axis in axes), x.dtype)
    if mask is not None:
        rows = counted_rows(mask, x.ndim)
        count = rows.sum().astype(x.dtype) * (count / x.shape[0])
    if axis_name is not None:
        count = lax.psum(count, axis_name)

    def mean(values: jax.Array) -> jax.Array:
        summed = total(values, [axis for axis in axes if axis > 0])  # of each row by itself
        if mask is not None:
            summed = jnp.where(rows, summed, 0)
        if 0 in axes:
            summed = total(summed, [0])
        if axis_name is not None:
            summed = lax.psum(summed, axis_name)
        return summed / jnp.maximum(count, 1)

    mu = mean(x)
    return Statistics(mu, mean(jnp.square(x - mu)), count)


def widened(x: jax.Array) -> jax.Array:
    """The input in the dtype to compute in.

    >>> widened(jnp.ones(2, jnp.bfloat16)).dtype
    dtype('float32')
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"a norm needs floating numbers, got {x.dtype}; convert them")
    return widen(x)


def counted_rows(mask: jax.Array, ndim: int) -> jax.Array:
    """A mask `(N,)` as booleans `(N, 1, ...)`.

    >>> counted_rows(jnp.array([1.0, 0.0]), 2).tolist()
    [[True], [False]]
    """
    return jnp.reshape(mask, (-1,) + (1,) * (ndim - 1)) > 0


def written_out(x: jax.Array, axis: int) -> jax.Array:
    """The sum over an axis, kept with size 1; of few as so many terms.

    >>> written_out(jnp.array([[1.0, 2.0]]), 1)
    Array([[3.]], dtype=float32)
    """
    size = x.shape[axis]
    if not 1 <= size <= 4:
        return x.sum(axis, keepdims=True)
    # XLA would add up this axis and the next as one, in one row.
    return reduce(jnp.add, [lax.slice_in_dim(x, i, i + 1, axis=axis) for i in range(size)])


def total(
    x: jax.Array, axes: Sequence[int], add: Callable[[jax.Array, int], jax.Array] = written_out
) -> jax.Array:
    """The sum over `axes`, kept with size 1; on a CPU `add` sums over one of them.

    On a CPU an axis at a time, places in blocks, as each sum adds one number after the other: in
    float32 the rounding of n of them grows with n. The first axis comes last: of a batch that
    devices divide, little is left for them to add up.

    >>> total(jnp.array([[1.0, 2.0], [3.0, 4.0]]), axes=(0,)).tolist()
    [[4.0, 6.0]]
    """
    if jax.default_backend() != "cpu":
        return x.sum(tuple(axes), keepdims=True)
    for axis in sorted(axes, key=lambda axis: (axis == 0, axis)):
        of_places = 0 < axis < x.ndim - 1 and x.shape[axis] >= FEW
        x = add(in_blocks(x, axis) if of_places else x, axis)
    return x


def normalize(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    epsilon: Number = 1e-5,
) -> jax.Array:
    """(x − μ) / √(σ² + ε) · scale + bias, in the dtype of `x`.

    Args:
      x: `(N, ..., C)`.
      mean, variance: broadcastable against `x`.
      scale, bias: `(C,)` or None.
      epsilon: ε inside the root.

    >>> normalize(jnp.array([[1.0], [3.0]]), jnp.array([[2.0]]), jnp.array([[1.0]]), epsilon=0.0)
    Array([[-1.],
           [ 1.]], dtype=float32)
    """
    scale, bias = (None if p is None else per_channel(p, x.ndim) for p in (scale, bias))
    return affine(x, mean, variance, scale, bias, epsilon)


def affine(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    epsilon: Number,
) -> jax.Array:
    """`normalize` with a scale and bias of any shape that broadcasts against x.

    >>> affine(jnp.ones((1, 1)), jnp.zeros((1, 1)), jnp.ones((1, 1)), None, jnp.ones((1, 1)), 0.0)
    Array([[2.]], dtype=float32)
    """
    factor = lax.rsqrt(variance + epsilon)
    y = (x.astype(mean.dtype) - mean) * (factor if scale is None else factor * scale)
    return (y if bias is None else y + bias).astype(x.dtype)


def picked(x: jax.Array, pool: Pool | None) -> jax.Array:
    """What `pool` makes of x, with None x itself.

    >>> picked(jnp.array([[1.0, 3.0]]), lambda x: x.max(1))
    Array([3.], dtype=float32)
    """
    return x if pool is None else pool(x)


def per_channel(values: jax.Array, ndim: int) -> jax.Array:
    """Returns `(C,)` values in a shape that broadcasts against `(N, ..., C)`.

    >>> per_channel(jnp.ones(3), 4).shape
    (1, 1, 1, 3)
    """
    return values.reshape((1,) * (ndim - 1) + (-1,))


def unbiased(stats: Statistics) -> jax.Array:
    """The variance times m / (m − 1); with m = 1, 0 (PyTorch raises there).

    >>> unbiased(statistics(jnp.array([[1.0], [3.0]]), axes=(0,)))
    Array([[2.]], dtype=float32)
    """
    return stats.variance * (stats.count / jnp.maximum(stats.count - 1, 1))
