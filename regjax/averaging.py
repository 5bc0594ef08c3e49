"""The averaged weights of a run, with statistics of their own, for evaluation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from regjax.batch import Arrays
from regjax.config import Config
from regjax.network import Network
from regjax.spread import ALONE, Spread

PyTree = Any
STATISTICS = "batch_stats"  # the collection of running statistics, in Flax's word


class Weights(NamedTuple):
    """What a network is evaluated with."""

    params: PyTree
    statistics: PyTree


def averaged(
    config: Config,
    network: Network,
    opt_state: PyTree,
    statistics: PyTree,
    train: Arrays | None,
    spread: Spread = ALONE,
) -> Weights:
    """Returns the average that the optimizer keeps, its batch statistics taken over `train`.

    Those of the weights on their way belong to other activations; Izmailov et al. (2018) pass once
    over the training set for the average's, `torch.optim.swa_utils.update_bn`. Here each batch
    counts by its size; there is no dropout and no augmentation.

    Args:
      config: the run.
      network: its network.
      opt_state: with an `average`, of `transforms.ema` or `swa`.
      statistics: of the weights on their way.
      train: the training set; not needed where there are no batch statistics.
      spread: where a batch's examples are.
    """
    params = optax.tree.get(opt_state, "average")
    if STATISTICS not in statistics:
        return Weights(params, statistics)
    assert train is not None, "refused where data are streamed"
    share = config.model.norm_momentum
    rows = spread.rows(jnp.arange(len(train)), config.batch_size)

    def add(total: PyTree, batch: tuple[jax.Array, jax.Array]) -> tuple[PyTree, None]:
        images, mask = spread.place(train.take(*batch).images), batch[1]
        _, moved = network.apply(params, statistics, images, train=True, mask=mask)
        # The running statistics went from s to (1 − m)·s + m·b: b are the batch's.
        measured = jax.tree.map(
            lambda s, new: s + (new - s) / share, statistics[STATISTICS], moved[STATISTICS]
        )
        return jax.tree.map(lambda t, b: t + mask.sum() * b, total, measured), None

    zero = jax.tree.map(jnp.zeros_like, statistics[STATISTICS])
    total, _ = lax.scan(add, zero, rows)
    mean = jax.tree.map(lambda t: t / len(train), spread.total(total))
    return Weights(params, {**statistics, STATISTICS: mean})
