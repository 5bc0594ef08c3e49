"""Cutout, and the random boxes that it shares with CutMix."""

import jax
import jax.numpy as jnp

from regjax.augment.common import Number, check_images, fill_value, whole


def boxes(key: jax.Array, sizes: jax.Array, height: int, width: int) -> jax.Array:
    """A box for each example: its centre uniform over the pixels, what hangs over cut off.

    Around the centre c, a side of s pixels is c − ⌊s/2⌋ to c − ⌊s/2⌋ + s − 1.

    Args:
      key: random key.
      sizes: `(N, 2)` integers, heights and widths in pixels.
      height, width: of the images.

    Returns:
      `(N, H, W)` booleans, True inside the box.

    >>> int(boxes(jax.random.key(0), jnp.array([[1, 1]]), 8, 8).sum())
    1
    """

    def inside(key: jax.Array, size: jax.Array, length: int) -> jax.Array:
        start = jax.random.randint(key, size.shape, 0, length, jnp.int32) - size // 2
        index = jnp.arange(length)[None, :]
        return (index >= start[:, None]) & (index < (start + size)[:, None])

    row_key, column_key = jax.random.split(key)
    rows = inside(row_key, sizes[:, 0], height)
    columns = inside(column_key, sizes[:, 1], width)
    return rows[:, :, None] & columns[:, None, :]


def cutout(key: jax.Array, x: jax.Array, size: Number, fill: Number = 0.0) -> jax.Array:
    """DeVries & Taylor (2017): a square of each image, in a place of its own, is filled.

    The centre is uniform over the pixels, so that the square may hang over the border, as in the
    paper, which finds this to matter. An odd size is kept; the authors' code makes it even. For a
    fill of 0 to be the mean, as there, `x` is normalized before.

    Args:
      key: random key.
      x: `(N, H, W, C)`, floating.
      size: side of the square in pixels, rounded down, may be traced; 0 returns `x`.
      fill: scalar or `(C,)`.

    Returns:
      Images of `x`'s shape and dtype.

    Raises:
      ValueError: `x` is not a batch of images.

    >>> cutout(jax.random.key(0), jnp.ones((1, 3, 3, 1)), 1).sum()
    Array(8., dtype=float32)
    """
    check_images(x)
    n, height, width, _ = x.shape
    box = boxes(key, jnp.broadcast_to(whole(size), (n, 2)), height, width)
    return jnp.where(box[..., None], fill_value(fill, x), x)
