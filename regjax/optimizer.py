"""The optimizer of a config, as one optax chain built from traced numbers.

clip → coupled decay → direction (momentum, Adam, ...) → decoupled decay → · (−learning rate).

It is built anew in every trace from the strengths, which may be tracers; its state's structure
depends on the config alone. All of it is in PyTorch's convention, the learning rate outside.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

from regjax import schedules, transforms, trees
from regjax.config import OptimizerConfig
from regjax.strengths import Strengths

PyTree = Any


def learning_rate(config: OptimizerConfig, strengths: Strengths, step: jax.Array) -> jax.Array:
    """The learning rate at a step (counted from 0): warm-up · schedule · peak rate.

    >>> from regjax import strengths; from regjax.config import Config
    >>> float(learning_rate(OptimizerConfig(), strengths.from_config(Config(), 10), 0).round(6))
    0.0010000000474974513
    """
    if config.schedule.name == "cosine":
        factor = schedules.cosine(step, strengths.total_steps, strengths.final)
    elif config.schedule.name == "step":
        factor = schedules.step_decay(step, strengths.decay_every, strengths.decay_factor)
    else:
        factor = schedules.constant(step)
    return strengths.learning_rate * schedules.warmup(step, strengths.warmup_steps) * factor


def decayed(config: OptimizerConfig) -> Callable[[PyTree], PyTree]:
    """Returns the mask of the weight decay: a tree of booleans for a tree of parameters.

    >>> decayed(OptimizerConfig())({"dense": {"kernel": 1.0, "bias": 1.0}})
    {'dense': {'bias': False, 'kernel': True}}
    """
    return partial(trees.mask, rule=config.decay_mask)


def make_optimizer(
    config: OptimizerConfig, strengths: Strengths, rate: jax.Array
) -> optax.GradientTransformation:
    """Returns the chain for one step.

    Args:
      config: which optimizer and clipping.
      strengths: its numbers.
      rate: the learning rate of this step.
    """
    decay = optax.add_decayed_weights(strengths.weight_decay, mask=decayed(config))
    coupled = [decay] if config.weight_decay > 0 and config.name != "adamw" else []
    decoupled = [decay] if config.name == "adamw" else []
    return optax.chain(
        *_clip(config, strengths),
        *coupled,
        *_direction(config, strengths),
        *decoupled,
        optax.scale_by_learning_rate(rate),
    )


def _clip(config: OptimizerConfig, s: Strengths) -> list[optax.GradientTransformation]:
    if config.clip == "norm":
        return [transforms.clip_by_norm(s.clip_threshold)]
    if config.clip == "value":
        return [optax.clip(s.clip_threshold)]  # pyright: ignore[reportArgumentType] - may be traced
    return []


def _direction(config: OptimizerConfig, s: Strengths) -> list[optax.GradientTransformation]:
    momentum = [optax.trace(s.momentum, config.nesterov)] if config.momentum > 0 else []
    if config.name == "sgd":
        return momentum
    if config.name == "rmsprop":
        # ε outside the root, and the learning rate outside the trace.
        rms = optax.scale_by_rms(s.decay, s.epsilon, eps_in_sqrt=False)  # pyright: ignore
        return [rms, *momentum]
    if config.name == "adagrad":
        return [transforms.scale_by_adagrad(s.epsilon)]
    return [optax.scale_by_adam(s.b1, s.b2, s.epsilon)]
