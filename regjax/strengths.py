"""The numbers of a run: everything that may change without a new program.

`Strengths` is a pytree of arrays, so a vector of them vmaps; what a config leaves out of the
program (dropout at rate 0) is None, which is structure.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from regjax.config import Config


class Strengths(struct.PyTreeNode):
    """Every number of the objective and the optimizer, as scalars of float32.

    Durations of the schedule are in steps; `penalty` is λ with the config's scale applied.
    """

    learning_rate: jax.Array
    warmup_steps: jax.Array
    total_steps: jax.Array
    final: jax.Array
    decay_every: jax.Array
    decay_factor: jax.Array
    momentum: jax.Array
    b1: jax.Array
    b2: jax.Array
    decay: jax.Array
    epsilon: jax.Array
    weight_decay: jax.Array
    clip_threshold: jax.Array
    penalty: jax.Array
    label_smoothing: jax.Array
    dropout_rate: jax.Array | None


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Returns how many batches hold all examples, the last of them short.

    >>> steps_per_epoch(1000, 32)
    32
    """
    return -(-examples // batch_size)


def from_config(config: Config, examples: int) -> Strengths:
    """Returns the strengths of a config for a training set of `examples`.

    >>> float(from_config(Config(), 1000).learning_rate) == jnp.float32(1e-3)
    Array(True, dtype=bool)
    """
    per_epoch = steps_per_epoch(examples, config.batch_size)
    optimizer, schedule, penalty = config.optimizer, config.optimizer.schedule, config.penalty
    divisor = examples if penalty.scale == "per_example" else 1
    rate = config.model.dropout_rate
    values: dict[str, float | None] = {
        "learning_rate": optimizer.learning_rate,
        "warmup_steps": schedule.warmup_epochs * per_epoch,
        "total_steps": config.epochs * per_epoch,
        "final": schedule.final,
        "decay_every": schedule.step_epochs * per_epoch,
        "decay_factor": schedule.factor,
        "momentum": optimizer.momentum,
        "b1": optimizer.b1,
        "b2": optimizer.b2,
        "decay": optimizer.decay,
        "epsilon": optimizer.epsilon,
        "weight_decay": optimizer.weight_decay,
        "clip_threshold": optimizer.clip_threshold,
        "penalty": penalty.strength / divisor,
        "label_smoothing": config.loss.label_smoothing,
        "dropout_rate": rate if rate > 0 else None,
    }
    arrays: dict[str, Any] = {
        name: None if value is None else jnp.asarray(value, jnp.float32)
        for name, value in values.items()
    }
    return Strengths(**arrays)
