"""How the examples of a batch are spread over devices.

The step is one function on one device, on many under `jit`, and on many under `pmap`; this is all
that the three differ in. Under `jit` the program is that of the whole batch, and XLA divides it:
only where the batch lies is said. Under `pmap` each device runs the program on its part of the
batch; sums over examples are then added up over the devices, counts included, so means are exact
however uneven the parts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from regjax import keys
from regjax.batch import batches
from regjax.metrics import Mean

PyTree = Any
DEVICE = "device"


class Spread(NamedTuple):
    """Where the examples of a batch are. By default on one device.

    Attributes:
      parts: into how many each batch is divided.
      sharding: under `jit`, of a batch's first axis.
      axis_name: under `pmap`, the devices' axis.
      count: examples of the whole, where what is computed at once is less: a micro-batch; None:
        what all parts have.
    """

    parts: int = 1
    sharding: NamedSharding | None = None
    axis_name: str | None = None
    count: jax.Array | None = None

    def rows(self, order: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        """An order of examples as batches, each padded until it can be divided; this part of each.

        Args:
          order: `(examples,)`.
          size: of a batch, over all devices.

        Returns:
          Indices and mask, `(batches, size / parts)` under `pmap`, else `(batches, size)`.

        >>> Spread(parts=4).rows(jnp.arange(3), 3)[1].tolist()
        [[1.0, 1.0, 1.0, 0.0]]
        """
        indices, mask = batches(order, size)
        short = -indices.shape[1] % self.parts
        whole = [jnp.pad(rows, ((0, 0), (0, short))) for rows in (indices, mask)]
        return self.mine(whole[0]), self.mine(whole[1])

    def mine(self, rows: jax.Array) -> jax.Array:
        """This part of batches `(batches, size, ...)`."""
        if self.axis_name is None:
            return rows
        parts = rows.reshape(len(rows), self.parts, -1, *rows.shape[2:])
        return parts[:, lax.axis_index(self.axis_name)]

    def place(self, batch: PyTree) -> PyTree:
        """A batch where it belongs."""
        if self.sharding is None:
            return batch
        return jax.tree.map(lambda x: lax.with_sharding_constraint(x, self.sharding), batch)

    def whole(self, params: PyTree) -> PyTree:
        """Parameters that devices have parts of, whole on each while a step computes.

        Left to itself XLA gathers some in pieces, many times over, and activations beside them.
        """
        if self.sharding is None:
            return params
        everywhere = NamedSharding(self.sharding.mesh, P())
        return jax.tree.map(lambda x: lax.with_sharding_constraint(x, everywhere), params)

    def total(self, values: PyTree) -> PyTree:
        """The sum of all parts' values."""
        return values if self.axis_name is None else lax.psum(values, self.axis_name)

    def share(self, mean: Mean) -> jax.Array:
        """This part's share of the mean over all parts: their total is the mean."""
        return mean.total / (self.total(mean.count) if self.count is None else self.count)

    def once(self, value: jax.Array) -> jax.Array:
        """This part's share of a value that every part has: their total is the value."""
        return value if self.axis_name is None else value / self.parts

    def average(self, values: PyTree, weight: jax.Array) -> PyTree:
        """The mean of the parts' values, by weight."""
        if self.axis_name is None:
            return values
        summed = self.total(weighted(values, weight))
        return weighted_mean(summed, self.total(weight), self.parts)

    def key(self, key: jax.Array) -> jax.Array:
        """A random key of this part's own."""
        if self.axis_name is None:
            return key
        return keys.stream(key, DEVICE, lax.axis_index(self.axis_name))

    def gather(self, values: jax.Array) -> jax.Array:
        """All parts' values `(batches, size / parts, ...)`, as `(batches, size, ...)`."""
        if self.axis_name is None:
            return values
        return lax.all_gather(values, self.axis_name, axis=1, tiled=True)


def weighted(statistics: PyTree, weight: jax.Array) -> PyTree:
    """Statistics to be summed: times a count, which is a whole number and exact in any dtype.

    >>> weighted({"mean": jnp.ones(1), "seen": jnp.ones(1, int)}, jnp.float32(3))
    {'mean': Array([3.], dtype=float32), 'seen': Array([1], dtype=int32)}
    """
    return jax.tree.map(lambda x: (x * weight).astype(x.dtype) if is_real(x) else x, statistics)


def weighted_mean(total: PyTree, weight: jax.Array, count: int) -> PyTree:
    """The mean of `count` parts that were `weighted` and summed; of whole numbers, as a counter's,
    unweighted.

    >>> weighted_mean({"mean": jnp.ones(1), "seen": jnp.array([4])}, jnp.float32(4), 2)
    {'mean': Array([0.25], dtype=float32), 'seen': Array([2], dtype=int32)}
    """
    return jax.tree.map(lambda x: (x / weight).astype(x.dtype) if is_real(x) else x // count, total)


def is_real(x: jax.Array) -> bool:
    """Whether an array has a mean: its numbers are not whole.

    >>> is_real(jnp.ones(1)), is_real(jnp.ones(1, int))
    (True, False)
    """
    return jnp.issubdtype(x.dtype, jnp.floating)


ALONE = Spread()
