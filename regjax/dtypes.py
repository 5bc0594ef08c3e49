"""The dtype to compute in: what is summed or normalized is so in at least float32."""

from typing import Any

import jax
import jax.numpy as jnp


def wide(dtype: Any) -> Any:
    """Returns the dtype, or float32 where it is of less precision.

    >>> wide(jnp.bfloat16)
    dtype('float32')
    """
    return jnp.promote_types(dtype, jnp.float32)


def widen(x: jax.Array) -> jax.Array:
    """Returns an array in at least float32.

    >>> widen(jnp.ones(2, jnp.bfloat16))
    Array([1., 1.], dtype=float32)
    """
    return x.astype(wide(x.dtype))
