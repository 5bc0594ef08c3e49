"""Metrics as sums and counts: added over batches and devices, divided at the end.

Whatever the batches and their padding, the result is that of the whole set. Every accumulator is a
pytree of sums: `+` merges two of them, `jax.lax.psum` those of many devices.
"""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import struct

from regjax import losses
from regjax.dtypes import wide, widen


class Sums(struct.PyTreeNode):
    """Sums over examples, merged by `+`."""

    def __add__(self, other: Self) -> Self:
        return jax.tree.map(jnp.add, self, other)

    def compute(self) -> jax.Array:
        """The metric of all examples that were added."""
        raise NotImplementedError


class Mean(Sums):
    """A sum and how many it is of.

    Attributes:
      total: sum of the values that count, in at least float32.
      count: how many they are, int32.

    >>> first, last = jnp.array([1.0, 3.0]), jnp.array([8.0, jnp.nan])
    >>> (Mean.of(first) + Mean.of(last, mask=jnp.array([1, 0]))).compute()
    Array(4., dtype=float32)
    """

    total: jax.Array
    count: jax.Array

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array | None = None) -> "Mean":
        """Returns sum and count of the values `(N,)` whose mask is 1; None counts all.

        The padding is not looked at, even if it is NaN.

        Raises:
          ValueError: a mask of another shape.
        """
        mask = _counted(values, mask)
        total = jnp.where(mask, values, 0).sum(dtype=wide(values.dtype))
        return cls(total, mask.sum(dtype=jnp.int32))

    def compute(self) -> jax.Array:
        """The mean; of nothing, NaN."""
        return self.total / self.count


class R2(Sums):
    """Coefficient of determination, R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)².

    scikit-learn's `r2_score` with `force_finite=False`.

    Attributes:
      residual: Σ(y − ŷ)², in at least float32, as are the others.
      total: Σy.
      squares: Σy². Where |ȳ| is large beside the spread, subtract a rough mean from y and ŷ first.
      count: how many they are, int32.

    >>> first = r2(jnp.array([1.0, 2.0]), jnp.array([1.0, 3.0]))
    >>> (first + r2(jnp.array([5.0]), jnp.array([5.0]))).compute()
    Array(0.875, dtype=float32)
    """

    residual: jax.Array
    total: jax.Array
    squares: jax.Array
    count: jax.Array

    def compute(self) -> jax.Array:
        """R²; of targets that are all the same, −inf, or NaN where they were met exactly."""
        spread = self.squares - jnp.square(self.total) / self.count
        rounding = 16 * jnp.finfo(self.squares.dtype).eps * self.squares
        return 1 - self.residual / jnp.where(spread <= rounding, 0, spread)


class Bin(NamedTuple):
    """The bins of a reliability diagram, each `(bins,)`; means are NaN in an empty bin."""

    lower: jax.Array
    upper: jax.Array
    confidence: jax.Array
    accuracy: jax.Array
    count: jax.Array


class Calibration(Sums):
    """Confidence against accuracy in bins of equal width, (i/B, (i + 1)/B] for i = 0 … B − 1.

    Guo et al. (2017). The sums are kept by bin, so that merged batches give the error of the whole
    set, which the mean of the batches' errors does not.

    Attributes:
      confidence: `(B,)` sums of the largest probabilities.
      correct: `(B,)` how many were right.
      count: `(B,)` how many there were.

    >>> logits = jnp.log(jnp.array([[0.8, 0.2], [0.8, 0.2]]))
    >>> f"{calibration(logits, jnp.array([0, 1])).compute():.4f}"  # .8 sure, .5 right
    '0.3000'
    """

    confidence: jax.Array
    correct: jax.Array
    count: jax.Array

    def compute(self) -> jax.Array:
        """Expected calibration error, Σ_b n_b/n · |accuracy_b − confidence_b|."""
        return jnp.abs(self.correct - self.confidence).sum() / self.count.sum()

    def bins(self) -> Bin:
        """What a reliability diagram draws."""
        edges = jnp.linspace(0, 1, len(self.count) + 1)
        means = (self.confidence / self.count, self.correct / self.count)
        return Bin(edges[:-1], edges[1:], *means, self.count)


def correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the largest logit is the label's, 1.0 or 0.0 for each example.

    An example with a NaN logit, or whose largest is infinite, counts as wrong: a diverged network
    knows nothing, though the argmax of its NaNs would be right for one class.

    Args:
      logits: `(..., K)`.
      labels: `(...)`, integers.

    >>> correct(jnp.array([[1.0, 2.0], [jnp.nan, 2.0]]), jnp.array([1, 0]))
    Array([1., 0.], dtype=float32)
    """
    hit = jnp.argmax(logits, axis=-1) == labels
    return (hit & jnp.isfinite(logits.max(axis=-1))).astype(jnp.float32)


def accuracy(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Share of the examples whose largest logit is the label's.

    Args:
      logits: `(N, K)`, floating.
      labels: `(N,)`, integers.
      mask: `(N,)`, 1 for the rows that count and 0 for padding; None counts all.

    >>> accuracy(jnp.array([[1.0, 2.0], [2.0, 1.0]]), jnp.array([1, 1])).compute()
    Array(0.5, dtype=float32)
    """
    return Mean.of(correct(logits, labels), mask)


def r2(outputs: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> R2:
    """How much of the targets' variance the outputs explain, 1 at best, 0 for their mean.

    Args:
      outputs: `(N,)`, floating.
      targets: `(N,)`, floating.
      mask: `(N,)`, 1 for the rows that count and 0 for padding; None counts all.

    Raises:
      ValueError: shapes that differ, as `(N, 1)` and `(N,)` do.

    >>> r2(jnp.array([0.0, 2.0, 2.0]), jnp.array([0.0, 2.0, 4.0])).compute()
    Array(0.5, dtype=float32)
    """
    residual = Mean.of(losses.mean_squared(outputs[:, None], targets[:, None]), mask)
    total, squares = Mean.of(targets, mask), Mean.of(jnp.square(targets), mask)
    return R2(residual.total, total.total, squares.total, residual.count)


def negative_log_likelihood(
    logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None
) -> Mean:
    """Mean of −log softmax(logits) at the label: cross-entropy without smoothing, in nats.

    Args and padding as in `accuracy`.

    >>> negative_log_likelihood(jnp.zeros((3, 2)), jnp.array([0, 1, 1])).compute().round(4)
    Array(0.6931, dtype=float32)
    """
    return Mean.of(losses.cross_entropy(logits, labels), mask)


def brier(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Mean of Σₖ (pₖ − yₖ)² with p = softmax(logits) and y one-hot, in [0, 2] (Brier 1950).

    scikit-learn's `brier_score_loss` with `scale_by_half=False`; it halves by default when K = 2.
    Args and padding as in `accuracy`.

    >>> brier(jnp.zeros((1, 2)), jnp.array([0])).compute()
    Array(0.5, dtype=float32)
    """
    p = jax.nn.softmax(widen(logits))
    onehot = jax.nn.one_hot(labels, p.shape[-1], dtype=p.dtype)
    return Mean.of(jnp.square(p - onehot).sum(-1), mask)


def calibration(
    logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None, bins: int = 15
) -> Calibration:
    """Sums by confidence; `.compute()` is the expected calibration error.

    Args:
      logits: `(N, K)`, floating.
      labels: `(N,)`, integers.
      mask: `(N,)`, 1 for the rows that count and 0 for padding; None counts all.
      bins: B, static.

    >>> calibration(jnp.array([[9.0, -9.0]]), jnp.array([0])).bins().count[-1]
    Array(1, dtype=int32)
    """
    confidence = jax.nn.softmax(widen(logits)).max(axis=-1)
    return confidence_bins(confidence, correct(logits, labels), mask, bins)


def confidence_bins(
    confidence: jax.Array, right: jax.Array, mask: jax.Array | None = None, bins: int = 15
) -> Calibration:
    """The sums of `calibration`, of confidences as they are.

    Args:
      confidence: `(N,)`, in [0, 1].
      right: `(N,)`, 1.0 or 0.0, as `correct` gives it.
      mask: `(N,)`, 1 for the rows that count and 0 for padding; None counts all.
      bins: B, static.

    >>> confidence_bins(jnp.array([0.2, 0.9]), jnp.array([0.0, 1.0]), bins=2).count
    Array([1, 1], dtype=int32)
    """
    mask = _counted(confidence, mask)
    edges = jnp.array([i / bins for i in range(1, bins)])[None]
    # A NaN lies above no edge: it makes the sum of the first bin, and so the error, NaN.
    place = (confidence[:, None] > edges).sum(axis=-1, keepdims=True)
    member = (place == jnp.arange(bins)[None]) & mask[:, None]
    return Calibration(
        jnp.where(member, confidence[:, None], 0).sum(axis=0),
        jnp.where(member, right[:, None], 0).sum(axis=0),
        member.sum(axis=0, dtype=jnp.int32),
    )


def _counted(values: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The mask as booleans."""
    if mask is None:
        return jnp.ones(values.shape, bool)
    if mask.shape != values.shape:
        raise ValueError(f"mask must have the shape {values.shape} of the values, got {mask.shape}")
    return mask > 0
