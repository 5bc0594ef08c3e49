"""Penalties Ω(parameters), each a pure function of a tree to a scalar, without its strength.

Sums are in at least float32. Kernels are `(*window, in, out)`; a unit is a column of the matrix
`(window · in, out)`, an input feature one of its rows. A vector is a matrix of one row: each value
a unit by itself, all of them one input.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from regjax.dtypes import widen

PyTree = Any
Number = jax.Array | float
Penalty = Callable[[PyTree], jax.Array]


def total(params: PyTree, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The sum of a function's values over all leaves, in at least float32.

    >>> total({"w": jnp.array([3.0, -4.0])}, jnp.abs)
    Array(7., dtype=float32)
    """
    leaves = [widen(jnp.asarray(leaf)) for leaf in jax.tree.leaves(params)]
    return sum((function(leaf).sum() for leaf in leaves), start=jnp.zeros((), jnp.float32))


def as_matrix(leaf: jax.Array) -> jax.Array:
    """A kernel as the matrix `(window · in, out)`; a vector as one row.

    >>> as_matrix(jnp.zeros((3, 3, 2, 5))).shape
    (18, 5)
    """
    return leaf.reshape(-1, leaf.shape[-1]) if leaf.ndim else leaf.reshape(1, 1)


def length(x: jax.Array, axis: int) -> jax.Array:
    """Euclidean norms along an axis, kept with size 1; the gradient at 0 is 0, not NaN.

    >>> jax.grad(lambda x: length(x, 0).sum())(jnp.zeros((2, 1))).ravel()
    Array([0., 0.], dtype=float32)
    """
    square = jnp.square(x).sum(axis, keepdims=True)
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def none(params: PyTree) -> jax.Array:
    """No penalty: 0.

    >>> none({"kernel": jnp.array([3.0, -4.0])})
    Array(0., dtype=float32)
    """
    del params
    return jnp.zeros((), jnp.float32)


def l1(params: PyTree) -> jax.Array:
    """Lasso, Σ|w| (Tibshirani 1996).

    Its gradient is sign(w), 0 at 0; descending it does not give exact zeros, `prox_l1` does.

    >>> l1({"kernel": jnp.array([3.0, -4.0])})
    Array(7., dtype=float32)
    """
    return total(params, _absolute)


def _absolute(w: jax.Array) -> jax.Array:
    return w * jax.lax.stop_gradient(jnp.sign(w))  # JAX's derivative of `abs` at 0 is 1


def l2(params: PyTree) -> jax.Array:
    """Ridge, Σw² without the ½ (Hoerl & Kennard 1970).

    >>> l2({"kernel": jnp.array([3.0, -4.0])})
    Array(25., dtype=float32)
    """
    return total(params, jnp.square)


def elastic_net(params: PyTree, l1_ratio: Number = 0.5) -> jax.Array:
    """r·Σ|w| + (1 − r)·Σw² (Zou & Hastie 2005); at r = ½ the mean of L1 and L2.

    scikit-learn's `ElasticNet` has ½(1 − r)Σw² in the second term.

    >>> elastic_net({"kernel": jnp.array([3.0, -4.0])})
    Array(16., dtype=float32)
    """
    return l1_ratio * l1(params) + (1 - l1_ratio) * l2(params)


def group_lasso(params: PyTree, groups: str = "outputs") -> jax.Array:
    """Σ √p · ‖w_g‖₂ over groups of p weights (Yuan & Lin 2006).

    Args:
      params: parameters.
      groups: `outputs`: the incoming weights of a unit; `inputs`: the outgoing weights of an
        input value, so that a zero group is an input never used.

    Raises:
      ValueError: another name.

    >>> group_lasso({"kernel": jnp.array([[3.0, 0.0], [4.0, 0.0]])}).round(3)
    Array(7.071, dtype=float32)
    """
    axis = group_axis(groups)

    def lengths(leaf: jax.Array) -> jax.Array:
        matrix = as_matrix(leaf)
        return jnp.sqrt(float(matrix.shape[axis])) * length(matrix, axis)

    return total(params, lengths)


def group_axis(groups: str) -> int:
    """The axis of `as_matrix` that runs inside a group.

    >>> group_axis("outputs")
    0
    """
    if groups not in ("outputs", "inputs"):
        raise ValueError(f"groups must be 'outputs' or 'inputs', got {groups!r}")
    return 0 if groups == "outputs" else 1


def nuclear(params: PyTree) -> jax.Array:
    """Σ of the singular values of each kernel, the convex form of low rank (Fazel 2002).

    >>> nuclear({"kernel": jnp.diag(jnp.array([3.0, -4.0]))}).round(4)
    Array(7., dtype=float32)
    """
    return total(params, lambda leaf: jnp.linalg.svd(as_matrix(leaf), compute_uv=False))


def orthogonality(params: PyTree) -> jax.Array:
    """Σ‖WᵀW − I‖² of each kernel, or ‖WWᵀ − I‖² where it is wide (Bansal et al. 2018).

    >>> orthogonality({"kernel": 2 * jnp.eye(2)})
    Array(18., dtype=float32)
    """

    def distance(leaf: jax.Array) -> jax.Array:
        matrix = as_matrix(leaf)
        tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        return jnp.square(tall.T @ tall - jnp.eye(tall.shape[1], dtype=tall.dtype))

    return total(params, distance)


def max_norm(params: PyTree, radius: Number = 1.0) -> jax.Array:
    """Σ max(0, ‖w_u‖ − c)² over units: the squared distance to the max-norm constraint.

    Srivastava et al. (2014) project instead, `project_max_norm`.

    >>> max_norm({"kernel": jnp.array([[3.0, 0.1], [4.0, 0.1]])})
    Array(16., dtype=float32)
    """

    def distance(leaf: jax.Array) -> jax.Array:
        return jnp.square(jnp.maximum(length(as_matrix(leaf), 0) - radius, 0))

    return total(params, distance)


def scale_factor(scale: str, params: PyTree, examples: Number) -> Number:
    """What a strength is multiplied by: 1, 1 / (number of parameters) or 1 / (examples).

    Notes print λ/n · Σ where their code has λ · Σ; here the scale has a name.

    Args:
      scale: `sum`, `mean` (over the parameters given) or `per_example`.
      params: what the penalty covers.
      examples: n, the size of the training set.

    Raises:
      ValueError: another name.

    >>> scale_factor("mean", {"kernel": jnp.zeros((2, 5))}, examples=1000)
    0.1
    """
    if scale == "sum":
        return 1.0
    if scale == "mean":
        return 1 / max(1, sum(leaf.size for leaf in jax.tree.leaves(params)))
    if scale == "per_example":
        return 1 / examples
    raise ValueError(f"scale must be 'sum', 'mean' or 'per_example', got {scale!r}")


PENALTIES: dict[str, Penalty] = {
    "none": none,
    "l1": l1,
    "l2": l2,
    "elastic": elastic_net,
    "group_lasso": group_lasso,
    "nuclear": nuclear,
    "orthogonality": orthogonality,
    "max_norm": max_norm,
}
