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
from jax.custom_batching import custom_vmap

from regjax import by_patches
from regjax.by_patches import Geometry, Sizes

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


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolution(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """F: a cross-correlation, differentiable in reverse mode any number of times.

    Args:
      geometry: where the window goes.
      x: `(N, *spatial, I)`.
      kernel: `(*window, I / groups, O)`.

    Returns:
      `(N, *spatial', O)`, equal to `lax.conv_general_dilated` up to rounding.

    >>> import jax.numpy as jnp
    >>> images, kernels = jnp.ones((5, 1, 3, 3, 1)), jnp.ones((5, 3, 3, 1, 1))
    >>> window = by_patches.plain(((0, 0), (0, 0)))
    >>> jax.vmap(partial(convolution, window))(images, kernels).ravel()
    Array([9., 9., 9., 9., 9.], dtype=float32)
    """
    many = partial(by_patches.convolution, geometry=geometry)
    return _product(geometry.lax, many, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _of_input(geometry: Geometry, shape: Sizes, dy: jax.Array, kernel: jax.Array) -> jax.Array:
    """X, for an input of a shape."""

    def transpose(function: Product, dy: jax.Array, kernel: jax.Array) -> jax.Array:
        x = jax.ShapeDtypeStruct(shape, dy.dtype)
        return jax.linear_transpose(lambda x: function(x, kernel), x)(dy)[0]

    def many(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return by_patches.forward(x, kernel, geometry)[0]

    return _product(partial(transpose, geometry.lax), partial(transpose, many), dy, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _of_kernel(geometry: Geometry, shape: Sizes, x: jax.Array, dy: jax.Array) -> jax.Array:
    """W, for a kernel of a shape."""

    def one(x: jax.Array, dy: jax.Array) -> jax.Array:
        kernel = jax.ShapeDtypeStruct(shape, x.dtype)
        return jax.linear_transpose(lambda kernel: geometry.lax(x, kernel), kernel)(dy)[0]

    def many(x: jax.Array, dy: jax.Array) -> jax.Array:
        window = shape[:-2]
        return by_patches.kernel_gradient(by_patches.patches(x, window, geometry), dy, window)

    return _product(one, many, x, dy)


def _kept(function: Any) -> Any:
    """A forward rule that keeps the two arrays."""

    def forward(*arguments: Any) -> tuple[jax.Array, Any]:
        return function(*arguments), arguments[-2:]

    return forward


def _gradients(geometry: Geometry, kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    return _of_input(geometry, x.shape, g, kernel), _of_kernel(geometry, kernel.shape, x, g)


def _gradients_of_input(
    geometry: Geometry, shape: Sizes, kept: Any, g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    del shape
    dy, kernel = kept
    return convolution(geometry, g, kernel), _of_kernel(geometry, kernel.shape, g, dy)


def _gradients_of_kernel(
    geometry: Geometry, shape: Sizes, kept: Any, g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    del shape
    x, dy = kept
    return _of_input(geometry, x.shape, dy, g), convolution(geometry, x, g)


convolution.defvjp(_kept(convolution), _gradients)
_of_input.defvjp(_kept(_of_input), _gradients_of_input)
_of_kernel.defvjp(_kept(_of_kernel), _gradients_of_kernel)
