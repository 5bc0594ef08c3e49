"""What training minimizes: data loss + λ · penalty, the two reported apart."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from regjax import keys, losses, metrics, penalties, trees
from regjax.batch import Batch
from regjax.config import Config, PenaltyConfig
from regjax.network import Network
from regjax.spread import ALONE, Spread
from regjax.strengths import EXAMPLES, Strengths

PyTree = Any


class Parts(NamedTuple):
    """The pieces of the objective on one batch.

    Attributes:
      penalty: λ·Ω, or this part's share of it.
      sums: `loss` (without penalty) and score, to be merged over batches.
      statistics: the network's new ones.
    """

    penalty: jax.Array
    sums: dict[str, metrics.Sums]
    statistics: PyTree


def example_losses(
    config: Config, logits: jax.Array, labels: jax.Array, strengths: Strengths | None = None
) -> jax.Array:
    """The config's loss of each example.

    Args:
      config: which loss, and whether it is given the softmax's output.
      logits: `(N, K)`.
      labels: `(N,)` integers, or `(N, K)` probabilities; in regression numbers, `(N,)` or `(N, 1)`.
      strengths: None: in evaluation, without label smoothing.

    >>> import jax.numpy as jnp
    >>> example_losses(Config(), jnp.zeros((1, 2)), jnp.array([0])).round(4)
    Array([0.6931], dtype=float32)
    """
    if config.loss.name == "focal":
        gamma = config.loss.gamma if strengths is None else strengths["loss.gamma"]
        return losses.focal(logits, labels, gamma)
    if config.loss.name == "mean_squared":
        soft = labels.ndim == logits.ndim
        return losses.mean_squared(
            logits, labels if soft else targets_of(config, labels, logits.shape[-1])
        )
    if config.model.softmax_before_loss:
        logits = jax.nn.softmax(logits)
    smoothing = 0.0 if strengths is None else strengths["loss.label_smoothing"]
    return losses.cross_entropy(logits, labels, smoothing, config.loss.smoothing)


def targets_of(config: Config, labels: jax.Array, outputs: int) -> jax.Array:
    """Labels `(N,)` in the shape of the network's outputs `(N, K)`: one-hot, or as they are."""
    if config.data.task == "regression":
        return labels[:, None]
    return jax.nn.one_hot(labels, outputs)


def score(
    config: Config, logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None
) -> dict[str, metrics.Sums]:
    """What a network is judged by, under its name: `accuracy`, or in regression `r2`.

    >>> import jax.numpy as jnp
    >>> score(Config(), jnp.zeros((1, 2)), jnp.array([0]))["accuracy"].compute()
    Array(1., dtype=float32)
    """
    if config.data.task == "regression":
        return {"r2": metrics.r2(logits[:, 0], labels, mask)}
    return {"accuracy": metrics.accuracy(logits, labels, mask)}


def parameter_penalty(config: PenaltyConfig, strengths: Strengths) -> penalties.Penalty:
    """Returns Ω of the parameters that it is given, with the config's options.

    >>> parameter_penalty(PenaltyConfig("l1"), {})([jax.numpy.array([3.0, -4.0])])
    Array(7., dtype=float32)
    """
    options: dict[str, Any] = {
        "elastic": {"l1_ratio": strengths.get("penalty.l1_ratio")},
        "group_lasso": {"groups": config.groups},
        "max_norm": {"radius": strengths.get("penalty.radius")},
    }
    return partial(penalties.PENALTIES[config.name], **options.get(config.name, {}))


def make_objective(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[PyTree, Strengths, PyTree, Batch, jax.Array], tuple[jax.Array, Parts]]:
    """Returns `objective(params, strengths, statistics, batch, key) -> (value, parts)`.

    value = mean over the batch of the losses + λ·Ω, Ω of the parameters that the config's mask
    covers, or the mean over the batch of what the network computes (`jacobian`, `entropy`);
    `parts.penalty` is λ·Ω, also where a proximal step has its place. Of a batch in parts, each part
    has its share of both, and the values, as their gradients, add up to those of the whole batch.
    """
    of_examples = make_example_terms(config, network, spread)
    of_weights = make_weight_term(config, spread)

    def objective(
        params: PyTree, strengths: Strengths, statistics: PyTree, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Parts]:
        value, parts = of_examples(params, strengths, statistics, batch, key)
        added, penalty = of_weights(params, strengths)
        return value + added, parts._replace(penalty=parts.penalty + penalty)

    return objective


def make_example_terms(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[PyTree, Strengths, PyTree, Batch, jax.Array], tuple[jax.Array, Parts]]:
    """Returns the part of `make_objective`'s that is a mean over examples, called as it is."""

    def example_terms(
        params: PyTree, strengths: Strengths, statistics: PyTree, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Parts]:
        forward = partial(
            network.apply,
            params,
            statistics,
            train=True,
            mask=batch.mask,
            dropout_rate=strengths.get("model.dropout_rate"),
            key=key,
        )
        logits, updated = forward(batch.images)
        targets = batch.labels if batch.targets is None else batch.targets
        loss = metrics.Mean.of(example_losses(config, logits, targets, strengths), batch.mask)
        if config.penalty.name == "jacobian":
            directions = keys.stream(key, "jacobian")
            omega = penalties.jacobian(
                lambda x: forward(x)[0], batch.images, directions, mask=batch.mask
            )
            omega = spread.share(metrics.Mean.of(omega, batch.mask))
        elif config.penalty.name == "entropy":
            omega = spread.share(metrics.Mean.of(penalties.entropy(logits), batch.mask))
        else:
            omega = jnp.zeros((), logits.dtype)
        penalty = strengths["penalty.strength"] * omega
        scored = score(config, logits, batch.labels, batch.mask)
        return spread.share(loss) + penalty, Parts(penalty, {"loss": loss, **scored}, updated)

    return example_terms


def make_weight_term(
    config: Config, spread: Spread = ALONE
) -> Callable[[PyTree, Strengths], tuple[jax.Array, jax.Array]]:
    """Returns the part that looks at parameters alone: `weight_term(params, strengths)`.

    It is what is added to the objective, 0 where a proximal step has its place, and λ·Ω.
    """

    def weight_term(params: PyTree, strengths: Strengths) -> tuple[jax.Array, jax.Array]:
        if config.penalty.name in ("jacobian", "entropy"):
            return jnp.zeros(()), jnp.zeros(())
        covered = trees.select(params, config.penalty.mask)
        scale = penalties.scale_factor(config.penalty.scale, covered, strengths[EXAMPLES])
        omega = spread.once(scale * parameter_penalty(config.penalty, strengths)(covered))
        penalty = strengths["penalty.strength"] * omega
        return jnp.zeros(()) if config.penalty.mode == "proximal" else penalty, penalty

    return weight_term
