"""Data on the device: a split as arrays, and the batches drawn from it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from regjax.strengths import steps_per_epoch


class Batch(NamedTuple):
    """Inputs `(N, ...)` as the network sees them, labels `(N,)`, and which rows count.

    `targets` are soft labels `(N, K)`, where the loss is to look at these.
    """

    images: jax.Array
    labels: jax.Array
    mask: jax.Array
    targets: jax.Array | None = None


class Arrays(struct.PyTreeNode):
    """One split on the device: `(N, ...)` inputs as stored, `(N,)` labels, and their scaling."""

    images: jax.Array
    labels: jax.Array
    shift: jax.Array
    scale: jax.Array

    def scaled(self, values: jax.Array) -> jax.Array:
        """Stored values as the network sees them: (values − shift) · scale."""
        return (values.astype(jnp.float32) - self.shift) * self.scale

    def take(self, indices: jax.Array, mask: jax.Array) -> Batch:
        """Returns the batch of the given rows."""
        return Batch(self.scaled(self.images[indices]), self.labels[indices], mask)


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
