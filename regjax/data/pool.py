"""What a data set is before it is divided."""

from typing import NamedTuple

import numpy as np


class Pool(NamedTuple):
    """All examples of a data set, on the host.

    Attributes:
      name: as given in the config.
      images: `(N, H, W, C)` for images or `(N, F)` for plain features; uint8 or float32.
      labels: `(N,)`, int32 in [0, K), or float32 where a number is to be predicted.
      test_images, test_labels: the set's own test split, or None where it has none.
      classes: the K names; none where a number is to be predicted.
      value_range: the smallest and largest value that an input can take, or None if unknown.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray | None
    test_labels: np.ndarray | None
    classes: tuple[str, ...]
    value_range: tuple[float, float] | None
