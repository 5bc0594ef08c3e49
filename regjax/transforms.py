"""Gradient transformations that optax lacks or defines in another convention than PyTorch.

Each is an `optax.GradientTransformation` and chains with any of optax's; numbers may be traced.
`optax.sgd`'s trace, `optax.scale_by_adam`, `optax.clip` and `optax.add_decayed_weights` are right
as they are and are used directly.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PyTree = Any
Number = jax.Array | float


def clip_by_norm(max_norm: Number) -> optax.GradientTransformation:
    """Scales the whole gradient to a norm of at most `max_norm` (Pascanu et al. 2013).

    g · min(1, T / (‖g‖ + 1e-6)), the norm over all leaves together: `torch.nn.utils.
    clip_grad_norm_`. `optax.clip_by_global_norm` has no 1e-6. A gradient of zeros stays zero.

    >>> tx = clip_by_norm(1.0)
    >>> updates, _ = tx.update({"w": jnp.array([3.0, 4.0])}, tx.init(None))
    >>> jnp.allclose(updates["w"], jnp.array([0.6, 0.8]), atol=1e-5).item()
    True
    """

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        del params
        factor = jnp.minimum(1, max_norm / (optax.tree.norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class AdagradState(NamedTuple):
    """The sum of squared gradients so far."""

    sum_of_squares: PyTree


def scale_by_adagrad(epsilon: Number = 1e-10) -> optax.GradientTransformation:
    """Duchi et al. (2011): g / (√Σg² + ε), `torch.optim.Adagrad`.

    The accumulator starts at 0 and ε stands outside the root; optax and Keras start it at 0.1
    with 1e-7 inside.

    >>> tx = scale_by_adagrad()
    >>> tx.update({"w": jnp.array([-2.0])}, tx.init({"w": jnp.zeros(1)}))[0]["w"]
    Array([-1.], dtype=float32)
    """

    def update(updates: PyTree, state: Any, params: PyTree = None) -> Any:
        del params
        total = jax.tree.map(lambda s, g: s + g * g, state.sum_of_squares, updates)
        scaled = jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + epsilon), updates, total)
        return scaled, AdagradState(total)

    return optax.GradientTransformation(
        lambda params: AdagradState(jax.tree.map(jnp.zeros_like, params)), update
    )
