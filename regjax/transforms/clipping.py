"""Clipping of gradients, first in a chain.

A NaN is not hidden: by value it stays, by a norm it spreads to all that the norm is of. An infinity
becomes the threshold by value; by a norm a NaN, and all beside it 0, as in PyTorch.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from regjax.dtypes import widen

Number = jax.Array | float
PyTree = Any


def clip_by_value(threshold: Number) -> optax.GradientTransformation:
    """Each value to [−T, T]: `optax.clip`, `torch.nn.utils.clip_grad_value_`.

    It changes the gradient's direction.

    >>> clip_by_value(1.0).update(jnp.array([3.0, -0.5]), optax.EmptyState())[0]
    Array([ 1. , -0.5], dtype=float32)
    """
    return optax.clip(threshold)  # pyright: ignore[reportArgumentType] - may be traced


def clip_by_norm(max_norm: Number, convention: str = "torch") -> optax.GradientTransformation:
    """Scales the whole gradient to a norm of at most `max_norm` (Pascanu et al. 2013).

    `torch`: g · min(1, T / (‖g‖ + 1e-6)), `torch.nn.utils.clip_grad_norm_`. `optax`: g · min(1,
    T / ‖g‖), `optax.clip_by_global_norm` and Keras's `global_clipnorm`. The norm is over all
    leaves together, in at least float32; a gradient of zeros stays zero.

    Args:
      max_norm: T above 0, may be traced.
      convention: `torch` or `optax`.

    Raises:
      ValueError: another convention.

    >>> tx = clip_by_norm(1.0)
    >>> updates, _ = tx.update({"w": jnp.array([3.0, 4.0])}, tx.init(None))
    >>> jnp.allclose(updates["w"], jnp.array([0.6, 0.8]), atol=1e-5).item()
    True
    """
    if convention not in ("torch", "optax"):
        raise ValueError(f"convention must be 'torch' or 'optax', got {convention!r}")
    theirs = optax.clip_by_global_norm(max_norm)  # pyright: ignore[reportArgumentType]

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        del params
        wide = jax.tree.map(widen, updates)  # in half precision a norm soon overflows
        if convention == "optax":
            clipped, state = theirs.update(wide, state)
        else:
            factor = jnp.minimum(1, max_norm / (optax.tree.norm(wide) + 1e-6))
            clipped = jax.tree.map(lambda g: g * factor.astype(g.dtype), wide)
        return jax.tree.map(lambda c, g: c.astype(g.dtype), clipped, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_by_leaf_norm(max_norm: Number) -> optax.GradientTransformation:
    """Scales each leaf by itself to a norm of at most `max_norm`: Keras's `clipnorm`.

    >>> tx = clip_by_leaf_norm(1.0)
    >>> tx.update([jnp.array([0.0, 5.0]), jnp.array([0.5])], tx.init(None))[0]
    [Array([0., 1.], dtype=float32), Array([0.5], dtype=float32)]
    """

    def clip(g: jax.Array) -> jax.Array:
        norm = jnp.sqrt(jnp.square(widen(g)).sum())
        long = norm > max_norm  # of no length also where max_norm is 0
        return g * jnp.where(long, max_norm / jnp.where(long, norm, 1), 1).astype(g.dtype)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        del params
        return jax.tree.map(clip, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def adaptive_clip(clipping: Number, epsilon: Number = 1e-3) -> optax.GradientTransformation:
    """Brock et al. (2021): each unit's gradient to at most `clipping` times its weights' norm.

    `optax.adaptive_grad_clip`; weights count as at least `epsilon` long, so that zeros can move. A
    kernel of one input, `(1, n)`, is clipped as optax does, as a whole, like a bias.

    >>> tx = adaptive_clip(0.5)
    >>> w, g = jnp.array([[2.0], [0.0]]), jnp.array([[4.0], [0.0]])
    >>> tx.update(g, tx.init(w), w)[0].ravel()
    Array([1., 0.], dtype=float32)
    >>> w, g = jnp.array([[0.0, 5.0]]), jnp.array([[4.0, 3.0]])  # of one input
    >>> tx.update(g, tx.init(w), w)[0]
    Array([[2. , 1.5]], dtype=float32)
    """
    return optax.adaptive_grad_clip(clipping, epsilon)
