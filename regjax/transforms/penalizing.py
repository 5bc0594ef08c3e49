"""Pulling weights towards zero: a penalty's gradient, coupled and decoupled decay."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from regjax import trees
from regjax.transforms.common import Count, Strength, check_given, masked, start, value

PyTree = Any


def add_penalty(
    penalty: Callable[[PyTree], jax.Array], strength: Strength, mask: trees.Rule = "all"
) -> optax.GradientTransformation:
    """Adds the gradient of λ·Ω(w), as if the loss had the term; before momentum or Adam.

    Args:
      penalty: Ω, such as `regjax.penalties.l1`.
      strength: λ, a number, traced array or schedule.
      mask: which parameters Ω sees.

    Raises:
      ValueError: at `init`, a mask that matches nothing; at `update`, no params.

    >>> tx = add_penalty(lambda w: (w**2).sum(), 0.5)
    >>> w = jnp.array([3.0])
    >>> tx.update(jnp.array([1.0]), tx.init(w), w)[0]
    Array([4.], dtype=float32)
    """

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Count]:
        check_given(params, "add_penalty")
        scale = value(strength, state.count)
        gradient = jax.grad(penalty)(params)
        updates = jax.tree.map(lambda g, d: g + (scale * d).astype(g.dtype), updates, gradient)
        return updates, Count(state.count + 1)

    return masked(optax.GradientTransformation(start, update), mask)


def coupled_decay(strength: Strength, mask: trees.Rule = "all") -> optax.GradientTransformation:
    """g + s·w, before momentum or Adam: the `weight_decay` of `torch.optim.SGD` and `Adam`.

    The gradient of ½s·Σw²: for λ·Σw² in the loss take s = 2λ. `optax.add_decayed_weights`.

    >>> tx = coupled_decay(0.5)
    >>> w = jnp.array([3.0])
    >>> tx.update(jnp.array([1.0]), tx.init(w), w)[0]
    Array([2.5], dtype=float32)
    """
    return masked(optax.add_decayed_weights(strength), mask)  # pyright: ignore[reportArgumentType]


def decoupled_decay(
    strength: Strength, learning_rate: Strength = 1.0, mask: trees.Rule = "all"
) -> optax.GradientTransformation:
    """u − η·s·w, after the learning rate: Loshchilov & Hutter (2019).

    With `learning_rate` the current η it is the decay of `torch.optim.AdamW`, `optax.adamw` and
    Keras; with η = 1 the decay is independent of the learning rate, as in the paper where that has
    no schedule (which there multiplies the decay too).

    Args:
      strength: s, a number, traced array or schedule.
      learning_rate: η, likewise.
      mask: what decays.

    >>> tx = decoupled_decay(0.5, learning_rate=0.1)
    >>> w = jnp.array([2.0])
    >>> tx.update(jnp.array([1.0]), tx.init(w), w)[0]
    Array([0.9], dtype=float32)
    """

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Count]:
        check_given(params, "decoupled_decay")
        scale = value(strength, state.count) * value(learning_rate, state.count)

        def decay(u: jax.Array, w: jax.Array) -> jax.Array:
            return u - jnp.asarray(scale, u.dtype) * w.astype(u.dtype)

        return jax.tree.map(decay, updates, params), Count(state.count + 1)

    return masked(optax.GradientTransformation(start, update), mask)
