"""What changes while a run goes on, as immutable values."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from regjax import keys
from regjax.config import Config
from regjax.optimizer import make_optimizer
from regjax.stopping import EarlyStopping, StoppingCriterion
from regjax.strengths import Strengths

PyTree = Any


class TrainState(struct.PyTreeNode):
    """The network and its optimizer.

    Attributes:
      step: updates done.
      params: parameters.
      statistics: the network's other collections, such as `{"batch_stats": ...}`; may be empty.
      opt_state: the optimizer's state.
    """

    step: jax.Array
    params: PyTree
    statistics: PyTree
    opt_state: PyTree


class RunState(struct.PyTreeNode):
    """A run between two epochs: all that it takes to go on.

    Attributes:
      epoch: epochs done.
      key: the run's root key, from which every stream is derived.
      train: network and optimizer.
      stopping: what early stopping remembers.
    """

    epoch: jax.Array
    key: jax.Array
    train: TrainState
    stopping: StoppingCriterion


def init(config: Config, model: nn.Module, strengths: Strengths, inputs: jax.Array) -> RunState:
    """Returns the state before the first epoch.

    Args:
      config: the run.
      model: its network.
      strengths: its numbers.
      inputs: `(N, ...)`, any example batch; only its shape matters.
    """
    key = jax.random.key(config.seed)
    variables = dict(model.init(keys.stream(key, keys.INIT), inputs, train=False))
    params = variables.pop("params")
    stopping = EarlyStopping.create(
        config.stopping.patience,
        config.stopping.mode == "max",
        config.stopping.min_delta,
        config.stopping.start_epoch,
        config.stopping.stop_on_nan,
    )
    tx = make_optimizer(config.optimizer, strengths, strengths.learning_rate)
    zero = jnp.zeros((), jnp.int32)
    return RunState(zero, key, TrainState(zero, params, variables, tx.init(params)), stopping)
