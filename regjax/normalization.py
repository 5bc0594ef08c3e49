"""Normalization: two pure functions, `statistics` and `normalize`; every norm is a choice of axes.

Inputs have their channels last, `(N, ..., C)`. Statistics are computed in two passes (mean first,
then the mean of squared deviations) in at least float32, so a large mean costs no accuracy and the
variance is never negative; the output keeps the input's dtype. All norms divide by
√(biased variance + ε), as PyTorch, Flax and Keras do.

The Linen layers at the end add scale, bias and running statistics to the pure functions. Their
defaults are PyTorch's: ε = 1e-5, `momentum` the weight of the *new* statistics (Flax's and Keras's
momentum is 1 minus that), running variance unbiased (Flax and Keras: biased).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class Statistics(NamedTuple):
    """Mean and biased variance, broadcastable against the input, and the values in each mean."""

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


def statistics(x: jax.Array, axes: Sequence[int], mask: jax.Array | None = None) -> Statistics:
    """Mean μ = Σx / m and biased variance Σ(x − μ)² / m over `axes`.

    Args:
      x: `(N, ..., C)`, floating.
      axes: the axes to reduce; kept with size 1.
      mask: `(N,)` of 0 and 1; rows with 0 are padding and do not count. None: all count.

    Returns:
      Statistics in at least float32; m is 0 where no row counts, the rest then 0.

    >>> statistics(jnp.array([[1.0], [3.0]]), axes=(0,)).variance
    Array([[1.]], dtype=float32)
    """
    axes = tuple(axes)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    size = math.prod(x.shape[axis] for axis in axes)
    if mask is None:
        count = jnp.asarray(size, x.dtype)
        mean = x.mean(axes, keepdims=True)
        return Statistics(mean, jnp.square(x - mean).mean(axes, keepdims=True), count)
    rows = jnp.reshape(mask, (-1,) + (1,) * (x.ndim - 1)) > 0
    count = mask.sum().astype(x.dtype) * (size // x.shape[0])
    divisor = jnp.maximum(count, 1)
    mean = jnp.where(rows, x, 0).sum(axes, keepdims=True) / divisor
    squares = jnp.where(rows, jnp.square(x - mean), 0).sum(axes, keepdims=True)
    return Statistics(mean, squares / divisor, count)


def normalize(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    epsilon: float = 1e-5,
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
    channels = (1,) * (x.ndim - 1) + (-1,)
    factor = lax.rsqrt(variance + epsilon)
    if scale is not None:
        factor = factor * scale.reshape(channels)
    y = (x.astype(mean.dtype) - mean) * factor
    if bias is not None:
        y = y + bias.reshape(channels)
    return y.astype(x.dtype)


def unbiased(stats: Statistics) -> jax.Array:
    """The variance times m / (m − 1); with m = 1, 0 (PyTorch raises there).

    >>> unbiased(statistics(jnp.array([[1.0], [3.0]]), axes=(0,)))
    Array([[2.]], dtype=float32)
    """
    return stats.variance * (stats.count / jnp.maximum(stats.count - 1, 1))


def batch_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    epsilon: float = 1e-5,
) -> tuple[jax.Array, Statistics]:
    """Ioffe & Szegedy (2015), training form: each channel by its statistics over the batch.

    Args:
      x: `(N, ..., C)`: 1-D, 2-D or 3-D data alike.
      scale, bias: `(C,)` or None.
      mask: `(N,)`, 0 for padding rows, which are normalized but not counted.
      epsilon: ε inside the root.

    Returns:
      The output and the batch's statistics, for the running ones. For inference use `normalize`
      with the running statistics.

    >>> batch_norm(jnp.array([[1.0], [3.0]]), epsilon=0.0)[0]
    Array([[-1.],
           [ 1.]], dtype=float32)
    """
    stats = statistics(x, range(x.ndim - 1), mask)
    return normalize(x, stats.mean, stats.variance, scale, bias, epsilon), stats


def group_norm(
    x: jax.Array,
    groups: int,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    epsilon: float = 1e-5,
) -> jax.Array:
    """Wu & He (2018): each sample by its statistics over each of `groups` groups of channels.

    Args:
      x: `(N, ..., C)`.
      groups: divides C. 1 is layer norm over all of a sample's values, C is instance norm.
      scale, bias: `(C,)` or None.
      epsilon: ε inside the root.

    Raises:
      ValueError: `groups` does not divide C.

    >>> group_norm(jnp.array([[1.0, 3.0, 5.0, 9.0]]), groups=2, epsilon=0.0)
    Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must divide the {channels} channels, got {groups}")
    grouped = x.reshape(*x.shape[:-1], groups, channels // groups)
    axes = (*range(1, x.ndim - 1), grouped.ndim - 1)
    stats = statistics(grouped, axes)
    y = normalize(grouped, stats.mean, stats.variance, epsilon=epsilon).reshape(x.shape)
    affine = (1,) * (x.ndim - 1) + (-1,)
    if scale is not None:
        y = y * scale.reshape(affine).astype(y.dtype)
    if bias is not None:
        y = y + bias.reshape(affine).astype(y.dtype)
    return y


def layer_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    epsilon: float = 1e-5,
) -> jax.Array:
    """Ba et al. (2016): each sample by its statistics over all of its values.

    On images that is one group over C, H, W with a scale and bias per channel, as
    `torch.nn.GroupNorm(1, C)`; on vectors it is `torch.nn.LayerNorm(C)`. Flax's default layer
    norm reduces the last axis only.

    Args:
      x: `(N, ..., C)`.
      scale, bias: `(C,)` or None.
      epsilon: ε inside the root.

    >>> layer_norm(jnp.array([[1.0, 3.0]]), epsilon=0.0)
    Array([[-1.,  1.]], dtype=float32)
    """
    stats = statistics(x, range(1, x.ndim))
    return normalize(x, stats.mean, stats.variance, scale, bias, epsilon)


class BatchNorm(nn.Module):
    """`batch_norm` with scale, bias and running statistics (collection `batch_stats`).

    Attributes:
      momentum: weight of the new statistics, PyTorch's 0.1.
      epsilon: ε inside the root.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes by the batch in training, by the running statistics otherwise."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variance = self.variable("batch_stats", "variance", jnp.ones, shape)
        if not train:
            channels = (1,) * (x.ndim - 1) + (-1,)
            running = (mean.value.reshape(channels), variance.value.reshape(channels))
            return normalize(x, *running, scale, bias, self.epsilon)
        y, stats = batch_norm(x, scale, bias, mask, self.epsilon)
        if not self.is_initializing():
            for old, new in ((mean, stats.mean), (variance, unbiased(stats))):
                old.value = (1 - self.momentum) * old.value + self.momentum * new.reshape(shape)
        return y


class LayerNorm(nn.Module):
    """`layer_norm` with a scale and bias per channel.

    Attributes:
      epsilon: ε inside the root.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Normalizes each sample by itself; `train` and `mask` change nothing."""
        del train, mask
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        return layer_norm(x, scale, bias, self.epsilon)
