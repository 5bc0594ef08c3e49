"""Calibration of probabilities: the reliability diagram and what sums it up."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from regjax import metrics


class Reliability(NamedTuple):
    """Confidence against accuracy.

    Attributes:
      bins: what the reliability diagram draws, `metrics.Bin`.
      expected_error: ECE, Σ_b n_b/n · |accuracy_b − confidence_b| (Guo et al. 2017).
      maximum_error: MCE, the largest of these differences.
      brier: mean of Σₖ (pₖ − yₖ)².
      negative_log_likelihood: mean of −log p at the label.
    """

    bins: metrics.Bin
    expected_error: jax.Array
    maximum_error: jax.Array
    brier: jax.Array
    negative_log_likelihood: jax.Array


def calibration(probabilities: jax.Array, labels: jax.Array, bins: int = 15) -> Reliability:
    """Returns how far probabilities can be taken at their word.

    Args:
      probabilities: `(N, K)`, each row adding up to 1; of logits give `jax.nn.softmax`. Where that
        rounds to 0 the likelihood is lost: `metrics.negative_log_likelihood` takes the logits.
      labels: `(N,)`, integers.
      bins: B of equal width, static. The error grows with B where there are few examples.

    >>> sure = jnp.array([[0.75, 0.25], [0.75, 0.25]])
    >>> calibration(sure, jnp.array([0, 1])).expected_error  # .75 sure, .5 right
    Array(0.25, dtype=float32)
    """
    logits = jnp.log(probabilities)
    confidence, hit = probabilities.max(axis=-1), metrics.correct(logits, labels)
    binned = metrics.confidence_bins(confidence, hit, bins=bins)
    found = binned.bins()
    gaps = jnp.where(found.count > 0, jnp.abs(found.accuracy - found.confidence), 0)
    return Reliability(
        bins=found,
        expected_error=binned.compute(),
        maximum_error=gaps.max(),
        brier=metrics.brier(logits, labels).compute(),
        negative_log_likelihood=metrics.negative_log_likelihood(logits, labels).compute(),
    )
