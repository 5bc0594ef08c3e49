"""Stopping after a number of epochs without improvement."""

from typing import Self

import jax
import jax.numpy as jnp

from regjax.stopping.criterion import Number, StoppingCriterion


class EarlyStopping(StoppingCriterion):
    """Stops on the `patience`-th miss in a row, as Keras and Lightning do.

    An epoch improves when its metric beats the best so far by more than `min_delta`; every other
    epoch is a miss. (Flax's and scikit-learn's stop one later.) Best, NaN and the other attributes
    as in `StoppingCriterion`.

    Attributes:
      patience: misses in a row that stop the run; 0 never stops.
      min_delta: how much better counts as better.
      start_epoch: epochs before it are not counted as misses; the best is kept from the start on
        (Keras's `start_from_epoch` also ignores the best until then).
      misses: misses since the best epoch.

    >>> stopping = EarlyStopping.create(patience=2, maximize=True)
    >>> for epoch, accuracy in enumerate([0.5, 0.7, 0.7, 0.6], start=1):
    ...     stopping = stopping.update(epoch, accuracy)
    >>> int(stopping.best_epoch), bool(stopping.stopped)
    (2, True)
    """

    patience: jax.Array
    min_delta: jax.Array
    start_epoch: jax.Array
    misses: jax.Array

    @classmethod
    def create(
        cls,
        patience: int | jax.Array,
        maximize: bool,
        min_delta: Number = 0.0,
        start_epoch: int | jax.Array = 0,
        stop_on_nan: bool = False,
    ) -> "EarlyStopping":
        """Returns the value before the first epoch."""
        return cls._start(
            maximize,
            stop_on_nan,
            patience=jnp.asarray(patience, jnp.int32),
            min_delta=jnp.asarray(min_delta, jnp.float32),
            start_epoch=jnp.asarray(start_epoch, jnp.int32),
            misses=jnp.zeros((), jnp.int32),
        )

    def _margin(self) -> Number:
        return self.min_delta

    def _judge(
        self, epoch: jax.Array, error: jax.Array, improved: jax.Array, train_loss: Number | None
    ) -> tuple[Self, jax.Array]:
        counted = ~improved & (epoch >= self.start_epoch)
        misses = jnp.where(improved, 0, self.misses + counted)
        return self.replace(misses=misses), (self.patience > 0) & (misses >= self.patience)
