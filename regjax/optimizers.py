"""Optimizers as optax chains in which every convention is an argument.

The defaults are PyTorch's; `PRESETS["torch" | "optax" | "keras"]` has each under its owner's
conventions and defaults. Learning rates may be numbers, traced arrays or schedules.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

from regjax import transforms
from regjax.transforms.common import Strength
from regjax.trees import Rule

Number = jax.Array | float
Optimizer = optax.GradientTransformation


def _chain(
    direction: list[Any],
    learning_rate: Strength,
    momentum: list[Any],
    rate_in_velocity: bool,
    weight_decay: Strength | None,
) -> Optimizer:
    decay = [] if weight_decay is None else [transforms.coupled_decay(weight_decay)]
    rate = [optax.scale_by_learning_rate(learning_rate)]  # pyright: ignore[reportArgumentType]
    last = rate + momentum if rate_in_velocity else momentum + rate
    return optax.chain(*decay, *direction, *last)


def sgd(
    learning_rate: Strength,
    momentum: Number | None = None,
    dampening: Number = 0.0,
    nesterov: bool = False,
    weight_decay: Strength | None = None,
    rate_in_velocity: bool = False,
) -> Optimizer:
    """w ← w − η·v, v ← μ·v + (1 − d)·g: `torch.optim.SGD` = `optax.sgd`.

    Args:
      learning_rate: η.
      momentum: μ; None: no velocity.
      dampening: d, not in the first step.
      nesterov: look ahead.
      weight_decay: coupled; None: none.
      rate_in_velocity: Keras's form, v ← μ·v − η·g: under a schedule the velocity keeps the rates
        of the past.

    >>> import jax.numpy as jnp
    >>> tx = sgd(0.1)
    >>> tx.update(jnp.ones(1), tx.init(jnp.ones(1)))[0]
    Array([-0.1], dtype=float32)
    """
    velocity = [] if momentum is None else [transforms.momentum(momentum, dampening, nesterov)]
    return _chain([], learning_rate, velocity, rate_in_velocity, weight_decay)


def rmsprop(
    learning_rate: Strength,
    decay: Number = 0.99,
    epsilon: Number = 1e-8,
    momentum: Number | None = None,
    centered: bool = False,
    weight_decay: Strength | None = None,
    epsilon_in_root: bool = False,
    rate_in_velocity: bool = False,
) -> Optimizer:
    """g / (√v + ε), v ← α·v + (1 − α)·g² (Tieleman & Hinton 2012): `torch.optim.RMSprop`.

    Args:
      learning_rate: η.
      decay: α.
      epsilon: ε.
      momentum: of the scaled gradients; None: none.
      centered: subtract the squared mean gradient from v (Graves 2013).
      weight_decay: coupled; None: none.
      epsilon_in_root: g / √(v + ε), optax's and Keras's.
      rate_in_velocity: the learning rate before the momentum, optax's and Keras's.

    >>> import jax.numpy as jnp
    >>> tx = rmsprop(0.1, decay=0.0, epsilon=0.0)
    >>> tx.update(jnp.full(1, 7.0), tx.init(jnp.ones(1)))[0]
    Array([-0.1], dtype=float32)
    """
    scale = optax.scale_by_stddev if centered else optax.scale_by_rms
    direction = [scale(decay, epsilon, eps_in_sqrt=epsilon_in_root)]  # pyright: ignore
    velocity = [] if momentum is None else [transforms.momentum(momentum)]
    return _chain(direction, learning_rate, velocity, rate_in_velocity, weight_decay)


def adagrad(
    learning_rate: Strength,
    epsilon: Number = 1e-10,
    initial: Number = 0.0,
    weight_decay: Strength | None = None,
    epsilon_in_root: bool = False,
) -> Optimizer:
    """g / (√Σg² + ε) (Duchi et al. 2011): `torch.optim.Adagrad`.

    Args:
      learning_rate: η.
      epsilon: ε.
      initial: where Σg² starts; optax and Keras: 0.1.
      weight_decay: coupled; None: none.
      epsilon_in_root: g / √(Σg² + ε), optax's and Keras's.

    >>> import jax.numpy as jnp
    >>> tx = adagrad(0.1)
    >>> tx.update(jnp.full(1, 7.0), tx.init(jnp.ones(1)))[0]
    Array([-0.1], dtype=float32)
    """
    direction = [transforms.scale_by_adagrad(epsilon, initial, epsilon_in_root)]
    return _chain(direction, learning_rate, [], False, weight_decay)


def adam(
    learning_rate: Strength,
    b1: Number = 0.9,
    b2: Number = 0.999,
    epsilon: Number = 1e-8,
    weight_decay: Strength | None = None,
    epsilon_hat: bool = False,
) -> Optimizer:
    """m̂ / (√v̂ + ε) (Kingma & Ba 2015): `torch.optim.Adam` = `optax.adam`.

    Args:
      learning_rate: η.
      b1, b2: decays of the two moments.
      epsilon: ε.
      weight_decay: coupled; None: none.
      epsilon_hat: Keras's form, ε beside the uncorrected moment.

    >>> import jax.numpy as jnp
    >>> tx = adam(0.1)
    >>> round(tx.update(jnp.full(1, 7.0), tx.init(jnp.ones(1)))[0].item(), 4)
    -0.1
    """
    return _chain([_adam(b1, b2, epsilon, epsilon_hat)], learning_rate, [], False, weight_decay)


def _adam(b1: Number, b2: Number, epsilon: Number, epsilon_hat: bool) -> Optimizer:
    if epsilon_hat:
        return transforms.scale_by_adam_hat(b1, b2, epsilon)
    return optax.scale_by_adam(b1, b2, epsilon)


def adamw(
    learning_rate: Strength,
    b1: Number = 0.9,
    b2: Number = 0.999,
    epsilon: Number = 1e-8,
    weight_decay: Strength = 0.01,
    mask: Rule = "all",
    epsilon_hat: bool = False,
) -> Optimizer:
    """Adam with decoupled decay, w ← w − η·(m̂ / (√v̂ + ε) + s·w) (Loshchilov & Hutter 2019).

    `torch.optim.AdamW` = `optax.adamw` but for the default of s.

    Args:
      learning_rate: η.
      b1, b2: decays of the two moments.
      epsilon: ε.
      weight_decay: s.
      mask: what decays, `kernels` to leave out biases and norms.
      epsilon_hat: Keras's form, ε beside the uncorrected moment.

    >>> import jax.numpy as jnp
    >>> tx, w = adamw(0.1, weight_decay=1.0), jnp.full(1, 2.0)
    >>> round(tx.update(jnp.full(1, 7.0), tx.init(w), w)[0].item(), 4)
    -0.3
    """
    return optax.chain(
        _adam(b1, b2, epsilon, epsilon_hat),
        optax.scale_by_learning_rate(learning_rate),  # pyright: ignore[reportArgumentType]
        transforms.decoupled_decay(weight_decay, learning_rate, mask),
    )


PRESETS: dict[str, dict[str, Callable[..., Optimizer]]] = {
    "torch": {"sgd": sgd, "rmsprop": rmsprop, "adagrad": adagrad, "adam": adam, "adamw": adamw},
    "optax": {
        "sgd": sgd,
        "rmsprop": partial(rmsprop, decay=0.9, epsilon_in_root=True, rate_in_velocity=True),
        "adagrad": partial(adagrad, epsilon=1e-7, initial=0.1, epsilon_in_root=True),
        "adam": adam,
        "adamw": partial(adamw, weight_decay=1e-4),
    },
    "keras": {
        "sgd": partial(sgd, rate_in_velocity=True),
        "rmsprop": partial(
            rmsprop, decay=0.9, epsilon=1e-7, epsilon_in_root=True, rate_in_velocity=True
        ),
        "adagrad": partial(adagrad, epsilon=1e-7, initial=0.1, epsilon_in_root=True),
        "adam": partial(adam, epsilon=1e-7, epsilon_hat=True),
        "adamw": partial(adamw, epsilon=1e-7, weight_decay=0.004, epsilon_hat=True),
    },
}
