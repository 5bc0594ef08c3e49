"""A convolution that stays fast where `vmap` gives each of many networks its own kernel.

`lax` makes a grouped convolution of that, which an accelerator's library computes group by group.
As patches × kernel (`regjax.by_patches`) it is one batched product of matrices. Without `vmap`, or
under a `vmap` over images or kernels alone, `lax` is used as it is.

A convolution y = F(x, w) is linear in each argument; so are the gradient of its input X(dy, w) and
that of its kernel W(x, dy). Each of the three has the other two as gradients, so one rule each
gives derivatives of any order, while each is computed in its own way.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import lax
from jax.custom_batching import custom_vmap

from regjax import by_patches
from regjax.by_patches import FEW, Padding, Window

NHWC = ("NHWC", "HWIO", "NHWC")
Product = Callable[[jax.Array, jax.Array], jax.Array]


def _product(one: Product, many: Product, a: jax.Array, b: jax.Array) -> jax.Array:
    """`one(a, b)`; under a `vmap` over both, `many(a, b)` of each pair."""
    function = custom_vmap(one)

    @function.def_vmap
    def _(size: int, batched: list[bool], a: jax.Array, b: jax.Array) -> tuple[jax.Array, bool]:
        del size
        axes = tuple(0 if each else None for each in batched)
        return jax.vmap(many if all(batched) else one, axes)(a, b), True

    return function(a, b)


def _lax(padding: Padding, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NHWC)


def _patches(padding: Padding, x: jax.Array, kernel: jax.Array) -> jax.Array:
    if kernel.shape[-2] <= FEW:
        return by_patches.shifted_sum(x, kernel, padding)
    return by_patches.product(by_patches.patches(x, kernel.shape[:2], padding), kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolution(padding: Padding, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """F: 2-D cross-correlation with stride 1, differentiable in reverse mode, any number of times.

    Args:
      padding: zeros before and after, for height and width.
      x: `(N, H, W, I)`.
      kernel: `(kh, kw, I, O)`.

    Returns:
      `(N, H', W', O)`, equal to `lax.conv_general_dilated` up to rounding.

    >>> import jax.numpy as jnp
    >>> kernels = jnp.ones((5, 3, 3, 1, 1))
    >>> images = jnp.ones((5, 1, 3, 3, 1))
    >>> jax.vmap(partial(convolution, ((0, 0), (0, 0))))(images, kernels).ravel()
    Array([9., 9., 9., 9., 9.], dtype=float32)
    """
    return _product(partial(_lax, padding), partial(_patches, padding), x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _of_input(padding: Padding, dy: jax.Array, kernel: jax.Array) -> jax.Array:
    """X."""

    def one(dy: jax.Array, kernel: jax.Array) -> jax.Array:
        size = [dy.shape[1 + i] + kernel.shape[i] - 1 - sum(padding[i]) for i in (0, 1)]
        x = jax.ShapeDtypeStruct((len(dy), *size, kernel.shape[2]), dy.dtype)
        return jax.linear_transpose(lambda x: _lax(padding, x, kernel), x)(dy)[0]

    return _product(one, partial(by_patches.input_gradient, padding=padding), dy, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _of_kernel(padding: Padding, window: Window, x: jax.Array, dy: jax.Array) -> jax.Array:
    """W."""

    def one(x: jax.Array, dy: jax.Array) -> jax.Array:
        kernel = jax.ShapeDtypeStruct((*window, x.shape[-1], dy.shape[-1]), x.dtype)
        return jax.linear_transpose(lambda kernel: _lax(padding, x, kernel), kernel)(dy)[0]

    def many(x: jax.Array, dy: jax.Array) -> jax.Array:
        return by_patches.kernel_gradient(by_patches.patches(x, window, padding), dy, window)

    return _product(one, many, x, dy)


def _kept(function: Any) -> Any:
    """A forward rule that keeps the two arguments."""

    def forward(*arguments: Any) -> tuple[jax.Array, Any]:
        return function(*arguments), arguments[-2:]

    return forward


def _convolution_backward(padding: Padding, kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    return _of_input(padding, g, kernel), _of_kernel(padding, kernel.shape[:2], x, g)


def _of_input_backward(padding: Padding, kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    dy, kernel = kept
    return convolution(padding, g, kernel), _of_kernel(padding, kernel.shape[:2], g, dy)


def _of_kernel_backward(
    padding: Padding, window: Window, kept: Any, g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    del window
    x, dy = kept
    return _of_input(padding, dy, g), convolution(padding, x, g)


convolution.defvjp(_kept(convolution), _convolution_backward)
_of_input.defvjp(_kept(_of_input), _of_input_backward)
_of_kernel.defvjp(_kept(_of_kernel), _of_kernel_backward)
