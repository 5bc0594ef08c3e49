"""Activations by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.01 * x),  # at 0 a slope of .01, as in PyTorch
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),  # exact, as in PyTorch
    "selu": jax.nn.selu,
}
