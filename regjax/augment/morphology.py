"""Greyscale morphology: bright strokes made thicker or thinner."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from regjax.augment.common import Number, check_images

Extreme = Callable[[jax.Array, jax.Array], jax.Array]  # jnp.maximum or jnp.minimum


def _of_neighbours(extreme: Extreme, x: jax.Array) -> jax.Array:
    """The extreme of each pixel and its eight neighbours, along one axis after the other."""
    for axis in (1, 2):
        first = lax.slice_in_dim(x, 0, 1, axis=axis)
        last = lax.slice_in_dim(x, -1, None, axis=axis)  # a border's neighbour is itself
        before = lax.concatenate([first, lax.slice_in_dim(x, 0, -1, axis=axis)], axis)
        after = lax.concatenate([lax.slice_in_dim(x, 1, None, axis=axis), last], axis)
        x = extreme(extreme(before, x), after)
    return x


def dilate(x: jax.Array) -> jax.Array:
    """Each pixel becomes the largest of the 3×3 pixels around it.

    `scipy.ndimage.grey_dilation` with `size=(3, 3)`, and `torch.nn.functional.max_pool2d(x, 3, 1,
    1)`. What is outside of the image does not count.

    Args:
      x: `(N, H, W, C)`, floating.

    Returns:
      Images of `x`'s shape and dtype.

    Raises:
      ValueError: `x` is not a batch of images.

    >>> dilate(jnp.array([0.0, 0.0, 1.0, 0.0]).reshape(1, 1, 4, 1)).ravel()
    Array([0., 1., 1., 1.], dtype=float32)
    """
    check_images(x)
    return _of_neighbours(jnp.maximum, x)


def erode(x: jax.Array) -> jax.Array:
    """Each pixel becomes the smallest of the 3×3 pixels around it, see `dilate`.

    >>> erode(jnp.array([0.0, 1.0, 1.0, 1.0]).reshape(1, 1, 4, 1)).ravel()
    Array([0., 0., 1., 1.], dtype=float32)
    """
    check_images(x)
    return _of_neighbours(jnp.minimum, x)


def random_thickness(key: jax.Array, x: jax.Array, strength: Number) -> jax.Array:
    """Each image goes part of the way to its dilation or to its erosion.

    With t uniform over ± strength it is x + t·(dilate(x) − x) for t ≥ 0, which makes what is bright
    thicker, and x + |t|·(erode(x) − x) below, which makes it thinner: by up to a pixel on each
    side. For handwriting, whose thickness says nothing of its class (Castro et al. 2019,
    Morpho-MNIST, changes it so, by more).

    Args:
      key: random key.
      x: `(N, H, W, C)`, floating.
      strength: in [0, 1], may be traced; 0 returns `x` exactly.

    Returns:
      Images of `x`'s shape and dtype.

    Raises:
      ValueError: `x` is not a batch of images.

    >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> bool((random_thickness(jax.random.key(0), x, strength=0.0) == x).all())
    True
    """
    check_images(x)
    t = strength * jax.random.uniform(key, (len(x), 1, 1, 1), jnp.float32, minval=-1)
    target = jnp.where(t < 0, erode(x), dilate(x))
    return x + (jnp.abs(t) * (target - x)).astype(x.dtype)
