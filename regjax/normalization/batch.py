"""Norms by the statistics of a batch."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from regjax.compiling import materialized
from regjax.normalization.core import (
    Number,
    Pool,
    Statistics,
    normalize,
    per_channel,
    picked,
    statistics,
)
from regjax.normalization.standardize import standardize


def batch_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    epsilon: Number = 1e-5,
    axis_name: str | None = None,
    pool: Pool | None = None,
) -> tuple[jax.Array, Statistics]:
    """Ioffe & Szegedy (2015), training form: each channel by its statistics over the batch.

    Args:
      x: `(N, ..., C)`: 1-D, 2-D or 3-D data alike.
      scale, bias: `(C,)` or None.
      mask: `(N,)`, 0 for padding rows, which are normalized but not counted.
      epsilon: ε inside the root.
      axis_name: a mapped axis over which the statistics are synchronized.
      pool: max pooling of the output, which costs less here than after it (`standardize`).

    Returns:
      The output and the batch's statistics, for the running ones. For inference use `normalize`
      with the running statistics.

    Raises:
      ValueError: one value per channel, which has no variance (as in PyTorch; Flax returns 0).
        Where a mask, or the size of `axis_name`, leaves one, the variance is 0.

    >>> batch_norm(jnp.array([[1.0], [3.0]]), epsilon=0.0)[0]
    Array([[-1.],
           [ 1.]], dtype=float32)
    """
    if axis_name is not None:
        x = materialized(x)
        stats = statistics(x, range(x.ndim - 1), mask, axis_name)
        y = normalize(x, stats.mean, stats.variance, scale, bias, epsilon)
        return picked(y, pool), stats
    _check_values(x.shape, 1)
    scale, bias = (None if p is None else per_channel(p, x.ndim) for p in (scale, bias))
    return standardize(x, range(x.ndim - 1), scale, bias, mask, epsilon, pool)


def _check_values(shape: tuple[int, ...], groups: int) -> None:
    if math.prod(shape[:-1]) <= groups:
        raise ValueError(
            f"batch norm in training needs more than one value per channel, got shape {shape}"
            + (f" in {groups} groups" if groups > 1 else "")
            + "; use a larger batch, or a norm by sample such as layer_norm"
        )


def ghost_batch_norm(
    x: jax.Array,
    groups: int,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    epsilon: Number = 1e-5,
    pool: Pool | None = None,
) -> tuple[jax.Array, Statistics]:
    """Hoffer et al. (2017): batch norm over each of `groups` parts of the batch by itself.

    Args:
      x: `(N, ..., C)`.
      groups: divides N; 1 is batch norm.
      scale, bias: `(C,)` or None.
      mask: `(N,)`, 0 for padding rows.
      epsilon: ε inside the root.
      pool: max pooling of the output.

    Returns:
      The output, and the mean over the groups of their statistics, each weighted by its count
      (the running statistics' new value).

    Raises:
      ValueError: `groups` does not divide N, or leaves one value per channel.

    >>> ghost_batch_norm(jnp.array([[1.0], [3.0], [5.0], [9.0]]), groups=2, epsilon=0.0)[0].ravel()
    Array([-1.,  1., -1.,  1.], dtype=float32)
    """
    y, stats = by_group(x, groups, scale, bias, mask, epsilon, pool)
    mean, variance, count = (pooled(stats.count, values) for values in stats)
    return y, Statistics(mean, variance, count)


def by_group(
    x: jax.Array,
    groups: int,
    scale: jax.Array | None,
    bias: jax.Array | None,
    mask: jax.Array | None,
    epsilon: Number,
    pool: Pool | None,
) -> tuple[jax.Array, Statistics]:
    """`ghost_batch_norm` with the statistics of each group, `(groups, ...)`."""
    if groups < 1 or x.shape[0] % groups:
        raise ValueError(f"groups must divide the batch of {x.shape[0]}, got {groups}")
    _check_values(x.shape, groups)
    mask = jnp.ones(x.shape[0], bool) if mask is None else mask
    parts = x.reshape(groups, -1, *x.shape[1:])
    y, stats = jax.vmap(lambda part, rows: batch_norm(part, scale, bias, rows, epsilon, pool=pool))(
        parts, mask.reshape(groups, -1)
    )
    return y.reshape(-1, *y.shape[2:]), stats


def pooled(count: jax.Array, values: jax.Array) -> jax.Array:
    """The mean over groups `(groups, ...)` by count.

    >>> pooled(jnp.array([1.0, 3.0]), jnp.array([[0.0], [4.0]]))
    Array([3.], dtype=float32)
    """
    return jnp.tensordot(count / jnp.maximum(count.sum(), 1), values, axes=1)


def batch_renorm(
    x: jax.Array,
    running_mean: jax.Array,
    running_variance: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    r_max: Number = 3.0,
    d_max: Number = 5.0,
    epsilon: Number = 1e-5,
    pool: Pool | None = None,
) -> tuple[jax.Array, Statistics]:
    """Ioffe (2017): batch norm corrected towards the running statistics.

    y = ((x − μ_B) / σ_B · r + d) · scale + bias, with r = σ_B / σ clipped to [1 / r_max, r_max]
    and d = (μ_B − μ) / σ clipped to ±d_max, both without gradient. r_max = 1 and d_max = 0 is
    batch norm; without bounds the values are those of inference. The paper raises both bounds
    from there to 3 and 5 in the course of training.

    Args:
      x: `(N, ..., C)`.
      running_mean, running_variance: `(C,)`.
      scale, bias: `(C,)` or None.
      mask: `(N,)`, 0 for padding rows.
      r_max, d_max: bounds, may be traced.
      epsilon: ε inside the roots.
      pool: max pooling of the output.

    Returns:
      The output and the batch's statistics.

    Raises:
      ValueError: one value per channel.

    >>> x = jnp.array([[1.0], [3.0]])
    >>> batch_renorm(x, jnp.ones(1), jnp.ones(1), epsilon=0.0)[0].ravel()
    Array([0., 2.], dtype=float32)
    """
    _check_values(x.shape, 1)
    axes = tuple(range(x.ndim - 1))
    stats = statistics(x, axes, mask)
    running = lax.rsqrt(jnp.expand_dims(running_variance, axes) + epsilon)
    r = jnp.sqrt(stats.variance + epsilon) * running
    d = (stats.mean - jnp.expand_dims(running_mean, axes)) * running
    r = lax.stop_gradient(jnp.clip(r, 1 / jnp.asarray(r_max), r_max))
    d = lax.stop_gradient(jnp.clip(d, -d_max, d_max))
    y = (x.astype(stats.mean.dtype) - stats.mean) * lax.rsqrt(stats.variance + epsilon) * r + d
    zero = jnp.zeros_like(stats.mean)
    y = normalize(y, zero, zero + 1, scale, bias, epsilon=0.0)
    return picked(y.astype(x.dtype), pool), stats
