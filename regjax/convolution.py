"""A convolution that stays fast inside `lax.scan` on CPU.

XLA's CPU backend lowers the weight gradient of a convolution inside a loop to a naive loop nest:
an epoch of a small CNN under `scan` then takes over ten times as long as in PyTorch. Written as
patches × matrix, both gradients become matrix products; a 3×3 kernel of many channels takes
Winograd's way instead (`regjax.winograd`). On other backends `lax` is used as it is, but for lanes
of a kernel each (`regjax.many_kernels`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from regjax import by_patches, many_kernels, winograd
from regjax.by_patches import Padding
from regjax.many_kernels import NHWC


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv2d(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """2-D cross-correlation with stride 1, differentiable once in reverse mode.

    Args:
      x: `(N, H, W, I)`.
      kernel: `(kh, kw, I, O)`.
      padding: zeros before and after, for height and width.

    Returns:
      `(N, H', W', O)`, equal to `lax.conv_general_dilated` up to rounding. Without a gradient it
      is that function; its forward pass is fast everywhere.

    >>> conv2d(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)), ((0, 0), (0, 0))).ravel()
    Array([9.], dtype=float32)
    """
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NHWC)


def _forward(x: jax.Array, kernel: jax.Array, padding: Padding) -> tuple[jax.Array, Any]:
    if winograd.pays(x, kernel, padding):
        return winograd.forward(x, kernel, padding)
    patches = by_patches.patches(x, kernel.shape[:2], padding)
    # The patches are kept: the weight gradient is a product with them.
    return by_patches.product(patches, kernel), (patches, kernel)


def _backward(padding: Padding, kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    if isinstance(kept[0], list):
        return winograd.backward(padding, kept, dy)
    patches, kernel = kept
    dx = by_patches.input_gradient(dy, kernel, padding)
    return dx, by_patches.kernel_gradient(patches, dy, kernel.shape[:2])


conv2d.defvjp(_forward, _backward)


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """Drop-in for `lax.conv_general_dilated`, for Flax's `Conv(conv_general_dilated=...)`.

    With two spatial dimensions, channels last, stride 1, no dilation, no groups and default options
    it is `conv2d` on a CPU and `many_kernels.convolution` elsewhere; otherwise `lax`.

    >>> x, w = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    >>> conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=NHWC).shape
    (1, 2, 2, 1)
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    dense = all(d == 1 for d in (*window_strides, *(lhs_dilation or ()), *(rhs_dilation or ())))
    channels_last = lhs.ndim == 4 and numbers == lax.conv_dimension_numbers(
        lhs.shape, rhs.shape, NHWC
    )
    plain = feature_group_count == 1 and not any(
        value not in (None, 1) for value in options.values()
    )
    if channels_last and dense and plain:
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], (1, 1), padding)
        (top, bottom), (left, right) = padding
        zeros = (int(top), int(bottom)), (int(left), int(right))
        if jax.default_backend() == "cpu":
            return conv2d(lhs, rhs, zeros)
        return many_kernels.convolution(zeros, lhs, rhs)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
        **options,
    )


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """The largest of each 2×2 block; an odd last row or column is dropped, as in PyTorch.

    The gradient goes to the largest value, of equal ones to the first in reading order, as in
    PyTorch. JAX's own gradient of a maximum looks for the values that equal it: where XLA computes
    them anew with another rounding, it finds none and divides by their number, 0.

    Args:
      x: `(N, H, W, C)`.

    Returns:
      `(N, ⌊H/2⌋, ⌊W/2⌋, C)`.

    >>> max_pool_2x2(jnp.arange(9.0).reshape(1, 3, 3, 1)).ravel()
    Array([4.], dtype=float32)
    """
    n, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    return _largest(x[:, : 2 * rows, : 2 * columns].reshape(n, rows, 2, columns, 2, channels))


@jax.custom_vjp
def _largest(blocks: jax.Array) -> jax.Array:
    """`(N, rows, 2, columns, 2, C)` to the largest of each block."""
    return blocks.max(axis=(2, 4))


def _largest_forward(blocks: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    (a, b), (c, d) = ((blocks[:, :, i, :, 0], blocks[:, :, i, :, 1]) for i in (0, 1))
    upper, lower = jnp.maximum(a, b), jnp.maximum(c, d)
    # In which half of the block, and where in each half.
    return jnp.maximum(upper, lower), (lower > upper, b > a, d > c)


def _largest_backward(where: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array]:
    low, right_above, right_below = where
    zero = jnp.zeros_like(g)
    above, below = jnp.where(low, zero, g), jnp.where(low, g, zero)
    rows = [
        jnp.stack([jnp.where(right, zero, half), jnp.where(right, half, zero)], axis=3)
        for right, half in ((right_above, above), (right_below, below))
    ]
    return (jnp.stack(rows, axis=2),)


_largest.defvjp(_largest_forward, _largest_backward)
