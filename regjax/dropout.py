"""Dropout with a traced rate."""

import jax
import jax.numpy as jnp


def dropout(key: jax.Array, x: jax.Array, rate: jax.Array | float) -> jax.Array:
    """Zeroes each value with probability `rate` and scales the others by 1 / (1 − rate).

    Srivastava et al. (2014), in the inverted form that PyTorch, Flax and Keras share: `rate` is
    the probability to *drop*; the paper's p is the probability to retain. Rate 0 returns `x`
    and rate 1 zeros, both exactly.

    Args:
      key: random key.
      x: values of any shape, floating.
      rate: in [0, 1], may be traced.

    Returns:
      Values of `x`'s shape and dtype.

    >>> dropout(jax.random.key(0), jnp.ones(4), 0.0)
    Array([1., 1., 1., 1.], dtype=float32)
    >>> dropout(jax.random.key(0), jnp.ones(4), 1.0)
    Array([0., 0., 0., 0.], dtype=float32)
    """
    keep = 1 - jnp.asarray(rate, jnp.float32)
    # uniform is in [0, 1): below 1 always, below 0 never.
    kept = jax.random.uniform(key, x.shape) < keep
    scale = jnp.where(keep > 0, 1 / jnp.where(keep > 0, keep, 1), 0)
    return jnp.where(kept, x * scale.astype(x.dtype), jnp.zeros((), x.dtype))
