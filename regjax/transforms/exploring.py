"""Gradients taken elsewhere than where the parameters are: noise, sharpness-aware steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

PyTree = Any
Number = jax.Array | float


def gradient_noise(
    key: jax.Array, eta: Number = 0.3, gamma: Number = 0.55
) -> optax.GradientTransformation:
    """Neelakantan et al. (2015): g + N(0, η / (1 + t)^γ), `optax.add_noise`.

    Args:
      key: random key, kept in the state and split at each update.
      eta: η, the variance of the first update.
      gamma: γ, how fast it falls.

    >>> tx = gradient_noise(jax.random.key(0), eta=0.0)
    >>> tx.update(jnp.ones(1), tx.init(jnp.ones(1)))[0]
    Array([1.], dtype=float32)
    """
    return optax.add_noise(eta, gamma, key)


def sam(rho: Number = 0.05) -> optax.GradientTransformationExtraArgs:
    """Sharpness-aware minimization, Foret et al. (2021): the gradient at w + ρ·g / ‖g‖.

    First in a chain. It takes a second gradient, so `update` must be given the function:
    `tx.update(grads, state, params, gradient=gradient)`, where `gradient(params)` is the gradient
    of the same batch's loss. A gradient of zeros is left as it is.

    Args:
      rho: ρ, the radius.

    >>> tx = optax.chain(sam(0.5), optax.sgd(1.0))
    >>> w, gradient = jnp.array([2.0]), jax.grad(lambda w: (w**2).sum())
    >>> tx.update(gradient(w), tx.init(w), w, gradient=gradient)[0]
    Array([-5.], dtype=float32)
    """

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        gradient: Callable[[PyTree], PyTree] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, Any]:
        del extra
        if params is None or gradient is None:
            raise ValueError(
                "sam needs params and gradient: tx.update(grads, state, params, gradient=...)"
            )
        norm = optax.tree.norm(updates)
        scale = rho / jnp.where(norm > 0, norm, 1)
        there = jax.tree.map(lambda w, g: w + (scale * g).astype(w.dtype), params, updates)
        return gradient(there), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
