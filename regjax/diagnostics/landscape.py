"""Smoothness of the loss along its gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PyTree = Any


class Smoothness(NamedTuple):
    """What is met along w − η·∇L(w), for each rate η.

    Attributes:
      losses: `(R,)` L there; how far they spread is the variation of the loss.
      changes: `(R,)` ‖∇L there − ∇L(w)‖₂, gradient predictiveness.
      beta: largest change over the distance moved, the effective β-smoothness; 0 where the gradient
        is.
    """

    losses: jax.Array
    changes: jax.Array
    beta: jax.Array


def smoothness(loss: Callable[[PyTree], jax.Array], params: PyTree, rates: jax.Array) -> Smoothness:
    """Loss and gradient along the gradient (Santurkar et al. 2018, section 3.1).

    Args:
      loss: `loss(params) -> scalar`.
      params: w.
      rates: `(R,)` η > 0, may be traced; one after the other, so that memory holds one gradient.

    >>> s = smoothness(lambda w: 3 * (w**2).sum() / 2, jnp.array([1.0]), jnp.array([0.1, 0.2]))
    >>> s.beta.round(4)  # a quadratic's β is its curvature
    Array(3., dtype=float32)
    """
    rates = jnp.asarray(rates)
    start = jax.grad(loss)(params)
    norm = optax.tree.norm(start)

    def at(rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        there = jax.tree.map(lambda w, g: w - (rate * g).astype(w.dtype), params, start)
        value, gradient = jax.value_and_grad(loss)(there)
        return value, optax.tree.norm(jax.tree.map(jnp.subtract, gradient, start))

    losses, changes = jax.lax.map(at, rates)
    moved = rates * norm
    return Smoothness(losses, changes, jnp.where(moved > 0, changes / moved, 0).max())
