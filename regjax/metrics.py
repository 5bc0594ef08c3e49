"""Metrics on logits, and exact means over padded batches."""

import jax
import jax.numpy as jnp


def correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the largest logit is the label's, 1.0 or 0.0 for each example.

    An example with a non-finite logit counts as wrong: a diverged network knows nothing, though
    the argmax of its NaNs would be right for one class.

    Args:
      logits: `(..., K)`.
      labels: `(...)`, integers.

    >>> correct(jnp.array([[1.0, 2.0], [jnp.nan, 2.0]]), jnp.array([1, 0]))
    Array([1., 0.], dtype=float32)
    """
    hit = jnp.argmax(logits, axis=-1) == labels
    return (hit & jnp.isfinite(logits).all(axis=-1)).astype(jnp.float32)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the values whose mask is 1; the padding is not looked at, even if it is NaN.

    Args:
      values: `(N,)`.
      mask: `(N,)` of 0 and 1, at least one of them 1.

    >>> masked_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0]))
    Array(2., dtype=float32)
    """
    return jnp.where(mask > 0, values, 0).sum() / mask.sum()
