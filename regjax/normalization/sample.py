"""Norms by the statistics of each sample: the same in training and inference, at any batch size."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from regjax.normalization.core import Number, Pool, per_channel, widened
from regjax.normalization.standardize import standardize


def group_norm(
    x: jax.Array,
    groups: int,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    epsilon: Number = 1e-5,
    pool: Pool | None = None,
) -> jax.Array:
    """Wu & He (2018): each sample by its statistics over each of `groups` groups of channels.

    Args:
      x: `(N, ..., C)`.
      groups: divides C. 1 is layer norm over all of a sample's values, C is instance norm.
      scale, bias: `(C,)` or None.
      epsilon: ε inside the root.
      pool: max pooling of the output, which costs less here than after it (`standardize`).

    Raises:
      ValueError: `groups` does not divide C.

    >>> group_norm(jnp.array([[1.0, 3.0, 5.0, 9.0]]), groups=2, epsilon=0.0)
    Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must divide the {channels} channels, got {groups}")
    grouped = x.reshape(*x.shape[:-1], groups, channels // groups)
    shape = (1,) * (x.ndim - 1) + grouped.shape[-2:]
    affine = (None if p is None else p.reshape(shape) for p in (scale, bias))
    axes = (*range(1, x.ndim - 1), grouped.ndim - 1)
    y, _ = standardize(grouped, axes, *affine, epsilon=epsilon, pool=pool)
    return y.reshape(*y.shape[:-2], channels)


def layer_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    epsilon: Number = 1e-5,
    axes: Sequence[int] | None = None,
    pool: Pool | None = None,
) -> jax.Array:
    """Ba et al. (2016): each sample by its statistics over all of its values.

    On images that is one group over C, H, W with a scale and bias per channel, as
    `torch.nn.GroupNorm(1, C)`; on vectors it is `torch.nn.LayerNorm(C)`. For tokens `(N, T, C)`
    give `axes=(-1,)`, what the layer norms of Flax and Keras reduce by default.

    Args:
      x: `(N, ..., C)`.
      scale, bias: `(C,)` or None.
      epsilon: ε inside the root.
      axes: the axes to reduce; None: all but the first.
      pool: max pooling of the output.

    >>> layer_norm(jnp.array([[1.0, 3.0]]), epsilon=0.0)
    Array([[-1.,  1.]], dtype=float32)
    """
    axes = range(1, x.ndim) if axes is None else axes
    return standardize(x, axes, *_affine(x, scale, bias), epsilon=epsilon, pool=pool)[0]


def instance_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    epsilon: Number = 1e-5,
    pool: Pool | None = None,
) -> jax.Array:
    """Ulyanov et al. (2016): each channel of each sample by its statistics over the positions.

    `torch.nn.InstanceNorm1d` to `3d`; it takes out each sample's contrast.

    Args:
      x: `(N, ..., C)` with at least one spatial axis.
      scale, bias: `(C,)` or None.
      epsilon: ε inside the root.
      pool: max pooling of the output.

    Raises:
      ValueError: one value per sample and channel, which would become 0.

    >>> instance_norm(jnp.array([[[1.0], [3.0]]]), epsilon=0.0).ravel()
    Array([-1.,  1.], dtype=float32)
    """
    if math.prod(x.shape[1:-1]) == 1:
        raise ValueError(
            f"instance norm needs more than one position per channel, got shape {x.shape}; "
            "on vectors use layer_norm"
        )
    axes = range(1, x.ndim - 1)
    return standardize(x, axes, *_affine(x, scale, bias), epsilon=epsilon, pool=pool)[0]


def _affine(x: jax.Array, *parameters: jax.Array | None) -> list[jax.Array | None]:
    return [None if p is None else per_channel(p, x.ndim) for p in parameters]


def rms_norm(
    x: jax.Array, scale: jax.Array | None = None, epsilon: Number | None = None
) -> jax.Array:
    """Zhang & Sennrich (2019): x / √(mean(x²) + ε) · scale over the last axis, mean left in.

    Args:
      x: `(..., C)`.
      scale: `(C,)` or None.
      epsilon: ε inside the root; None: the machine epsilon of the dtype it is computed in, at least
        float32, `torch.nn.RMSNorm`'s. Flax and Keras have 1e-6.

    >>> rms_norm(jnp.array([[3.0, 3.0]]))
    Array([[1., 1.]], dtype=float32)
    """
    wide = widened(x)
    epsilon = float(jnp.finfo(wide.dtype).eps) if epsilon is None else epsilon
    y = wide * lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + epsilon)
    if scale is not None:
        y = y * per_channel(scale, x.ndim)
    return y.astype(x.dtype)
