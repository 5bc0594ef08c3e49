"""`statistics` and `normalize` as one function with a gradient of its own.

Left to itself, XLA computes what lies between a norm and its neighbours anew for each sum of the
statistics and of the gradient; on a CPU that made a norm's backward pass three times as long.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from regjax.compiling import materialized
from regjax.dtypes import wide
from regjax.normalization.core import (
    Number,
    Pool,
    Statistics,
    affine,
    counted_rows,
    picked,
    statistics,
    total,
)


def standardize(
    x: jax.Array,
    axes: Sequence[int],
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    epsilon: Number = 1e-5,
    pool: Pool | None = None,
) -> tuple[jax.Array, Statistics]:
    """(x − μ) / √(σ² + ε) · scale + bias, by the statistics of x itself over `axes`.

    Differentiable in reverse mode, any number of times.

    Args:
      x: `(N, ..., C)`.
      axes: the axes to reduce.
      scale, bias: broadcastable against `x` with as many axes, or None.
      mask: `(N,)`, 0 for padding rows, which are normalized but not counted.
      epsilon: ε inside the root, a number.
      pool: max pooling of the output. With a gradient, and where the places of a sample share their
        statistics, it comes first: what is left has as many values as come out of it.

    Returns:
      The output in the dtype of `x`, and the statistics.

    >>> standardize(jnp.array([[1.0], [3.0]]), axes=(0,), epsilon=0.0)[0].ravel()
    Array([-1.,  1.], dtype=float32)
    """
    epsilon = jnp.asarray(epsilon, wide(x.dtype))
    axes = tuple(axis % x.ndim for axis in axes)
    arguments = x, scale, bias, mask, epsilon, axes
    if pool is None or {1, 2} <= {*axes}:
        return _standardize(*arguments, pool)
    y, stats = _standardize(*arguments, None)
    return pool(y), stats


def _value(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    mask: jax.Array | None,
    epsilon: jax.Array,
    axes: tuple[int, ...],
    pool: Pool | None,
) -> tuple[jax.Array, Statistics]:
    stats = statistics(x, axes, mask)
    # Without a gradient a compiler does better by a convolution that pooling comes right before.
    y = affine(x, stats.mean, stats.variance, scale, bias, epsilon)
    return picked(y, pool), stats


def _extremes(x: jax.Array, scale: jax.Array | None, pool: Pool | None) -> jax.Array:
    """The values of x that `pool` picks after a norm: a scale below 0 turns their order round."""
    if pool is None or scale is None:
        return picked(x, pool)
    sign = jnp.where(scale < 0, -1, 1).astype(x.dtype)
    return pool(x * sign) * sign


def _forward(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    mask: jax.Array | None,
    epsilon: jax.Array,
    axes: tuple[int, ...],
    pool: Pool | None,
) -> tuple[tuple[jax.Array, Statistics], Any]:
    x = materialized(x)
    stats = statistics(x, axes, mask)
    wide = x.astype(stats.mean.dtype)
    extremes, pull = jax.vjp(partial(_extremes, scale=scale, pool=pool), wide)
    if pool is not None:
        extremes, pull = materialized((extremes, pull))
    y = affine(extremes, stats.mean, stats.variance, scale, bias, epsilon).astype(x.dtype)
    return (y, stats), (x, extremes, pull, scale, bias, mask, epsilon, stats)


def _backward(
    axes: tuple[int, ...], pool: Pool | None, kept: Any, cotangents: Any
) -> tuple[jax.Array | None, ...]:
    del pool
    x, extremes, pull, scale, bias, mask, epsilon, stats = kept
    dy, dstats = cotangents
    dtype = stats.mean.dtype
    dy = materialized(dy.astype(dtype))
    factor = lax.rsqrt(stats.variance + epsilon)
    normal = (x.astype(dtype) - stats.mean) * factor

    # What the gradients of x, scale and bias all sum over is summed once.
    parameter = bias if scale is None else scale
    common = [a for a in axes if parameter is None or parameter.shape[a] == 1]
    sums = summed(dy, common), summed(dy * (extremes - stats.mean) * factor, common)
    with_y, with_normal = (summed(s if scale is None else s * scale, axes) for s in sums)
    # x acts on y by itself, and as one of m values through mean and variance.
    (own,) = pull(dy * (factor if scale is None else factor * scale))
    shift = dstats.mean - factor * with_y
    slope = 2 * dstats.variance / factor - factor * with_normal
    shared = (shift + slope * normal) / jnp.maximum(stats.count, 1)
    if mask is not None:
        shared = jnp.where(counted_rows(mask, x.ndim), shared, 0)
    dscale = None if scale is None else _like(scale, sums[1])
    dbias = None if bias is None else _like(bias, sums[0])
    depsilon = (-0.5 * jnp.square(factor) * with_normal).sum().astype(epsilon.dtype)
    return (own + shared).astype(x.dtype), dscale, dbias, None, depsilon


def _like(parameter: jax.Array, values: jax.Array) -> jax.Array:
    """Sums values down to the shape of what was broadcast against them."""
    axes = [i for i, size in enumerate(parameter.shape) if size != values.shape[i]]
    return summed(values, axes).astype(parameter.dtype)


def summed(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """`core.total`, on a CPU as matrix products.

    Of few numbers they round less than XLA's sums. (Of many they round more, and in a forward pass
    they keep XLA from making one loop of a norm and its neighbours.)
    """
    return total(x, axes, _product)


def _product(x: jax.Array, axis: int) -> jax.Array:
    before, along, after = (
        math.prod(part) for part in (x.shape[:axis], x.shape[axis : axis + 1], x.shape[axis + 1 :])
    )
    shape = [1 if i == axis else size for i, size in enumerate(x.shape)]
    if after == 1:
        return (x.reshape(before, along) @ jnp.ones(along, x.dtype)).reshape(shape)
    if before == 1:
        return (jnp.ones(along, x.dtype) @ x.reshape(along, after)).reshape(shape)
    ones = jnp.ones((before, 1, along), x.dtype)
    return (ones @ x.reshape(before, along, after)).reshape(shape)


_standardize = jax.custom_vjp(_value, nondiff_argnums=(5, 6))
_standardize.defvjp(_forward, _backward)
