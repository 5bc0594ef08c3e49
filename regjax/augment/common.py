"""What the augmentations share: the check of a batch, whole numbers, the value of a fill."""

import jax
import jax.numpy as jnp

Number = jax.Array | float


def check_images(x: jax.Array) -> None:
    """Raises unless `x` is a batch of images with a floating dtype.

    >>> check_images(jnp.zeros((2, 8, 8)))
    Traceback (most recent call last):
    ...
    ValueError: images must be (N, H, W, C) and floating, got (2, 8, 8) of float32
    """
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"images must be (N, H, W, C) and floating, got {x.shape} of {x.dtype}")


def whole(number: Number) -> jax.Array:
    """The number rounded down, as int32: a count of pixels may be swept as a float.

    >>> whole(2.7)
    Array(2, dtype=int32)
    """
    return jnp.floor(jnp.asarray(number)).astype(jnp.int32)


def fill_value(fill: Number, x: jax.Array) -> jax.Array:
    """A fill, a scalar or one value a channel, `(C,)` or `(1, ..., C)`, as `(1, 1, 1, C)`.

    In the dtype of `x`.

    >>> fill_value(0.5, jnp.zeros((2, 8, 8, 3))).shape
    (1, 1, 1, 3)
    """
    values = jnp.asarray(fill, x.dtype).ravel()
    return jnp.broadcast_to(values, x.shape[-1:]).reshape(1, 1, 1, -1)
