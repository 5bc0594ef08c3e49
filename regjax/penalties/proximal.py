"""Proximal operators: prox(w, s) = argmin over x of ½‖x − w‖² + s · Ω(x), on any tree.

Ω is the penalty of the same name, and s the strength times the step size. They set weights to
exactly 0, which a gradient step does not. s is a number or a traced array; s = 0 changes nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from regjax.dtypes import widen
from regjax.penalties.parameters import as_matrix, group_axis, length

PyTree = Any
Number = jax.Array | float
Prox = Callable[[PyTree, Number], PyTree]


def _soft(x: jax.Array, threshold: Number) -> jax.Array:
    threshold = jnp.asarray(threshold, x.dtype)
    return x - jnp.clip(x, -threshold, threshold)


def prox_none(params: PyTree, strength: Number) -> PyTree:
    """The operator of no penalty: the identity.

    >>> prox_none(3.0, 1.0)
    3.0
    """
    del strength
    return params


def prox_l1(params: PyTree, strength: Number) -> PyTree:
    """Soft thresholding: sign(w) · max(|w| − s, 0) (Donoho 1995), the operator of `l1`.

    >>> prox_l1(jnp.array([3.0, -0.5]), 1.0)
    Array([2., 0.], dtype=float32)
    """
    return jax.tree.map(lambda w: _soft(w, strength), params)


def prox_l2(params: PyTree, strength: Number) -> PyTree:
    """Shrinking: w / (1 + 2s), the operator of `l2` = Σw².

    >>> prox_l2(jnp.array([3.0, -0.5]), 1.0)
    Array([ 1.        , -0.16666667], dtype=float32)
    """
    return jax.tree.map(lambda w: w / (1 + 2 * jnp.asarray(strength, w.dtype)), params)


def prox_elastic_net(params: PyTree, strength: Number, l1_ratio: Number = 0.5) -> PyTree:
    """Thresholding by s·r, then shrinking by 1 + 2s(1 − r): the operator of `elastic_net`.

    >>> prox_elastic_net(jnp.array([3.0, -0.5]), 1.0)
    Array([1.25, 0.  ], dtype=float32)
    """
    return prox_l2(prox_l1(params, strength * l1_ratio), strength * (1 - l1_ratio))


def prox_group_lasso(params: PyTree, strength: Number, groups: str = "outputs") -> PyTree:
    """w_g · max(1 − s√p / ‖w_g‖, 0) for each group of p weights: the operator of `group_lasso`.

    >>> prox_group_lasso(jnp.array([[3.0, 0.3], [4.0, 0.4]]), 2.5 / 2**0.5)
    Array([[1.5, 0. ],
           [2. , 0. ]], dtype=float32)
    """
    axis = group_axis(groups)

    def shrink(w: jax.Array) -> jax.Array:
        matrix = widen(as_matrix(w))
        threshold = jnp.asarray(strength, matrix.dtype) * jnp.sqrt(float(matrix.shape[axis]))
        lengths = length(matrix, axis)
        kept = lengths > threshold
        factor = jnp.where(kept, 1 - threshold / jnp.where(kept, lengths, 1), 0)
        return (matrix * factor).astype(w.dtype).reshape(w.shape)

    return jax.tree.map(shrink, params)


def prox_nuclear(params: PyTree, strength: Number) -> PyTree:
    """Soft thresholding of the singular values (Cai et al. 2010): the operator of `nuclear`.

    >>> prox_nuclear(jnp.diag(jnp.array([3.0, 0.5])), 1.0).round(4)
    Array([[2., 0.],
           [0., 0.]], dtype=float32)
    """

    def shrink(w: jax.Array) -> jax.Array:
        left, values, right = jnp.linalg.svd(widen(as_matrix(w)), full_matrices=False)
        values = _soft(values, strength)
        return ((left * values[None, :]) @ right).astype(w.dtype).reshape(w.shape)

    return jax.tree.map(shrink, params)


PROXIMAL: dict[str, Prox] = {
    "none": prox_none,
    "l1": prox_l1,
    "l2": prox_l2,
    "elastic": prox_elastic_net,
    "group_lasso": prox_group_lasso,
    "nuclear": prox_nuclear,
}
