"""Early stopping as an immutable value: decided on the device, acted on by the loop."""

import jax
import jax.numpy as jnp
from flax import struct


class EarlyStopping(struct.PyTreeNode):
    """Watches one metric and says when to stop and which epoch was best.

    An epoch improves when its metric beats the best so far by more than `min_delta`; the first
    finite metric always does, ties keep the earlier epoch. Every other epoch is a miss. The run
    stops on the `patience`-th miss in a row, as in Keras and Lightning (Flax's and scikit-learn's
    stop one later). A NaN is never best, counts as a miss, and stops at once if `stop_on_nan`.

    Attributes:
      patience: misses in a row that stop the run; 0 never stops.
      min_delta: how much better counts as better.
      start_epoch: epochs before it are not counted as misses; the best is kept from the start on
        (Keras's `start_from_epoch` also ignores the best until then).
      best: best metric so far, ±inf before the first.
      best_epoch: its epoch, 0 before the first.
      misses: misses since the best epoch.
      stopped: whether to stop now.
      saw_nan: whether the last metric was NaN.
      maximize: whether larger is better (static).
      stop_on_nan: whether a NaN stops at once (static).

    >>> stopping = EarlyStopping.create(patience=2, maximize=True)
    >>> for epoch, accuracy in enumerate([0.5, 0.7, 0.7, 0.6], start=1):
    ...     stopping = stopping.update(epoch, accuracy)
    >>> int(stopping.best_epoch), bool(stopping.stopped)
    (2, True)
    """

    patience: jax.Array
    min_delta: jax.Array
    start_epoch: jax.Array
    best: jax.Array
    best_epoch: jax.Array
    misses: jax.Array
    stopped: jax.Array
    saw_nan: jax.Array
    maximize: bool = struct.field(pytree_node=False)
    stop_on_nan: bool = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls,
        patience: int | jax.Array,
        maximize: bool,
        min_delta: float | jax.Array = 0.0,
        start_epoch: int | jax.Array = 0,
        stop_on_nan: bool = False,
    ) -> "EarlyStopping":
        """Returns the value before the first epoch."""
        return cls(
            patience=jnp.asarray(patience, jnp.int32),
            min_delta=jnp.asarray(min_delta, jnp.float32),
            start_epoch=jnp.asarray(start_epoch, jnp.int32),
            best=jnp.asarray(-jnp.inf if maximize else jnp.inf, jnp.float32),
            best_epoch=jnp.zeros((), jnp.int32),
            misses=jnp.zeros((), jnp.int32),
            stopped=jnp.zeros((), bool),
            saw_nan=jnp.zeros((), bool),
            maximize=maximize,
            stop_on_nan=stop_on_nan,
        )

    def update(self, epoch: int | jax.Array, metric: float | jax.Array) -> "EarlyStopping":
        """Returns the value after `epoch` (counted from 1), whose metric is `metric`."""
        epoch = jnp.asarray(epoch, jnp.int32)
        metric = jnp.asarray(metric, jnp.float32)
        gain = metric - self.best if self.maximize else self.best - metric
        improved = jnp.isfinite(metric) & (gain > self.min_delta)
        counted = ~improved & (epoch >= self.start_epoch)
        misses = jnp.where(improved, 0, self.misses + counted)
        out_of_patience = (self.patience > 0) & (misses >= self.patience)
        saw_nan = jnp.isnan(metric)
        return self.replace(
            best=jnp.where(improved, metric, self.best),
            best_epoch=jnp.where(improved, epoch, self.best_epoch),
            misses=misses,
            stopped=self.stopped | out_of_patience | (saw_nan & self.stop_on_nan),
            saw_nan=saw_nan,
        )
