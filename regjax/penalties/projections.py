"""Projections on constraint sets: the nearest parameters that satisfy them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from regjax.dtypes import widen
from regjax.penalties.parameters import as_matrix, length

PyTree = Any
Number = jax.Array | float


def _by_unit(params: PyTree, factor: Callable[[jax.Array], jax.Array]) -> PyTree:
    """Multiplies the weights of each unit by a function of their length."""

    def rescale(w: jax.Array) -> jax.Array:
        matrix = as_matrix(w)
        wide = widen(matrix)
        return (wide * factor(length(wide, 0))).astype(w.dtype).reshape(w.shape)

    return jax.tree.map(rescale, params)


def project_max_norm(params: PyTree, radius: Number) -> PyTree:
    """Each unit's incoming weights to a length of at most `radius` (Srebro; Srivastava 2014).

    w · min(1, c / ‖w‖), `keras.constraints.MaxNorm` over all axes but the last, without its 1e-7.

    >>> project_max_norm(jnp.array([[3.0, 0.0], [4.0, 0.5]]), 2.5)
    Array([[1.5, 0. ],
           [2. , 0.5]], dtype=float32)
    """

    def factor(lengths: jax.Array) -> jax.Array:
        inside = lengths <= radius
        return jnp.where(inside, 1, radius / jnp.where(inside, 1, lengths))

    return _by_unit(params, factor)


def project_unit(params: PyTree) -> PyTree:
    """Each unit's incoming weights to length 1; a unit of zeros stays so.

    `keras.constraints.UnitNorm` over all axes but the last, without its 1e-7.

    >>> project_unit(jnp.array([[8.0, 0.0], [0.0, 0.0]]))
    Array([[1., 0.],
           [0., 0.]], dtype=float32)
    """
    return _by_unit(params, lambda lengths: 1 / jnp.where(lengths > 0, lengths, 1))


def project_l1_ball(params: PyTree, radius: Number) -> PyTree:
    """The nearest tree with Σ|w| ≤ radius over all leaves together (Duchi et al. 2008).

    `optax.projections.projection_l1_ball`, which takes traced radii; and at 0, zeros.

    >>> project_l1_ball(jnp.array([3.0, -2.0]), 2.0)
    Array([ 1.5, -0.5], dtype=float32)
    """
    if not jax.tree.leaves(params):
        return params
    some = jnp.asarray(radius) > 0
    wide = jax.tree.map(widen, params)
    nearest = optax.projections.projection_l1_ball(wide, jnp.where(some, radius, 1))  # pyright: ignore
    return jax.tree.map(lambda w, x: jnp.where(some, x, 0).astype(w.dtype), params, nearest)
