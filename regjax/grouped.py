"""A convolution of channels in groups, as many plain convolutions at once.

Groups of few channels make small products. So some of them are taken together, as one with a block
diagonal kernel: more multiplications, of which most are by zero, in a fraction of the time.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from regjax.by_patches import Geometry

ENOUGH = 16  # channels, by measurement on a CPU; Winograd's way asks for as many


def together(groups: int, channels: int) -> int:
    """How many groups are taken together: a divisor of their number.

    Args:
      groups: their number.
      channels: of one, in or out, whichever are more.

    >>> together(32, 8), together(32, 4), together(3, 4), together(2, 32)
    (2, 4, 3, 1)
    """
    divisors = [m for m in range(1, groups + 1) if groups % m == 0]
    return next((m for m in divisors if m * channels >= ENOUGH), groups)


def block_diagonal(kernel: jax.Array, groups: int, many: int) -> jax.Array:
    """Kernels of `many` groups at a time: `(groups / many, *window, many · I, many · O)`.

    >>> block_diagonal(jnp.arange(1.0, 5.0).reshape(1, 1, 4), 4, 2)[0, 0]
    Array([[1., 0.],
           [0., 2.]], dtype=float32)
    """
    *window, channels, out = kernel.shape
    parts = groups // many, many, out // groups
    each = kernel.reshape(*window, channels, *parts)
    placed = jnp.einsum("...cgmo,lm->g...lcmo", each, jnp.eye(many, dtype=kernel.dtype))
    return placed.reshape(groups // many, *window, many * channels, -1)


def convolution(plain: Any, geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """By `plain(geometry, x, kernel)`, a convolution without groups.

    >>> geometry = Geometry((1,), ((0, 0),), (1,), (1,), groups=2)
    >>> x, kernel = jnp.arange(4.0).reshape(1, 1, 4), jnp.ones((1, 2, 2))
    >>> convolution(Geometry.lax, geometry, x, kernel).ravel()
    Array([1., 5.], dtype=float32)
    """
    out = kernel.shape[-1] // geometry.groups
    many = together(geometry.groups, max(kernel.shape[-2], out))
    count = geometry.groups // many
    parts = jnp.moveaxis(x.reshape(*x.shape[:-1], count, -1), -2, 0)
    kernels = block_diagonal(kernel, geometry.groups, many)
    y = jax.vmap(partial(plain, geometry._replace(groups=1)))(parts, kernels)
    return jnp.moveaxis(y, 0, -2).reshape(*y.shape[1:-1], kernel.shape[-1])
