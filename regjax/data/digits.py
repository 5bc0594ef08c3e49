"""scikit-learn's 1,797 handwritten digits, 8×8: shipped with it, no download."""

import importlib.util
from pathlib import Path

import numpy as np

from regjax.data.pool import Pool


def load() -> Pool:
    """Returns the digits with pixel values 0 to 16 (Alpaydin & Kaynak 1998, the UCI test part).

    >>> load().images.shape
    (1797, 8, 8, 1)
    """
    rows = np.loadtxt(_file(), delimiter=",", dtype=np.uint8)
    images, labels = rows[:, :-1].reshape(-1, 8, 8, 1), rows[:, -1].astype(np.int32)
    classes = tuple(str(digit) for digit in range(10))
    return Pool("digits", images, labels, None, None, classes, value_range=(0.0, 16.0))


def _file() -> Path:
    """What `sklearn.datasets.load_digits` reads; importing scikit-learn takes over a second."""
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None and spec.origin is not None, "scikit-learn is a dependency"
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
