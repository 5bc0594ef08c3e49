"""scikit-learn's digits: 1,797 real 8×8 images of handwritten digits, shipped with it."""

import numpy as np

from regjax.data.pool import Pool


def load() -> Pool:
    """Returns the 1,797 images, values 0 to 16 (Alpaydin & Kaynak 1998, the UCI test part).

    >>> load().images.max()
    np.uint8(16)
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.uint8)
    classes = tuple(str(digit) for digit in range(10))
    return Pool("digits", images, labels.astype(np.int32), None, None, classes, (0.0, 16.0))
