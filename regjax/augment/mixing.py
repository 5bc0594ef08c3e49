"""Mixing of examples in pairs, their soft labels with them: mixup and CutMix."""

import jax
import jax.numpy as jnp

from regjax.augment.common import Number, check_images
from regjax.augment.erasing import boxes
from regjax.dtypes import wide


def mix(x: jax.Array, partner: jax.Array, lam: Number) -> jax.Array:
    """λ·x + (1 − λ)·partner; λ = 1 is `x` and λ = 0 the partner, both exactly.

    Args:
      x, partner: `(N, ...)`, floating; summed in at least float32.
      lam: λ in [0, 1], a scalar or `(N,)`, may be traced.

    Returns:
      Values of `x`'s shape and dtype.

    >>> mix(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]), jnp.array([1.0, 0.5]))
    Array([1., 3.], dtype=float32)
    """
    dtype = wide(x.dtype)
    lam = jnp.asarray(lam, dtype)
    lam = lam.reshape(*lam.shape, *(1,) * (x.ndim - lam.ndim))
    mixed = lam * x.astype(dtype) + (1 - lam) * partner.astype(dtype)
    # 0 times a value that is not finite is NaN: an end takes nothing from the other side.
    return jnp.where(lam == 1, x, jnp.where(lam == 0, partner, mixed.astype(x.dtype)))


def partners(key: jax.Array, n: int, mask: jax.Array | None = None) -> jax.Array:
    """A uniformly random permutation of the rows that count; padding rows keep their own place.

    Args:
      key: random key.
      n: number of rows N.
      mask: `(N,)`, 0 for padding rows. None: all count.

    Returns:
      `(N,)` indices.

    Raises:
      ValueError: `mask` is not `(N,)`.

    >>> partners(jax.random.key(1), 4, jnp.array([1, 1, 0, 1]))
    Array([3, 1, 2, 0], dtype=int32)
    """
    order = jax.random.permutation(key, n)
    if mask is None:
        return order
    if mask.shape != (n,):
        raise ValueError(f"mask must be ({n},), one value a row, got {mask.shape}")
    padding = mask <= 0
    # Both lists name the valid rows first, one shuffled, one in order; the padding rows follow,
    # in order in both.
    shuffled = jnp.argsort(jnp.where(padding, n, order), stable=True)
    places = jnp.argsort(padding, stable=True)
    return jnp.zeros_like(order).at[places].set(shuffled.astype(order.dtype))


def _shares(key: jax.Array, alpha: Number, n: int) -> jax.Array:
    """`(n,)` values of λ ~ Beta(α, α), 1 where α = 0."""
    alpha = jnp.asarray(alpha, jnp.float32)
    drawn = alpha != 0  # jax.random.beta is NaN at 0
    a = jnp.where(drawn, alpha, 1)
    lam = jax.random.beta(key, a, a, (n,), jnp.float32)
    return jnp.where(drawn, lam, 1)


def _check(x: jax.Array, targets: jax.Array) -> None:
    for name, values in (("x", x), ("targets", targets)):
        if not jnp.issubdtype(values.dtype, jnp.floating) or values.ndim < 1:
            hint = ": make labels soft with jax.nn.one_hot" if name == "targets" else ""
            raise ValueError(f"{name} must be floating, got {values.dtype} {values.shape}{hint}")
    if len(x) != len(targets):
        raise ValueError(f"x and targets must have as many rows, got {len(x)} and {len(targets)}")


def mixup(
    key: jax.Array,
    x: jax.Array,
    targets: jax.Array,
    alpha: Number,
    mask: jax.Array | None = None,
    per_example: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Zhang et al. (2018): each example and its target mixed with those of another of the batch.

    λ·x + (1 − λ)·x[π] and the same for the targets, π a permutation, λ ~ Beta(α, α). As in the
    authors' code λ is not folded to max(λ, 1 − λ), and a row may be its own partner.

    Args:
      key: random key.
      x: `(N, ...)`, floating.
      targets: `(N, K)` soft labels, as from `jax.nn.one_hot`, or `(N, ...)` of a regression.
      alpha: α ≥ 0, may be traced; 0 returns the batch.
      mask: `(N,)`, 0 for padding rows, which are not mixed into others nor others into them.
      per_example: draw a λ for each example instead of one for the batch, as the authors do.

    Returns:
      The mixed examples and targets, of the given shapes and dtypes.

    Raises:
      ValueError: `x` or `targets` not floating, or the numbers of rows differ.

    >>> x, targets = jnp.array([[0.0], [1.0]]), jax.nn.one_hot(jnp.array([0, 1]), 2)
    >>> x, targets = mixup(jax.random.key(2), x, targets, alpha=1.0)
    >>> bool((x[:, 0] == targets[:, 1]).all())
    True
    """
    _check(x, targets)
    partner_key, share_key = jax.random.split(key)
    n = len(x)
    partner = partners(partner_key, n, mask)
    lam = jnp.broadcast_to(_shares(share_key, alpha, n if per_example else 1), (n,))
    return mix(x, x[partner], lam), mix(targets, targets[partner], lam)


def cutmix(
    key: jax.Array,
    x: jax.Array,
    targets: jax.Array,
    alpha: Number,
    mask: jax.Array | None = None,
    per_example: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Yun et al. (2019): a box of each image comes from another of the batch, the label with it.

    λ ~ Beta(α, α). The box has sides ⌊H√(1 − λ)⌋ and ⌊W√(1 − λ)⌋ (the authors' code makes them
    even), its centre is uniform over the pixels, what hangs over is cut off. The labels' λ is
    then the share of pixels that an image really keeps.

    Args:
      key: random key.
      x: `(N, H, W, C)`, floating.
      targets: `(N, K)` soft labels, as from `jax.nn.one_hot`.
      alpha: α ≥ 0, may be traced; 0 returns the batch.
      mask: `(N,)`, 0 for padding rows, which are not mixed into others nor others into them.
      per_example: draw λ and the box for each example instead of once for the batch, as the
        authors do.

    Returns:
      The mixed images and targets, of the given shapes and dtypes.

    Raises:
      ValueError: `x` is not a batch of images, targets are not floating, or the numbers of rows
        differ.

    >>> x, targets = jnp.zeros((2, 4, 4, 1)).at[1].set(1), jax.nn.one_hot(jnp.array([0, 1]), 2)
    >>> x, targets = cutmix(jax.random.key(2), x, targets, alpha=1.0)
    >>> bool((x.mean((1, 2, 3)) == targets[:, 1]).all())
    True
    """
    check_images(x)
    _check(x, targets)
    n, height, width, _ = x.shape
    partner_key, share_key, box_key = jax.random.split(key, 3)
    partner = partners(partner_key, n, mask)
    lam = _shares(share_key, alpha, n if per_example else 1)
    sides = jnp.sqrt(1 - lam)[:, None] * jnp.array([[height, width]], jnp.float32)
    box = boxes(box_key, jnp.floor(sides).astype(jnp.int32), height, width)
    kept = jnp.mean(~box, axis=(1, 2), dtype=wide(targets.dtype))
    mixed = jnp.where(box[..., None], x[partner], x)
    return mixed, mix(targets, targets[partner], jnp.broadcast_to(kept, (n,)))
