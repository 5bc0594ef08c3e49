"""Numbers of any dtype as float32, the dtype that data are kept in."""

from collections.abc import Callable

import numpy as np

from regjax.errors import InputError

# So many times their range away from 0, values are rounded to a thousandth of it.
FAR = 2**13


def narrowed(columns: np.ndarray, name: Callable[[int], str]) -> np.ndarray:
    """Returns columns of numbers as float32; what overflows is infinite.

    Args:
      columns: `(N, F)` real numbers, which may be NaN.
      name: of a column, for the message.

    Raises:
      InputError: values so far from 0, for their range, that different ones become the same.

    >>> narrowed(np.array([[0], [2**24 + 1]]), str).tolist()
    [[0.0], [16777216.0]]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = columns.astype(np.float32)
        if np.can_cast(columns.dtype, np.float32):
            return narrow
        low, high = (end.reduce(columns, 0).astype(np.float64) for end in (np.fmin, np.fmax))
        far = np.maximum(-low, high) > FAR * (high - low)
    for i in np.flatnonzero(far).tolist():
        given, left = np.unique(columns[:, i]), np.unique(narrow[:, i])
        if len(left) < len(given) and not np.isinf(left).any():
            raise InputError(
                f"{name(i)} has values so far from 0 that {len(given)} different ones are "
                f"{len(left)} as float32; subtract an offset, such as {given[0]}"
            )
    return narrow
