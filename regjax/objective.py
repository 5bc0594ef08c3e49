"""What training minimizes: data loss + λ · penalty, the two reported apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from regjax import losses, metrics, penalties, trees
from regjax.config import Config
from regjax.strengths import Strengths

PyTree = Any


class Batch(NamedTuple):
    """Inputs `(N, ...)` as the network sees them, labels `(N,)`, and which rows count."""

    images: jax.Array
    labels: jax.Array
    mask: jax.Array


class Parts(NamedTuple):
    """The pieces of the objective on one batch, and the network's new statistics."""

    loss: jax.Array
    penalty: jax.Array
    accuracy: jax.Array
    statistics: PyTree


def example_losses(config: Config, logits: jax.Array, labels: jax.Array, smoothing: Any) -> Any:
    """Cross-entropy of each example, of the softmax's output if the config is so faithful.

    >>> import jax.numpy as jnp
    >>> example_losses(Config(), jnp.zeros((1, 2)), jnp.array([0]), 0.0).round(4)
    Array([0.6931], dtype=float32)
    """
    if config.model.softmax_before_loss:
        logits = jax.nn.softmax(logits)
    return losses.cross_entropy(logits, labels, smoothing)


def make_objective(
    config: Config, model: nn.Module
) -> Callable[[PyTree, Strengths, PyTree, Batch, jax.Array], tuple[jax.Array, Parts]]:
    """Returns `objective(params, strengths, statistics, batch, key) -> (value, parts)`.

    value = mean over the batch of the losses + λ·Ω(the parameters that the config's mask covers);
    the strength that it multiplies is `strengths.penalty`, and `parts.penalty` is λ·Ω.
    """
    omega = penalties.PENALTIES[config.penalty.name]

    def objective(
        params: PyTree, strengths: Strengths, statistics: PyTree, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Parts]:
        logits, updated = model.apply(
            {"params": params, **statistics},
            batch.images,
            train=True,
            mask=batch.mask,
            dropout_rate=strengths.dropout_rate,
            rngs={"dropout": key},
            mutable=list(statistics),
        )
        each = example_losses(config, logits, batch.labels, strengths.label_smoothing)
        loss = metrics.Mean.of(each, batch.mask).compute()
        penalty = strengths.penalty * omega(trees.select(params, config.penalty.mask))
        accuracy = metrics.accuracy(logits, batch.labels, batch.mask).compute()
        return loss + penalty, Parts(loss, penalty, accuracy, updated)

    return objective
