"""Bias and variance of a learner, over training sets that were drawn anew.

Both decompositions hold exactly for the predictions given, not only in expectation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class ZeroOne(NamedTuple):
    """error = bias + net variance, of the 0-1 loss (Domingos 2000), without noise.

    Attributes:
      error: share of wrong predictions.
      bias: share of examples whose main prediction, the most frequent, is wrong.
      variance: share of predictions that are not the main one.
      unbiased_variance: of these, what is lost where the main prediction is right.
      biased_variance: what is won where it is wrong: predictions that are right by deviating.
      net_variance: unbiased − biased.
    """

    error: jax.Array
    bias: jax.Array
    variance: jax.Array
    unbiased_variance: jax.Array
    biased_variance: jax.Array
    net_variance: jax.Array


class Squared(NamedTuple):
    """error = noise + bias + variance, of the squared loss.

    Attributes:
      error: mean of Σₖ (t − p)².
      noise: Σₖ (t − t̄)² about the mean of each example's targets; 0 where it has one, whose noise
        then is in the bias.
      bias: Σₖ (t̄ − p̄)², bias² by its usual name.
      variance: Σₖ (p − p̄)² about the mean prediction.
    """

    error: jax.Array
    noise: jax.Array
    bias: jax.Array
    variance: jax.Array


def bias_variance(predictions: jax.Array, targets: jax.Array) -> ZeroOne | Squared:
    """Decomposes the error of R networks, each trained on a set of its own, on N examples.

    Args:
      predictions: `(R, N)` integers, classes, for the 0-1 loss; floating `(R, N)`, or `(R, N, K)`
        summed over K, for the squared.
      targets: `(N,)` classes (for `(R, N, K)` they stand for one-hot); or `(N,)` or `(N, K)`
        floating, or with an axis more in front several targets of each example, all of which are
        met with all predictions.

    Raises:
      ValueError: shapes that do not fit.

    >>> predictions = jnp.array([[0, 1, 1], [0, 1, 0], [0, 0, 0]])
    >>> d = bias_variance(predictions, jnp.array([0, 1, 1]))
    >>> [f"{x:.2f}" for x in (d.error, d.bias, d.unbiased_variance, d.biased_variance)]
    ['0.33', '0.33', '0.11', '0.11']
    """
    predictions, targets = jnp.asarray(predictions), jnp.asarray(targets)
    if jnp.issubdtype(predictions.dtype, jnp.integer):
        _fit(predictions, targets, (predictions.shape[1:],))
        return _zero_one(predictions, targets)
    if predictions.ndim == 3 and jnp.issubdtype(targets.dtype, jnp.integer):
        _fit(predictions, targets, (predictions.shape[1:2],))
        targets = jax.nn.one_hot(targets, predictions.shape[-1], dtype=predictions.dtype)
    if targets.ndim == predictions.ndim - 1:
        targets = targets[None]
    _fit(predictions, targets, ((len(targets), *predictions.shape[1:]),))
    return _squared(predictions, targets)


def _fit(predictions: jax.Array, targets: jax.Array, shapes: tuple[tuple[int, ...], ...]) -> None:
    if predictions.ndim < 2 or targets.shape not in shapes:
        raise ValueError(
            f"predictions of {predictions.shape}, (networks, examples), do not fit targets of "
            f"{targets.shape}"
        )


def _zero_one(predictions: jax.Array, targets: jax.Array) -> ZeroOne:
    same = predictions[:, None] == predictions[None]
    votes = same.sum(axis=0)  # how many agree with each
    # Of classes equally frequent the smallest: the order of the networks is no matter.
    last = jnp.asarray(jnp.iinfo(predictions.dtype).max, predictions.dtype)
    main = jnp.where(votes == votes.max(axis=0, keepdims=True), predictions, last).min(axis=0)
    right = predictions == targets[None]
    biased = main != targets
    deviates = (predictions != main[None]).mean(axis=0)
    unbiased_variance = jnp.where(biased, 0, deviates).mean()
    biased_variance = jnp.where(biased, right.mean(axis=0), 0).mean()
    return ZeroOne(
        error=(~right).mean(),
        bias=biased.mean(),
        variance=deviates.mean(),
        unbiased_variance=unbiased_variance,
        biased_variance=biased_variance,
        net_variance=unbiased_variance - biased_variance,
    )


def _squared(predictions: jax.Array, targets: jax.Array) -> Squared:
    """Of `(R, N, ...)` and `(T, N, ...)`."""

    def spread(x: jax.Array) -> jax.Array:
        """Mean over the examples of the sum over what is predicted of each."""
        return x.reshape(*x.shape[:2], -1).sum(axis=-1).mean()

    mean, target = predictions.mean(axis=0, keepdims=True), targets.mean(axis=0, keepdims=True)
    errors = jax.lax.map(lambda t: spread(jnp.square(predictions - t[None])), targets)
    return Squared(
        error=errors.mean(),
        noise=spread(jnp.square(targets - target)),
        bias=spread(jnp.square(target - mean)),
        variance=spread(jnp.square(predictions - mean)),
    )
