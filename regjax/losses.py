"""Losses, one value an example."""

import jax
import jax.numpy as jnp


def cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: jax.Array | float = 0.0
) -> jax.Array:
    """Cross-entropy with label smoothing, −Σₖ qₖ log softmax(logits)ₖ, for each example.

    Targets are q = (1 − ε)·onehot(y) + ε/K (Szegedy et al. 2016; torch, optax and Keras agree).
    The other convention, ε over the K − 1 wrong classes, is this one with ε·K/(K − 1).

    Args:
      logits: `(..., K)`, floating; computed in at least float32.
      labels: `(...)`, integers in [0, K).
      label_smoothing: ε in [0, 1], may be traced.

    Returns:
      `(...)` losses in at least float32.

    >>> cross_entropy(jnp.zeros((1, 4)), jnp.array([2])).round(4)
    Array([1.3863], dtype=float32)
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    hit = jnp.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
    return -(1 - label_smoothing) * hit - label_smoothing * log_p.mean(-1)
