"""Penalties on what the network computes, not on its parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from regjax.dtypes import widen


def jacobian(
    apply: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    key: jax.Array,
    projections: int = 1,
    mask: jax.Array | None = None,
) -> jax.Array:
    """½‖∂z/∂x‖² of each example, estimated by random projections (Hoffman, Roberts & Yaida 2019).

    K/(2P) · Σ ‖vᵀ ∂z/∂x‖² with P random directions v of length 1 in the K outputs: right in the
    mean for one, and cheap: a backward pass each.

    Args:
      apply: maps `(N, ...)` inputs to `(N, K)` outputs, each row from its own input; through batch
        norm also from the others'.
      x: `(N, ...)`.
      key: random key for the directions.
      projections: P, static.
      mask: `(N,)`, 0 for padding rows, whose outputs do not count in any row's penalty; None: all
        count.

    Returns:
      `(N,)`.

    >>> jacobian(lambda x: 3 * x, jnp.ones((2, 1)), jax.random.key(0))
    Array([4.5, 4.5], dtype=float32)
    """
    outputs, pull = jax.vjp(apply, x)
    directions = jax.random.normal(key, (projections, *outputs.shape), outputs.dtype)
    directions /= jnp.sqrt(jnp.square(directions).sum(-1, keepdims=True))
    if mask is not None:  # batch norm carries a padding row's direction to the inputs that count
        directions *= mask.astype(outputs.dtype)[None, :, None]
    gradients = jax.vmap(lambda v: pull(v)[0])(directions)
    squares = jnp.square(gradients).reshape(projections, len(x), -1).sum(-1)
    return outputs.shape[-1] / 2 * squares.mean(0)


def entropy(logits: jax.Array) -> jax.Array:
    """−H(p) = Σ p log p of each example's softmax: the confidence penalty of Pereyra et al. (2017).

    Args:
      logits: `(..., K)`.

    Returns:
      `(...)`, from −log K (nothing known) to 0 (certain), in at least float32.

    >>> entropy(jnp.zeros((1, 4))).round(4)
    Array([-1.3863], dtype=float32)
    """
    log_p = jax.nn.log_softmax(widen(logits))
    possible = log_p > -jnp.inf  # a logit of −inf has p log p = 0, with gradient 0
    log_p = jnp.where(possible, log_p, 0)
    return jnp.where(possible, jnp.exp(log_p) * log_p, 0).sum(-1)
