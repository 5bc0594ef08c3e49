"""The stopping criteria of Prechelt (1998), "Early stopping — but when?".

They watch an error: smaller is better, and positive for `GL` and `PQ`, which are ratios. A strip is
k of the epochs that they are told, of which every k-th is an end.
"""

from typing import Self

import jax
import jax.numpy as jnp

from regjax.stopping.criterion import Number, StoppingCriterion


def generalization_loss(error: Number, best: Number) -> jax.Array:
    """GL = 100·(E / E_opt − 1): by how many percent the error is above the lowest so far.

    >>> generalization_loss(1.5, 1.0)
    Array(50., dtype=float32)
    """
    error, best = jnp.asarray(error, jnp.float32), jnp.asarray(best, jnp.float32)
    # The difference comes first: it is exact where the two are close.
    return jnp.where(jnp.isinf(error), jnp.inf, 100 * _excess(error, best))


def training_progress(mean: Number, lowest: Number) -> jax.Array:
    """P_k = 1000·(mean / minimum − 1) of a strip's training errors: large while they still move.

    >>> training_progress(1.5, 1.0)
    Array(500., dtype=float32)
    """
    return 1000 * _excess(jnp.asarray(mean, jnp.float32), jnp.asarray(lowest, jnp.float32))


def _excess(value: jax.Array, lowest: jax.Array) -> jax.Array:
    """value / lowest − 1, and 0 where they are equal, be it at 0."""
    above = value - lowest
    return jnp.where(above == 0, 0, above / jnp.where(above == 0, 1, lowest))


class GL(StoppingCriterion):
    """Stops when the generalization loss exceeds α.

    Attributes:
      alpha: α in percent; Prechelt tries 1 to 5.

    >>> stopping = GL.create(alpha=10.0)
    >>> for epoch, error in enumerate([1.0, 0.5, 0.54, 0.56], start=1):
    ...     stopping = stopping.update(epoch, error)
    >>> int(stopping.best_epoch), bool(stopping.stopped)
    (2, True)
    """

    alpha: jax.Array

    @classmethod
    def create(cls, alpha: Number, stop_on_nan: bool = False) -> "GL":
        """Returns the value before the first epoch."""
        return cls._start(False, stop_on_nan, alpha=jnp.asarray(alpha, jnp.float32))

    def _judge(
        self, epoch: jax.Array, error: jax.Array, improved: jax.Array, train_loss: Number | None
    ) -> tuple[Self, jax.Array]:
        return self, generalization_loss(error, self.best) > self.alpha


class PQ(StoppingCriterion):
    """Stops at a strip's end where generalization loss over training progress exceeds α.

    Overfitting is let pass while the training error still falls fast. `update` needs `train_loss`;
    a strip in which that is NaN decides nothing by itself.

    Attributes:
      alpha: α; Prechelt tries 0.5 to 3.
      strip: k epochs; Prechelt uses 5.
      told: epochs so far.
      train_total: sum of the training losses of the strip so far.
      train_lowest: the lowest of them.

    >>> stopping = PQ.create(alpha=1.0, strip=2)
    >>> for epoch, (error, train) in enumerate([(1.0, 1.0), (1.5, 0.5), (1.5, 0.4), (1.5, 0.4)], 1):
    ...     stopping = stopping.update(epoch, error, train)
    ...     print(epoch, bool(stopping.stopped))
    1 False
    2 False
    3 False
    4 True
    """

    alpha: jax.Array
    strip: jax.Array
    told: jax.Array
    train_total: jax.Array
    train_lowest: jax.Array

    @classmethod
    def create(cls, alpha: Number, strip: int | jax.Array = 5, stop_on_nan: bool = False) -> "PQ":
        """Returns the value before the first epoch."""
        return cls._start(
            False,
            stop_on_nan,
            alpha=jnp.asarray(alpha, jnp.float32),
            strip=jnp.asarray(strip, jnp.int32),
            told=jnp.zeros((), jnp.int32),
            train_total=jnp.zeros((), jnp.float32),
            train_lowest=jnp.asarray(jnp.inf, jnp.float32),
        )

    def _judge(
        self, epoch: jax.Array, error: jax.Array, improved: jax.Array, train_loss: Number | None
    ) -> tuple[Self, jax.Array]:
        if train_loss is None:
            raise ValueError("PQ needs the training loss: give update(epoch, metric, train_loss)")
        train_loss = jnp.asarray(train_loss, jnp.float32)
        total = self.train_total + train_loss
        lowest = jnp.minimum(self.train_lowest, train_loss)
        told = self.told + 1
        end = told % self.strip == 0
        progress = training_progress(total / self.strip, lowest)
        new = self.replace(
            told=told,
            train_total=jnp.where(end, 0, total),
            train_lowest=jnp.where(end, jnp.inf, lowest),
        )
        loss = generalization_loss(error, self.best)
        # Not divided by: without progress any generalization loss stops, and none does not.
        return new, end & ((loss > self.alpha * progress) | jnp.isinf(error))


class UP(StoppingCriterion):
    """Stops when the error rose in s successive strips, however little.

    It rose in a strip when it is higher at its end than at the end of the one before; the first
    strip has none before it. Only the order of the errors matters, so it may watch any metric.

    Attributes:
      strips: s; Prechelt tries 2 to 8.
      strip: k epochs; Prechelt uses 5.
      told: epochs so far.
      error: the error at the end of the last strip.
      rises: strips in a row in which it rose.

    >>> stopping = UP.create(strips=2, strip=1)
    >>> for epoch, error in enumerate([0.5, 0.6, 0.7], start=1):
    ...     stopping = stopping.update(epoch, error)
    >>> int(stopping.best_epoch), bool(stopping.stopped)
    (1, True)
    """

    strips: jax.Array
    strip: jax.Array
    told: jax.Array
    error: jax.Array
    rises: jax.Array

    @classmethod
    def create(
        cls,
        strips: int | jax.Array,
        strip: int | jax.Array = 5,
        maximize: bool = False,
        stop_on_nan: bool = False,
    ) -> "UP":
        """Returns the value before the first epoch."""
        return cls._start(
            maximize,
            stop_on_nan,
            strips=jnp.asarray(strips, jnp.int32),
            strip=jnp.asarray(strip, jnp.int32),
            told=jnp.zeros((), jnp.int32),
            error=jnp.asarray(jnp.inf, jnp.float32),
            rises=jnp.zeros((), jnp.int32),
        )

    def _judge(
        self, epoch: jax.Array, error: jax.Array, improved: jax.Array, train_loss: Number | None
    ) -> tuple[Self, jax.Array]:
        told = self.told + 1
        end = told % self.strip == 0
        rose = (error > self.error) | jnp.isinf(error)
        rises = jnp.where(end, jnp.where(rose, self.rises + 1, 0), self.rises)
        new = self.replace(told=told, error=jnp.where(end, error, self.error), rises=rises)
        return new, end & (rises >= self.strips)
