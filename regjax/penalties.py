"""Penalties on parameters, each a pure function of a tree of parameters to a scalar.

They return Ω(w) without its strength; the objective adds λ·Ω to the data loss and reports it
apart. Added to the loss, λ·l2 is a coupled weight decay of 2λ for plain SGD.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
Penalty = Callable[[PyTree], jax.Array]


def _sum(params: PyTree, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    leaves = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in _leaves(params)]
    return sum((function(leaf).sum() for leaf in leaves), start=jnp.zeros((), jnp.float32))


def _leaves(params: PyTree) -> list[jax.Array]:
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(params)]


def none(params: PyTree) -> jax.Array:
    """No penalty: 0.

    >>> none({"kernel": jnp.array([3.0, -4.0])})
    Array(0., dtype=float32)
    """
    del params
    return jnp.zeros((), jnp.float32)


def l1(params: PyTree) -> jax.Array:
    """Lasso, Σ|w| (Tibshirani 1996), summed in at least float32.

    Its gradient is sign(w), 0 at 0; descending it does not give exact zeros, a proximal step does.

    >>> l1({"kernel": jnp.array([3.0, -4.0])})
    Array(7., dtype=float32)
    """
    return _sum(params, jnp.abs)


def l2(params: PyTree) -> jax.Array:
    """Ridge, Σw² without the ½ (Hoerl & Kennard 1970), summed in at least float32.

    >>> l2({"kernel": jnp.array([3.0, -4.0])})
    Array(25., dtype=float32)
    """
    return _sum(params, jnp.square)


def elastic_net(params: PyTree, l1_ratio: jax.Array | float = 0.5) -> jax.Array:
    """r·Σ|w| + (1 − r)·Σw² (Zou & Hastie 2005); at r = ½ the mean of L1 and L2.

    scikit-learn's `ElasticNet` has ½(1 − r)Σw² in the second term.

    >>> elastic_net({"kernel": jnp.array([3.0, -4.0])})
    Array(16., dtype=float32)
    """
    return l1_ratio * l1(params) + (1 - l1_ratio) * l2(params)


PENALTIES: dict[str, Penalty] = {"none": none, "l1": l1, "l2": l2, "elastic": elastic_net}
