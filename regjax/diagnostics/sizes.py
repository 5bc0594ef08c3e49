"""Learning curves over the size of the training set."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from scipy import optimize


class PowerLaw(NamedTuple):
    """error(n) = a + b · n^(−c) (Cortes et al. 1993; Hestness et al. 2017).

    Attributes:
      floor: a ≥ 0, the error with data without end.
      scale: b ≥ 0.
      exponent: c > 0.
    """

    floor: float
    scale: float
    exponent: float

    def at(self, size: float) -> float:
        """The error at a size."""
        return self.floor + self.scale * size**-self.exponent


def nested_subsets(key: jax.Array, examples: int, sizes: Sequence[int]) -> list[jax.Array]:
    """Returns indices of random subsets, each the beginning of the next larger one.

    So along a learning curve examples are added and none is replaced.

    Raises:
      ValueError: a size outside 1 … examples.

    >>> small, large = nested_subsets(jax.random.key(0), 10, (2, 5))
    >>> bool((large[:2] == small).all()), len(large)
    (True, 5)
    """
    if wrong := [size for size in sizes if not 1 <= size <= examples]:
        raise ValueError(f"sizes must be in 1 … {examples}, got {wrong[0]}")
    order = jax.random.permutation(key, examples)
    return [order[:size] for size in sizes]


def power_law(sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """Fits a power law by least squares of the errors, with all three numbers ≥ 0.

    For a given exponent floor and scale are a non-negative least-squares problem, so that only the
    exponent, in [0.01, 4], is searched.

    Args:
      sizes: at least three different ones.
      errors: at each, as means over seeds.

    Raises:
      ValueError: fewer sizes.

    >>> [round(x, 3) for x in power_law([10, 100, 1000], [0.15, 0.105, 0.1005])]
    [0.1, 0.5, 1.0]
    """
    n, y = np.asarray(sizes, float), np.asarray(errors, float)
    if len(np.unique(n)) < 3:
        raise ValueError(f"a power law takes three different sizes, got {len(np.unique(n))}")

    def fit(exponent: float) -> tuple[np.ndarray, float]:
        powers = (n / n.min()) ** -exponent
        return optimize.nnls(np.stack([np.ones_like(n), powers], axis=1), y)

    grid = np.geomspace(0.01, 4, 200)
    best = int(np.argmin([fit(c)[1] for c in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = optimize.minimize_scalar(
        lambda c: fit(c)[1], bounds=around, method="bounded", options={"xatol": 1e-8}
    )
    exponent = float(found.x)  # pyright: ignore[reportAttributeAccessIssue]
    (floor, scale), _ = fit(exponent)
    return PowerLaw(float(floor), float(scale * n.min() ** exponent), exponent)
