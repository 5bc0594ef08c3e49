"""Dropout in its forms, with a traced rate; they differ in which values share one draw.

In all of them `rate` is the probability to *drop*, as in PyTorch, Flax and Keras (the papers often
give the probability to retain), what is kept is scaled up so that inference needs nothing, rate 0
returns `x` and rate 1 zeros, both exactly.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from regjax import keys, trees
from regjax.dtypes import wide

PyTree = Any
Number = jax.Array | float

# What SELU tends to for large negative inputs, −λα (Klambauer et al. 2017).
SELU_LOW = -1.7580993408473766


def dropout(
    key: jax.Array, x: jax.Array, rate: Number, shared_axes: Sequence[int] = ()
) -> jax.Array:
    """Zeroes each value with probability `rate` and scales the others by 1 / (1 − rate).

    Srivastava et al. (2014), in the inverted form that PyTorch, Flax and Keras share.

    Args:
      key: random key.
      x: values of any shape, floating.
      rate: in [0, 1], may be traced.
      shared_axes: axes along which all values share one draw, static (Flax's `broadcast_dims`).

    Returns:
      Values of `x`'s shape and dtype.

    >>> dropout(jax.random.key(0), jnp.ones(4), 0.0)
    Array([1., 1., 1., 1.], dtype=float32)
    >>> dropout(jax.random.key(0), jnp.ones(4), 1.0)
    Array([0., 0., 0., 0.], dtype=float32)
    """
    shared = {axis % x.ndim for axis in shared_axes}
    shape = [1 if axis in shared else size for axis, size in enumerate(x.shape)]
    keep = 1 - jnp.asarray(rate, wide(x.dtype))
    return _keep(_draw(key, shape, keep), x, _ratio(1, keep))


def spatial_dropout(key: jax.Array, x: jax.Array, rate: Number) -> jax.Array:
    """Drops whole channels of each example (Tompson et al. 2015; `torch.nn.Dropout1d` to `3d`).

    Args:
      key: random key.
      x: `(N, ..., C)`, floating, with at least one axis between.
      rate: in [0, 1], may be traced.

    Raises:
      ValueError: an `x` without positions.

    >>> spatial_dropout(jax.random.key(0), jnp.ones((1, 2, 4)), 0.5)
    Array([[[0., 0., 2., 2.],
            [0., 0., 2., 2.]]], dtype=float32)
    """
    _positions("spatial_dropout", x)
    return dropout(key, x, rate, range(1, x.ndim - 1))


def variational_dropout(key: jax.Array, x: jax.Array, rate: Number) -> jax.Array:
    """Drops the same features at all time steps (Gal & Ghahramani 2016).

    For three axes that is `spatial_dropout`; further axes, as of an image at each step, are
    dropped value by value.

    Args:
      key: random key; the same key gives the same mask to every call of a recurrence.
      x: `(N, T, ..., F)`, floating.
      rate: in [0, 1], may be traced.

    Raises:
      ValueError: an `x` without time.

    >>> y = variational_dropout(jax.random.key(0), jnp.ones((2, 3, 5)), 0.5)
    >>> bool((y == y[:, :1]).all())
    True
    """
    _positions("variational_dropout", x)
    return dropout(key, x, rate, (1,))


def stochastic_depth(key: jax.Array, x: jax.Array, rate: Number, mode: str = "row") -> jax.Array:
    """Drops a whole residual branch: `skip + stochastic_depth(key, branch, rate)`.

    Huang et al. (2016), scaled by 1 / (1 − rate) when kept as in torchvision (the paper scales at
    inference). The paper's rate grows with depth, l/L · rate at block l of L.

    Args:
      key: random key.
      x: the branch's output, `(N, ...)`, floating.
      rate: in [0, 1], may be traced.
      mode: `row` draws for each example, `batch` once for all.

    Raises:
      ValueError: an unknown mode.

    >>> stochastic_depth(jax.random.key(0), jnp.ones((4, 2)), 0.5)
    Array([[0., 0.],
           [0., 0.],
           [2., 2.],
           [2., 2.]], dtype=float32)
    """
    if mode not in ("row", "batch"):
        raise ValueError(f"mode must be 'row' or 'batch', got {mode!r}")
    return dropout(key, x, rate, range(1 if mode == "row" else 0, x.ndim))


def drop_connect(key: jax.Array, weights: PyTree, rate: Number, mask: trees.Rule = "all") -> PyTree:
    """Drops single weights (Wan et al. 2013), scaled by 1 / (1 − rate) when kept.

    The paper does not scale, and samples activations from a Gaussian at inference; here inference
    uses the weights as they are. Each weight's draw depends on its path, not on its neighbours.

    Args:
      key: random key.
      weights: an array or a tree of arrays, floating.
      rate: in [0, 1], may be traced.
      mask: which paths, by name, globs or a test (`trees.matcher`); the others stay as they are.

    >>> weights = {"kernel": jnp.ones(3), "bias": jnp.ones(1)}
    >>> drop_connect(jax.random.key(0), weights, 1.0, "kernels")
    {'bias': Array([1.], dtype=float32), 'kernel': Array([0., 0., 0.], dtype=float32)}
    """
    matches = trees.matcher(mask)

    def drop(path: tuple[Any, ...], weight: jax.Array) -> jax.Array:
        name = trees.path_name(path)
        return dropout(keys.stream(key, name), weight, rate) if matches(name) else weight

    return jax.tree_util.tree_map_with_path(drop, weights)


def alpha_dropout(key: jax.Array, x: jax.Array, rate: Number) -> jax.Array:
    """Dropout for SELU: inputs of mean 0 and variance 1 keep both.

    Klambauer et al. (2017): what is dropped becomes α' = −1.7581, SELU's lower limit, then all is
    mapped by a·x + b with a = [(1 − p)(1 + p·α'²)]^−½ and b = −a·p·α', as in PyTorch and Keras.
    Rate 1 gives zeros, as in PyTorch.

    Args:
      key: random key.
      x: values of any shape, floating.
      rate: p in [0, 1], may be traced.

    >>> y = alpha_dropout(jax.random.key(0), jax.random.normal(jax.random.key(1), 10_000), 0.5)
    >>> bool(abs(y.mean()) < 0.05), bool(abs(y.var() - 1) < 0.05)
    (True, True)
    """
    rate = jnp.asarray(rate, wide(x.dtype))
    keep = 1 - rate
    kept = _draw(key, x.shape, keep)
    variance = keep * (1 + rate * SELU_LOW**2)
    a = jnp.where(keep > 0, 1 / jnp.sqrt(jnp.where(keep > 0, variance, 1)), 0)
    values = jnp.where(kept, x.astype(a.dtype), SELU_LOW)
    return (a * (values - rate * SELU_LOW)).astype(x.dtype)


def drop_block(key: jax.Array, x: jax.Array, rate: Number, block_size: int) -> jax.Array:
    """Drops blocks of neighbouring positions, in each channel by itself, and rescales the rest.

    Ghiasi et al. (2018). A position starts a block with probability
    γ = rate / bˢ · Π dᵢ / Π (dᵢ − b + 1) over the s spatial sizes dᵢ, for blocks that lie inside;
    what is kept is scaled by the size of the mask over its kept count. Blocks overlap, so the share
    dropped is somewhat below the rate; rate 1 drops all.

    Args:
      key: random key.
      x: `(N, ..., C)`, floating, with at least one axis between.
      rate: in [0, 1], may be traced.
      block_size: b, static; 1 is dropout but for the scale, which is counted.

    Raises:
      ValueError: an `x` without positions, or blocks that do not fit in it.

    >>> drop_block(jax.random.key(6), jnp.ones((1, 6, 1)), 0.3, 2)[0, :, 0]
    Array([1.5, 1.5, 1.5, 1.5, 0. , 0. ], dtype=float32)
    """
    _positions("drop_block", x)
    sizes, b = x.shape[1:-1], block_size
    if not 1 <= b <= min(sizes):
        raise ValueError(f"block_size must be from 1 to the smallest of {sizes}, got {b}")
    corners = [size - b + 1 for size in sizes]
    rate = jnp.asarray(rate, wide(x.dtype))
    gamma = rate * (math.prod(sizes) / (b ** len(sizes) * math.prod(corners)))
    gamma = jnp.where(rate < 1, gamma, 1)
    free = _draw(key, (x.shape[0], *corners, x.shape[-1]), 1 - gamma)
    # A position is kept if none of the blocks that reach it begins.
    window = (1, *[b] * len(sizes), 1)
    padding = [(size - 1, size - 1) for size in window]
    strides = (1,) * x.ndim
    kept = jax.lax.reduce_window(free, True, jax.lax.bitwise_and, window, strides, padding)
    return _keep(kept, x, _ratio(kept.size, kept.sum().astype(rate.dtype)))


def _draw(key: jax.Array, shape: Sequence[int], keep: jax.Array) -> jax.Array:
    """Booleans, True with probability `keep`."""
    # uniform is in [0, 1): below 1 always, below 0 never.
    return jax.random.uniform(key, shape, jnp.float32) < keep


def _ratio(whole: int, part: jax.Array) -> jax.Array:
    """whole / part, and 0 where part is 0; its gradient is finite."""
    return jnp.where(part > 0, whole / jnp.where(part > 0, part, 1), 0)


def _keep(kept: jax.Array, x: jax.Array, scale: jax.Array) -> jax.Array:
    """What is kept, scaled, in `x`'s dtype; zeros elsewhere."""
    return jnp.where(kept, (x.astype(scale.dtype) * scale).astype(x.dtype), jnp.zeros((), x.dtype))


def _positions(name: str, x: jax.Array) -> None:
    if x.ndim < 3:
        raise ValueError(f"{name} needs an axis between the first and the last, got {x.shape}")
