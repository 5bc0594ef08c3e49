"""Max pooling with a gradient of its own."""

import jax
import jax.numpy as jnp


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """The largest of each 2×2 block; an odd last row or column is dropped, as in PyTorch.

    The gradient goes to the largest value, of equal ones to the first in reading order, as in
    PyTorch. JAX's own gradient of a maximum looks for the values that equal it: where XLA computes
    them anew with another rounding, it finds none and divides by their number, 0.

    Args:
      x: `(N, H, W, ...)`, the rest channels.

    Returns:
      `(N, ⌊H/2⌋, ⌊W/2⌋, ...)`.

    >>> max_pool_2x2(jnp.arange(9.0).reshape(1, 3, 3, 1)).ravel()
    Array([4.], dtype=float32)
    """
    n, height, width, *channels = x.shape
    rows, columns = height // 2, width // 2
    return _largest(x[:, : 2 * rows, : 2 * columns].reshape(n, rows, 2, columns, 2, *channels))


@jax.custom_vjp
def _largest(blocks: jax.Array) -> jax.Array:
    """`(N, rows, 2, columns, 2, ...)` to the largest of each block."""
    a, b, c, d = _corners(blocks)
    # Not blocks.max((2, 4)): of that XLA makes no vector instructions on a CPU.
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _corners(blocks: jax.Array) -> list[jax.Array]:
    """In reading order."""
    return [blocks[:, :, i, :, j] for i in (0, 1) for j in (0, 1)]


def _largest_forward(blocks: jax.Array) -> tuple[jax.Array, jax.Array]:
    a, b, c, d = _corners(blocks)
    upper, lower = jnp.maximum(a, b), jnp.maximum(c, d)
    place = jnp.where(lower > upper, 2 + (d > c), b > a)
    return jnp.maximum(upper, lower), place.astype(jnp.int8)


def _largest_backward(place: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    places = jnp.arange(4, dtype=place.dtype).reshape(2, 1, 2, *(1,) * (g.ndim - 3))
    place, g = (jnp.expand_dims(a, (2, 4)) for a in (place, g))
    return (jnp.where(place == jnp.expand_dims(places, (0, 1)), g, jnp.zeros((), g.dtype)),)


_largest.defvjp(_largest_forward, _largest_backward)
