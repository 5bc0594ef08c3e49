"""Warps: images read at real coordinates, after an affine map or an elastic displacement."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates

from regjax.augment.common import Number, check_images, fill_value
from regjax.dtypes import wide, widen


def sample(x: jax.Array, coordinates: jax.Array, fill: Number = 0.0) -> jax.Array:
    """Images read at real coordinates, bilinear between the four nearest pixels.

    `jax.scipy.ndimage.map_coordinates` of order 1 for every image and channel. Pixels outside
    have the value `fill`, also as neighbours of those inside: mode "grid-constant" of SciPy,
    padding "zeros" of `torch.nn.functional.grid_sample`. Whole coordinates read a pixel exactly.

    Args:
      x: `(N, H, W, C)`, floating; interpolated in at least float32.
      coordinates: `(N, H', W', 2)`, row and column in pixels, the first pixel's centre at 0.
      fill: scalar or `(C,)`, may be traced.

    Returns:
      `(N, H', W', C)` in `x`'s dtype, differentiable in all three arguments.

    Raises:
      ValueError: `x` is not a batch of images, or the shape of the coordinates is another.

    >>> x = jnp.array([[0.0, 1.0], [2.0, 3.0]]).reshape(1, 2, 2, 1)
    >>> sample(x, jnp.array([[0.5, 0.5], [1.5, 0.0]]).reshape(1, 1, 2, 2)).ravel()
    Array([1.5, 1. ], dtype=float32)
    """
    check_images(x)
    if coordinates.ndim != 4 or coordinates.shape[::3] != (len(x), 2):
        raise ValueError(f"coordinates must be ({len(x)}, H, W, 2), got {coordinates.shape}")

    def read(plane: jax.Array, at: jax.Array) -> jax.Array:
        return map_coordinates(plane, (at[..., 0], at[..., 1]), order=1, mode="constant")

    dtype = wide(x.dtype)
    coordinates = widen(coordinates)
    by_channel = jax.vmap(read, in_axes=(-1, None), out_axes=-1)
    values = jax.vmap(by_channel)(x.astype(dtype), coordinates)
    # map_coordinates takes no traced fill. The weight of the pixels inside is, along an axis, 1
    # between the first and the last pixel and falls to 0 within one more.
    size = jnp.array(x.shape[1:3], coordinates.dtype).reshape(1, 1, 1, 2)
    inside = jnp.clip(jnp.minimum(coordinates + 1, size - coordinates), 0, 1)
    outside = 1 - inside[..., :1] * inside[..., 1:]
    return (values + outside * fill_value(fill, x).astype(dtype)).astype(x.dtype)


def _pixels(height: int, width: int, dtype: jnp.dtype) -> jax.Array:
    """`(H, W, 2)` rows and columns of the pixels."""
    rows = lax.broadcasted_iota(dtype, (height, width), 0)
    return jnp.stack([rows, lax.broadcasted_iota(dtype, (height, width), 1)], axis=-1)


def affine(x: jax.Array, matrices: jax.Array, fill: Number = 0.0) -> jax.Array:
    """Each image through an affine map of the plane, with bilinear `sample`.

    The pixel at p reads the image at c + A·(p − c) + b, c the centre of the image, [A | b] the
    matrix: it maps *output to input*, as in `scipy.ndimage.affine_transform` (there about pixel
    0: offset c + b − A·c) and `torch.nn.functional.affine_grid` (there in the order x, y and in
    units of half the size, with `align_corners=False`).

    Args:
      x: `(N, H, W, C)`, floating.
      matrices: `(N, 2, 3)`, rows and columns in the order (row, column), b in pixels.
      fill: value outside of the image, scalar or `(C,)`.

    Returns:
      Images of `x`'s shape and dtype; the matrix [I | 0] returns `x` exactly.

    Raises:
      ValueError: `x` is not a batch of images, or `matrices` has another shape.

    >>> x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    >>> affine(x, jnp.array([[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])).ravel()
    Array([0., 2., 1., 3.], dtype=float32)
    """
    check_images(x)
    n, height, width, _ = x.shape
    if matrices.shape != (n, 2, 3):
        raise ValueError(f"matrices must be {(n, 2, 3)}, got {matrices.shape}")
    matrices = widen(matrices)
    centre = (jnp.array([height, width], matrices.dtype) - 1) / 2
    offset = (_pixels(height, width, matrices.dtype) - centre[None, None, :])[None]
    # Sums by hand: a matrix product may round its factors on an accelerator.
    a, b = matrices[:, None, None, :, :2], matrices[..., 2]
    mapped = a[..., 0] * offset[..., :1] + a[..., 1] * offset[..., 1:]
    return sample(x, mapped + (b + centre[None, :])[:, None, None, :], fill)


def affine_matrices(
    degrees: jax.Array, translation: jax.Array, scale: jax.Array, shear: jax.Array
) -> jax.Array:
    """The matrices for `affine` that shear, rotate, scale and then translate an image.

    Args:
      degrees: `(N,)`, rotation counter-clockwise as the image is seen (as `numpy.rot90`).
      translation: `(N, 2)`, pixels down and right.
      scale: `(N,)`, above 0; above 1 enlarges.
      shear: `(N,)`, degrees in (−90, 90); what is lower moves to the right.

    Returns:
      `(N, 2, 3)`, output to input; [I | 0] exactly for angles and translation 0, scale 1.

    >>> zero = jnp.zeros(1)
    >>> affine_matrices(zero, jnp.array([[3.0, 4.0]]), zero + 2, zero)[..., 2]
    Array([[-1.5, -2. ]], dtype=float32)
    """
    cos, sin = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    slope = jnp.tan(jnp.deg2rad(shear))
    # Forward it is scale · rotation · shear; here the inverse, in (row, column).
    upper, lower = [cos, sin], [-slope * cos - sin, cos - slope * sin]
    a = jnp.stack([jnp.stack(upper, -1), jnp.stack(lower, -1)], axis=-2) / scale[:, None, None]
    b = -(a[..., 0] * translation[:, :1] + a[..., 1] * translation[:, 1:])
    return jnp.concatenate([a, b[..., None]], axis=-1)


def random_affine(
    key: jax.Array,
    x: jax.Array,
    degrees: Number = 0.0,
    translate: Number = 0.0,
    scale: Number = 0.0,
    shear: Number = 0.0,
    fill: Number = 0.0,
) -> jax.Array:
    """Each image rotated, moved, scaled and sheared by amounts of its own, about its centre.

    All strengths 0 return `x` exactly; each may be traced. The ranges are torchvision's, but the
    scale is given by its distance from 1 and the translation is not rounded to whole pixels.

    Args:
      key: random key.
      x: `(N, H, W, C)`, floating.
      degrees: rotation, uniform over ±degrees.
      translate: uniform over ± this share of the height, and of the width.
      scale: s in [0, 1), the factor uniform over 1 ± s.
      shear: horizontal, uniform over ± degrees below 90.
      fill: value outside of the image, scalar or `(C,)`.

    Returns:
      Images of `x`'s shape and dtype.

    Raises:
      ValueError: `x` is not a batch of images.

    >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> bool((random_affine(jax.random.key(0), x) == x).all())
    True
    """
    check_images(x)
    n, height, width, _ = x.shape
    angle, down, right, size, slope = jax.random.uniform(key, (5, n), jnp.float32, minval=-1)
    translation = jnp.stack([down * (translate * height), right * (translate * width)], axis=-1)
    matrices = affine_matrices(angle * degrees, translation, 1 + size * scale, slope * shear)
    return affine(x, matrices, fill)


def gaussian_filter(x: jax.Array, sigma: Number) -> jax.Array:
    """Fields smoothed over their last two axes by a Gaussian, 0 outside.

    `scipy.ndimage.gaussian_filter` with mode "constant" and, in place of 4σ, the radius L − 1 of
    an axis of length L, the widest that reaches from one end to the other. The width is traced:
    each axis is smoothed by an (L, L) matrix.

    Args:
      x: `(..., H, W)`, floating.
      sigma: σ ≥ 0 in pixels, may be traced; 0 returns `x`.

    Returns:
      Fields of `x`'s shape and dtype.

    >>> gaussian_filter(jnp.array([[0.0, 1.0, 0.0]]), sigma=0.0)
    Array([[0., 1., 0.]], dtype=float32)
    """
    dtype = wide(x.dtype)
    # So narrow that a neighbour's weight is 0, without dividing by 0.
    sigma = jnp.maximum(jnp.asarray(sigma, dtype), 1e-3)

    def smoother(length: int) -> jax.Array:
        weights = jnp.exp(-jnp.square(jnp.arange(length, dtype=dtype) / sigma) / 2)
        weights = weights / (2 * weights.sum() - 1)  # both sides, the middle once
        index = jnp.arange(length)
        return weights[jnp.abs(index[:, None] - index[None, :])]

    rows, columns = smoother(x.shape[-2]), smoother(x.shape[-1])
    smooth = jnp.einsum("ij,...jk,lk->...il", rows, x.astype(dtype), columns, precision="highest")
    return smooth.astype(x.dtype)


def elastic(
    key: jax.Array, x: jax.Array, alpha: Number, sigma: Number, fill: Number = 0.0
) -> jax.Array:
    """Simard et al. (2003): each pixel reads from a place displaced by a smooth random field.

    The displacement in rows and in columns is α · (Gaussian of σ ∗ U), U uniform over ±1 in each
    pixel. The smoothing makes displacements small: their standard deviation is about
    α / (σ √(12π)) pixels away from the border. The paper's MNIST setting is σ = 4, α = 34.

    Args:
      key: random key.
      x: `(N, H, W, C)`, floating; all channels move together.
      alpha: α, may be traced; 0 returns `x` exactly.
      sigma: σ ≥ 0 in pixels, may be traced.
      fill: value outside of the image, scalar or `(C,)`.

    Returns:
      Images of `x`'s shape and dtype.

    Raises:
      ValueError: `x` is not a batch of images.

    >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> bool((elastic(jax.random.key(0), x, alpha=0.0, sigma=4.0) == x).all())
    True
    """
    check_images(x)
    n, height, width, _ = x.shape
    noise = jax.random.uniform(key, (n, 2, height, width), jnp.float32, minval=-1)
    displacement = jnp.moveaxis(gaussian_filter(noise, sigma), 1, -1) * alpha
    return sample(x, _pixels(height, width, jnp.float32)[None] + displacement, fill)
