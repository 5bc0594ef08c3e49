"""Named random streams: a new consumer of randomness changes nobody else's numbers.

Every key is derived from the run's root key by the *name* of its use, then by a counter (epoch or
step), never by splitting in sequence. Two runs that differ in one ingredient therefore see the
same initial weights and the same order of the data.
"""

import zlib

import jax
import numpy as np

INIT = "init"
SHUFFLE = "shuffle"
DROPOUT = "dropout"
AUGMENT = "augment"
NOISE = "noise"
MICRO = "micro"
SPLIT = "split"


def stream_number(name: str) -> int:
    """Returns the stable 31-bit number of a stream's name (CRC-32, its top bit dropped).

    >>> stream_number("dropout")
    311029705
    """
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def stream(key: jax.Array, name: str, counter: int | jax.Array = 0) -> jax.Array:
    """Returns the key of the stream `name` at `counter`.

    Args:
      key: the root key of a run (`jax.random.key(seed)`).
      name: what the numbers are for, for example `"dropout"`.
      counter: epoch or step, may be traced.

    >>> root = jax.random.key(0)
    >>> bool(stream(root, "init") == stream(root, "shuffle"))
    False
    """
    return jax.random.fold_in(jax.random.fold_in(key, stream_number(name)), counter)


def host_stream(seed: int, name: str) -> np.random.Generator:
    """Returns the NumPy generator of the stream `name`, for what happens before the device.

    >>> host_stream(0, "split").integers(100) == host_stream(0, "split").integers(100)
    np.True_
    """
    return np.random.default_rng([seed, stream_number(name)])
