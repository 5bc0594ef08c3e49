"""What changes while a run goes on, as immutable values."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from regjax import keys, metrics, stopping
from regjax.averaging import Weights
from regjax.config import Config, StoppingConfig
from regjax.network import Network
from regjax.objective import score
from regjax.optimizer import make_optimizer
from regjax.stopping import StoppingCriterion
from regjax.strengths import TARGET, Strengths

PyTree = Any


class TrainState(struct.PyTreeNode):
    """The network and its optimizer.

    Attributes:
      step: updates done.
      params: parameters.
      statistics: the network's other collections, such as `{"batch_stats": ...}`; may be empty.
      opt_state: the optimizer's state.
      averaged: what is evaluated in place of parameters and statistics; None: these themselves.
    """

    step: jax.Array
    params: PyTree
    statistics: PyTree
    opt_state: PyTree
    averaged: Weights | None = None

    def evaluated(self) -> Weights:
        """What the network is evaluated with."""
        return self.averaged or Weights(self.params, self.statistics)


def weights(train: TrainState) -> TrainState:
    """Without the optimizer's state, often twice as large, which evaluation does not look at."""
    return train.replace(opt_state=())


class Progress(struct.PyTreeNode):
    """How far an epoch has come.

    Attributes:
      position: its updates done.
      sums: what they measured, to be divided at its end.
    """

    position: jax.Array
    sums: dict[str, metrics.Sums]


class RunState(struct.PyTreeNode):
    """A run between two updates: all that it takes to go on.

    Attributes:
      epoch: epochs done.
      key: the run's root key, from which every stream is derived.
      train: network and optimizer.
      stopping: what early stopping remembers.
      progress: in the epoch after.
    """

    epoch: jax.Array
    key: jax.Array
    train: TrainState
    stopping: StoppingCriterion
    progress: Progress


def init(
    config: Config, network: Network, strengths: Strengths, inputs: jax.Array, key: jax.Array
) -> RunState:
    """Returns the state before the first epoch.

    Args:
      config: the run.
      network: its network.
      strengths: its numbers.
      inputs: `(N, ...)`, a batch as the network sees it; only its shape matters, but for LSUV.
      key: the run's root key.
    """
    params, statistics = network.init(keys.stream(key, keys.INIT), inputs)
    rate = strengths["optimizer.learning_rate"]
    tx = make_optimizer(config, strengths, rate, keys.stream(key, keys.NOISE))
    zero = jnp.zeros((), jnp.int32)
    averaged = None
    if config.optimizer.average != "none":  # a copy: the run's buffers are donated
        averaged = jax.tree.map(jnp.copy, Weights(params, statistics))
    train = TrainState(zero, params, statistics, tx.init(params), averaged)
    return RunState(zero, key, train, make_stopping(config.stopping, strengths), begun(config))


def begun(config: Config) -> Progress:
    """Returns the progress at the beginning of an epoch.

    >>> sorted(begun(Config()).sums)
    ['accuracy', 'gradient_norm', 'loss', 'penalty']
    """
    none = jnp.zeros(0)  # examples
    sums = {name: metrics.Mean.of(none) for name in ("loss", "penalty", "gradient_norm")}
    return Progress(jnp.zeros((), jnp.int32), {**sums, **score(config, none[:, None], none)})


def make_stopping(config: StoppingConfig, strengths: Strengths) -> StoppingCriterion:
    """Returns the criterion of a config before the first epoch; of a refit, if there is a target.

    >>> type(make_stopping(StoppingConfig("never"), {})).__name__
    'Never'
    """
    s = {name.removeprefix("stopping."): value for name, value in strengths.items()}
    maximize, on_nan = config.mode == "max", config.stop_on_nan
    if TARGET in strengths:
        return stopping.Reached.create(strengths[TARGET], on_nan)
    if config.name == "gl":
        return stopping.GL.create(s["alpha"], on_nan)
    if config.name == "pq":
        return stopping.PQ.create(s["alpha"], s["strip"], on_nan)
    if config.name == "up":
        return stopping.UP.create(s["strips"], s["strip"], maximize, on_nan)
    if config.name == "never":
        return stopping.Never.create(maximize, on_nan)
    return stopping.EarlyStopping.create(
        s["patience"], maximize, s["min_delta"], s["start_epoch"], on_nan
    )
