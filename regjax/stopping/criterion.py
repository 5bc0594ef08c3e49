"""What every stopping criterion shares: the best epoch so far, and what becomes of NaN."""

from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import struct

Number = jax.Array | float


class StoppingCriterion(struct.PyTreeNode):
    """Keeps the best epoch; each criterion adds when to stop.

    The first finite metric is the best, then any that is better; ties keep the earlier epoch. A
    metric that is not finite counts as infinitely bad: it is never best and always speaks for
    stopping. NaN stops at once if `stop_on_nan`. Once stopped, nothing changes any more.

    Attributes:
      best: best metric so far, ±inf before the first.
      best_epoch: its epoch, 0 before the first.
      stopped: whether to stop now.
      saw_nan: whether the last metric was NaN.
      maximize: whether larger is better (static).
      stop_on_nan: whether a NaN stops at once (static).
    """

    best: jax.Array
    best_epoch: jax.Array
    stopped: jax.Array
    saw_nan: jax.Array
    maximize: bool = struct.field(pytree_node=False)
    stop_on_nan: bool = struct.field(pytree_node=False)

    @classmethod
    def _start(cls, maximize: bool, stop_on_nan: bool, **fields: Any) -> Self:
        """The value before the first epoch."""
        return cls(
            best=jnp.asarray(-jnp.inf if maximize else jnp.inf, jnp.float32),
            best_epoch=jnp.zeros((), jnp.int32),
            stopped=jnp.zeros((), bool),
            saw_nan=jnp.zeros((), bool),
            maximize=maximize,
            stop_on_nan=stop_on_nan,
            **fields,
        )

    def update(
        self, epoch: int | jax.Array, metric: Number, train_loss: Number | None = None
    ) -> Self:
        """Returns the value after an epoch.

        Args:
          epoch: its number, counted from 1; every epoch is told.
          metric: what is watched.
          train_loss: the mean training loss of the epoch, which only `PQ` looks at.
        """
        epoch, metric = jnp.asarray(epoch, jnp.int32), jnp.asarray(metric, jnp.float32)
        gain = metric - self.best if self.maximize else self.best - metric
        improved = jnp.isfinite(metric) & (gain > self._margin())
        saw_nan = jnp.isnan(metric)
        new = self.replace(
            best=jnp.where(improved, metric, self.best),
            best_epoch=jnp.where(improved, epoch, self.best_epoch),
            saw_nan=saw_nan,
        )
        error = jnp.where(jnp.isfinite(metric), -metric if self.maximize else metric, jnp.inf)
        new, stop = new._judge(epoch, error, improved, train_loss)
        new = new.replace(stopped=stop | (saw_nan & self.stop_on_nan))
        return jax.tree.map(lambda old, new: jnp.where(self.stopped, old, new), self, new)

    def _margin(self) -> Number:
        """How much better counts as better."""
        return 0.0

    def _judge(
        self, epoch: jax.Array, error: jax.Array, improved: jax.Array, train_loss: Number | None
    ) -> tuple[Self, jax.Array]:
        """The criterion's own memory after an epoch, and whether to stop.

        `self` has the new best; `error` is the metric made smaller-is-better, inf if not finite.
        """
        raise NotImplementedError


class Reached(StoppingCriterion):
    """Stops when a loss is down to a target; the last finite epoch is the result, not the best.

    Attributes:
      target: the loss to come down to; −inf: never stops.

    >>> reached = Reached.create(0.4).update(1, 0.5).update(2, 0.6)
    >>> int(reached.best_epoch), bool(reached.stopped), bool(reached.update(3, 0.4).stopped)
    (2, False, True)
    """

    target: jax.Array

    @classmethod
    def create(cls, target: Number, stop_on_nan: bool = False) -> "Reached":
        """Returns the value before the first epoch."""
        return cls._start(False, stop_on_nan, target=jnp.asarray(target, jnp.float32))

    def _margin(self) -> Number:
        return -jnp.inf  # whatever is finite takes the place of what was before

    def _judge(
        self, epoch: jax.Array, error: jax.Array, improved: jax.Array, train_loss: Number | None
    ) -> tuple[Self, jax.Array]:
        return self, error <= self.target


class Never(StoppingCriterion):
    """Keeps the best epoch and goes on to the end, but for a NaN if `stop_on_nan`.

    >>> never = Never.create(maximize=False).update(1, 0.5).update(2, 0.7)
    >>> int(never.best_epoch), bool(never.stopped)
    (1, False)
    """

    @classmethod
    def create(cls, maximize: bool, stop_on_nan: bool = False) -> "Never":
        """Returns the value before the first epoch."""
        return cls._start(maximize, stop_on_nan)

    def _judge(
        self, epoch: jax.Array, error: jax.Array, improved: jax.Array, train_loss: Number | None
    ) -> tuple[Self, jax.Array]:
        return self, jnp.zeros((), bool)
