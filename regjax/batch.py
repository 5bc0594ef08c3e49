"""Data on the device: a split as arrays, and the batches drawn from it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from regjax.strengths import steps_per_epoch


class Batch(NamedTuple):
    """Inputs `(N, ...)` as the network sees them, labels `(N,)`, and which rows count.

    `targets` `(N, K)` are mixed: soft labels, or numbers; where given, the loss looks at these.
    """

    images: jax.Array
    labels: jax.Array
    mask: jax.Array
    targets: jax.Array | None = None


class Part(struct.PyTreeNode):
    """Which part of a streamed split some arrays are: batches of an epoch, in order.

    Attributes:
      first: number of the first batch in the epoch.
      mask: `(batches, N)`, 0 for rows of padding: where a batch has fewer, and whole batches after
        the last.
    """

    first: jax.Array
    mask: jax.Array


class Arrays(struct.PyTreeNode):
    """One split on the device, as arrays of its own or as rows of a larger set.

    Attributes:
      images: `(N, ...)` inputs as stored; of a part `(batches, N, ...)`.
      labels: `(N,)` classes, or numbers as stored; of a part `(batches, N)`.
      shift, scale: the network sees (images − shift) · scale.
      rows: `(n,)`, which examples are the split's; None: all. Lanes share a set in this way.
      fill: `(1, ...)`, what stands for missing inputs (NaN); None: there are none.
      target_shift, target_scale: the loss sees (labels − shift) · scale; None: labels are classes.
      part: of which these are a part; None: of nothing, they are the split.
      count: how many come before padding; None: all, or as `part` has it.
    """

    images: jax.Array
    labels: jax.Array
    shift: jax.Array
    scale: jax.Array
    rows: jax.Array | None = None
    fill: jax.Array | None = None
    target_shift: jax.Array | None = None
    target_scale: jax.Array | None = None
    part: Part | None = None
    count: jax.Array | None = None

    def __len__(self) -> int:
        return len(self.labels if self.rows is None else self.rows)

    def all_labels(self) -> jax.Array:
        """The split's labels `(n,)` as the loss sees them, in its order; with any padding."""
        labels = self.labels if self.rows is None else self.labels[self.rows]
        return self._targets(labels.reshape(-1))

    def counted(self) -> jax.Array | None:
        """`(n,)`, which of these are no padding; None: all."""
        if self.part is not None:
            return self.part.mask.reshape(-1) > 0
        return None if self.count is None else jnp.arange(len(self)) < self.count

    def _targets(self, labels: jax.Array) -> jax.Array:
        if self.target_shift is None or self.target_scale is None:
            return labels
        return (labels - self.target_shift) * self.target_scale

    def scaled(self, values: jax.Array) -> jax.Array:
        """Stored values as the network sees them: (values − shift) · scale."""
        values = values.astype(jnp.float32)
        if self.fill is not None:
            values = jnp.where(jnp.isnan(values), self.fill, values)
        return (values - self.shift) * self.scale

    def take(self, indices: jax.Array, mask: jax.Array) -> Batch:
        """Returns the batch of the given examples of the split; of a part, the batch given."""
        rows = indices if self.rows is None else self.rows[indices]
        return Batch(self.scaled(self.images[rows]), self._targets(self.labels[rows]), mask)


def batches(order: jax.Array, batch_size: int) -> tuple[jax.Array, jax.Array]:
    """Cuts an order of examples into rows of `batch_size`, and masks the padding of the last.

    >>> batches(jnp.array([2, 0, 1]), 2)[1]
    Array([[1., 1.],
           [1., 0.]], dtype=float32)
    """
    batch_size = min(batch_size, len(order))
    rows = steps_per_epoch(len(order), batch_size)
    padded = jnp.pad(order, (0, rows * batch_size - len(order)))
    mask = jnp.arange(rows * batch_size) < len(order)
    shape: Any = (rows, batch_size)
    return padded.reshape(shape), mask.reshape(shape).astype(jnp.float32)
