"""Shifts by whole pixels and mirror images: values are moved, never interpolated."""

import jax
import jax.numpy as jnp

from regjax.augment.common import Number, check_images, fill_value, whole


def random_shift(key: jax.Array, x: jax.Array, max_shift: Number, fill: Number = 0.0) -> jax.Array:
    """Each image moved by whole pixels, down and right each uniform over −m, ..., m.

    It is also the random crop of an image padded by m on each side.

    Args:
      key: random key.
      x: `(N, H, W, C)`, floating.
      max_shift: m ≥ 0 in pixels, rounded down, may be traced; 0 returns `x`.
      fill: what comes in over the border, scalar or `(C,)`.

    Returns:
      Images of `x`'s shape and dtype.

    Raises:
      ValueError: `x` is not a batch of images.

    >>> random_shift(jax.random.key(0), jnp.ones((1, 3, 3, 1)), 1)[0, :, :, 0]
    Array([[1., 1., 0.],
           [1., 1., 0.],
           [1., 1., 0.]], dtype=float32)
    """
    check_images(x)
    n, height, width, _ = x.shape
    m = whole(max_shift)
    shifts = jax.random.randint(key, (2, n), -m, m + 1, jnp.int32)
    rows = jnp.arange(height)[None, :] - shifts[0][:, None]
    columns = jnp.arange(width)[None, :] - shifts[1][:, None]
    moved = jax.vmap(lambda image, r, c: image.at[r].get(mode="clip").at[:, c].get(mode="clip"))(
        x, rows, columns
    )
    inside = ((rows >= 0) & (rows < height))[:, :, None]
    inside = inside & ((columns >= 0) & (columns < width))[:, None, :]
    return jnp.where(inside[..., None], moved, fill_value(fill, x))


def random_flip(key: jax.Array, x: jax.Array, probability: Number = 0.5) -> jax.Array:
    """Each image mirrored, left to right, with a probability.

    Twice with the same key returns `x`.

    Args:
      key: random key.
      x: `(N, H, W, C)`, floating.
      probability: in [0, 1], may be traced; 0 returns `x` and 1 mirrors all.

    Returns:
      Images of `x`'s shape and dtype.

    Raises:
      ValueError: `x` is not a batch of images.

    >>> random_flip(jax.random.key(0), jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1), 1.0).ravel()
    Array([2., 1.], dtype=float32)
    """
    check_images(x)
    # uniform is in [0, 1): below 1 always, below 0 never.
    flip = jax.random.uniform(key, (len(x), 1, 1, 1), jnp.float32) < probability
    return jnp.where(flip, x[:, :, ::-1], x)


def random_crop_flip(
    key: jax.Array,
    x: jax.Array,
    padding: Number = 4,
    flip_probability: Number = 0.5,
    fill: Number = 0.0,
) -> jax.Array:
    """CIFAR's standard: pad, crop at random to the size before, mirror half of the images.

    `random_flip` of `random_shift`, each with a key of its own (He et al. 2016: padding 4,
    probability ½).

    Args:
      key: random key.
      x: `(N, H, W, C)`, floating.
      padding: pixels on each side, rounded down, may be traced.
      flip_probability: in [0, 1], may be traced.
      fill: value of the padding, scalar or `(C,)`.

    Returns:
      Images of `x`'s shape and dtype.

    Raises:
      ValueError: `x` is not a batch of images.

    >>> x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    >>> random_crop_flip(jax.random.key(0), x, padding=0, flip_probability=1.0)[0, :, :, 0]
    Array([[2., 1., 0.],
           [5., 4., 3.]], dtype=float32)
    """
    shift_key, flip_key = jax.random.split(key)
    return random_flip(flip_key, random_shift(shift_key, x, padding, fill), flip_probability)
