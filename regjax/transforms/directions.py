"""From a gradient to a direction, where optax has another convention or none.

`optax.scale_by_adam` is PyTorch's Adam and `optax.trace` its momentum without dampening.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from regjax.dtypes import wide

PyTree = Any
Number = jax.Array | float


class MomentumState(NamedTuple):
    """The velocity, and how many updates made it."""

    count: jax.Array
    velocity: PyTree


def momentum(
    decay: Number, dampening: Number = 0.0, nesterov: bool = False
) -> optax.GradientTransformation:
    """v ← μ·v + (1 − d)·g, direction v; with Nesterov g + μ·v (Sutskever et al. 2013).

    `torch.optim.SGD`'s: the first step takes v = g, without dampening; before the learning rate.
    With d = 0 that is `optax.trace`. Placed *after* the learning rate it is Keras's velocity,
    which keeps the rates of the past.

    Args:
      decay: μ.
      dampening: d.
      nesterov: look ahead, static.

    >>> tx = momentum(0.9)
    >>> state = tx.init(jnp.zeros(1))
    >>> for _ in range(2):
    ...     direction, state = tx.update(jnp.ones(1), state)
    >>> direction
    Array([1.9], dtype=float32)
    """

    def init(params: PyTree) -> MomentumState:
        return MomentumState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(updates: PyTree, state: Any, params: PyTree = None) -> Any:
        del params
        share = jnp.where(state.count == 0, 1, 1 - jnp.asarray(dampening))

        def move(v: jax.Array, g: jax.Array) -> jax.Array:
            return jnp.asarray(decay, g.dtype) * v + share.astype(g.dtype) * g

        velocity = jax.tree.map(move, state.velocity, updates)
        direction = velocity
        if nesterov:
            direction = jax.tree.map(
                lambda g, v: g + jnp.asarray(decay, g.dtype) * v, updates, velocity
            )
        return direction, MomentumState(state.count + 1, velocity)

    return optax.GradientTransformation(init, update)


class AdagradState(NamedTuple):
    """The sum of squared gradients so far."""

    sum_of_squares: PyTree


def scale_by_adagrad(
    epsilon: Number = 1e-10, initial: Number = 0.0, epsilon_in_root: bool = False
) -> optax.GradientTransformation:
    """Duchi et al. (2011): g / (√Σg² + ε), `torch.optim.Adagrad`.

    optax and Keras start the sum at 0.1 and have ε = 1e-7 inside the root.

    Args:
      epsilon: ε.
      initial: where the sum starts.
      epsilon_in_root: g / √(Σg² + ε) instead.

    >>> tx = scale_by_adagrad()
    >>> tx.update({"w": jnp.array([-2.0])}, tx.init({"w": jnp.zeros(1)}))[0]["w"]
    Array([-1.], dtype=float32)
    """

    def init(params: PyTree) -> AdagradState:
        return AdagradState(jax.tree.map(lambda w: jnp.full_like(w, initial), params))

    def scale(g: jax.Array, s: jax.Array) -> jax.Array:
        small = jnp.asarray(epsilon, g.dtype)
        return g / (jnp.sqrt(s + small) if epsilon_in_root else jnp.sqrt(s) + small)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> Any:
        del params
        total = jax.tree.map(lambda s, g: s + g * g, state.sum_of_squares, updates)
        return jax.tree.map(scale, updates, total), AdagradState(total)

    return optax.GradientTransformation(init, update)


def scale_by_adam_hat(
    b1: Number = 0.9, b2: Number = 0.999, epsilon: Number = 1e-7
) -> optax.GradientTransformation:
    """Kingma & Ba (2015) in the paper's second form, which Keras has: "epsilon hat".

    √(1 − b2ᵗ) / (1 − b1ᵗ) · m / (√v + ε̂): ε stands beside the *uncorrected* moment, so early steps
    feel more of it. PyTorch's and optax's ε is ε̂ / √(1 − b2ᵗ).

    >>> tx = scale_by_adam_hat(epsilon=0.0)
    >>> tx.update(jnp.array([-2.0]), tx.init(jnp.zeros(1)))[0].round(3)
    Array([-1.], dtype=float32)
    """

    def init(params: PyTree) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> Any:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: m + (g - m) * (1 - b1), state.mu, updates)
        nu = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - b2), state.nu, updates)

        def direction(m: jax.Array, v: jax.Array) -> jax.Array:
            t = jnp.asarray(count, wide(m.dtype))  # in half precision b2ᵗ would be 1
            correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
            return (correction * m / (jnp.sqrt(v) + epsilon)).astype(m.dtype)

        return jax.tree.map(direction, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
