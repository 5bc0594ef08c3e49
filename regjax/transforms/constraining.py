"""Steps that look at where the update leads: proximal steps and projections, last in a chain."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

from regjax import trees
from regjax.transforms.common import Count, Strength, check_given, masked, start, value

PyTree = Any


def proximal(
    prox: Callable[[PyTree, Any], PyTree],
    strength: Strength,
    learning_rate: Strength,
    mask: trees.Rule = "all",
) -> optax.GradientTransformation:
    """w ← prox(w + u, η·λ): a proximal gradient step (Parikh & Boyd 2014), with exact zeros.

    The penalty stays out of the loss. After `optax.scale_by_learning_rate`, with the same η. After
    plain steps, u = −η·g, this minimizes loss + λ·Ω; Adam and its kin step η·Pg with a P of each
    weight's own, and this still goes by η·λ and not by η·λ·P: a decoupled penalty, as AdamW's
    decay, whose minimum is another.

    Args:
      prox: such as `regjax.penalties.prox_l1`.
      strength: λ, a number, traced array or schedule.
      learning_rate: η, likewise.
      mask: which parameters it is for.

    >>> import jax.numpy as jnp; from regjax.penalties import prox_l1
    >>> tx = proximal(prox_l1, 1.0, learning_rate=0.5)
    >>> w = jnp.array([0.3, 2.0])
    >>> optax.apply_updates(w, tx.update(jnp.zeros(2), tx.init(w), w)[0])
    Array([0. , 1.5], dtype=float32)
    """

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Count]:
        step = value(learning_rate, state.count) * value(strength, state.count)
        return _towards(lambda w: prox(w, step), updates, params), Count(state.count + 1)

    return masked(optax.GradientTransformation(start, update), mask)


def project(
    projection: Callable[[PyTree], PyTree], mask: trees.Rule = "all"
) -> optax.GradientTransformation:
    """w ← projection(w + u): projected gradient descent; last in a chain.

    Args:
      projection: such as `lambda w: regjax.penalties.project_max_norm(w, 3.0)`.
      mask: which parameters it is for.

    >>> import jax.numpy as jnp; from regjax.penalties import project_unit
    >>> tx = project(project_unit)
    >>> w = jnp.array([[1.0], [0.0]])
    >>> optax.apply_updates(w, tx.update(w, tx.init(w), w)[0]).ravel()
    Array([1., 0.], dtype=float32)
    """
    return masked(optax.stateless(partial(_towards, projection)), mask)


def _towards(function: Callable[[PyTree], PyTree], updates: PyTree, params: PyTree) -> PyTree:
    """The update that leads to function(params + updates)."""
    check_given(params, "this step")
    target = function(optax.apply_updates(params, updates))
    return jax.tree.map(lambda new, w: new - w, target, params)
