"""The numbers of a run: everything that may change without a new program.

A dict from the names of the config's traced fields to arrays: a vector of them vmaps, and a study
varies them by these names. A field that is None or at its `off` value is not in it: which names
there are is structure, as in `"model.dropout_rate" in strengths`.
"""

import jax
import numpy as np

from regjax import config as config_lib
from regjax.config import Config

Strengths = dict[str, jax.Array]

# Not fields, but numbers of the data that the schedules and λ/n are measured in.
EXAMPLES, STEPS_PER_EPOCH = "data.examples", "data.steps_per_epoch"
# The loss that ends a refit.
TARGET = "stopping.target"


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Returns how many batches hold all examples, the last of them short.

    >>> steps_per_epoch(1000, 32)
    32
    """
    return -(-examples // batch_size)


def from_config(config: Config, examples: int) -> Strengths:
    """Returns the strengths of a config for a training set of `examples`, scalars of float32.

    >>> strengths = from_config(Config(), 1000)
    >>> strengths["optimizer.learning_rate"].round(4), "model.dropout_rate" in strengths
    (Array(0.001, dtype=float32), False)
    """
    values = dict(config_lib.flatten(config))
    numbers = {
        name: values[name]
        for name, _, metadata in config_lib.fields()
        if metadata.get("traced") and values[name] not in (None, metadata["off"])
    }
    numbers[EXAMPLES] = examples
    numbers[STEPS_PER_EPOCH] = steps_per_epoch(examples, config.batch_size)
    return jax.device_put({name: np.float32(value) for name, value in numbers.items()})
