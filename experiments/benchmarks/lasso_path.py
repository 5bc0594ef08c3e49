"""How long a lasso path takes, in regjax and in scikit-learn.

python -m experiments.benchmarks.lasso_path [--repeats=7] [--designs=easy,correlated]

Question: do 100 strengths, from α_max to a thousandth of it, on 10,000 × 500 values take longer
here than in scikit-learn's `enet_path` at its defaults (the Gram matrix precomputed, screening)
at the same duality gap? On independent normal features, and on features with pairwise correlations
of .95; 50 coefficients are not 0, as much noise as signal.
Method: as `turns` has it. Both are given centered data, scikit-learn's in its column order, and no
intercept. `max_iter` is above scikit-learn's 1,000, with which the correlated path would not
converge. The first run here, which compiles, is reported apart.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments import cli
from experiments.benchmarks.turns import compared, in_turn

_REPEATS = flags.DEFINE_integer("repeats", 7, "paths of each", lower_bound=1)
_DESIGNS = flags.DEFINE_list("designs", ["easy", "correlated"], "which data")
_TOLERANCES = flags.DEFINE_list("tolerances", ["1e-4", "1e-8"], "duality gaps over ‖y‖²")
_ROWS = flags.DEFINE_integer("rows", 10_000, "rows of the data")
_FEATURES = flags.DEFINE_integer("features", 500, "columns of the data")
_DTYPE = flags.DEFINE_enum("dtype", "float64", ["float32", "float64"], "of both")
_MAX_ITER = flags.DEFINE_integer("max_iter", 100_000, "most iterations for one strength, of both")
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")


class Setting(NamedTuple):
    """One comparison."""

    design: str
    tolerance: float
    rows: int
    features: int
    dtype: str
    max_iter: int


def draw(setting: Setting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns centered x and y, and the strengths."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(setting.rows, setting.features))
    if setting.design == "correlated":
        x = np.sqrt(0.05) * x + np.sqrt(0.95) * rng.normal(size=(setting.rows, 1))
    w = np.zeros(setting.features)
    w[rng.choice(setting.features, 50, replace=False)] = rng.normal(size=50)
    signal = x @ w
    y = signal + rng.normal(size=setting.rows) * signal.std()
    x, y = x - x.mean(0), y - y.mean()
    strengths = np.abs(x.T @ y).max() / setting.rows * np.geomspace(1, 1e-3, 100)
    return x.astype(setting.dtype), y.astype(setting.dtype), strengths.astype(setting.dtype)


def regjax_path(setting: Setting) -> Callable[[], float]:
    """Returns a function that solves the path and returns its largest gap over ‖y‖²."""
    import jax
    import jax.numpy as jnp

    from regjax import solvers

    jax.config.update("jax_enable_x64", setting.dtype == "float64")
    x, y, strengths = map(jnp.asarray, draw(setting))
    options = {"tolerance": setting.tolerance, "max_iterations": setting.max_iter}

    def path() -> float:
        solution = solvers.elastic_net_path(x, y, strengths, fit_intercept=False, **options)
        return float(jnp.max(solution.error) / jnp.mean(y * y))

    return path


def sklearn_path(setting: Setting) -> Callable[[], float]:
    """Returns the same for scikit-learn."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import enet_path

    x, y, strengths = draw(setting)
    x = np.asfortranarray(x)
    options: dict[str, Any] = {
        "alphas": strengths,
        "tol": setting.tolerance,
        "max_iter": setting.max_iter,
    }
    warnings.simplefilter("ignore", ConvergenceWarning)  # the gap tells

    def path() -> float:
        gaps = enet_path(x, y, l1_ratio=1.0, **options)[2]
        return float(gaps.max() / np.mean(y * y))

    return path


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    sizes = _ROWS.value, _FEATURES.value, _DTYPE.value, _MAX_ITER.value
    makes = {"regjax": regjax_path, "sklearn": sklearn_path}
    paths = []
    for design in _DESIGNS.value:
        for tolerance in map(float, _TOLERANCES.value):
            setting = Setting(design, tolerance, *sizes)
            turns = in_turn(makes, setting, _REPEATS.value)
            extra = {
                "gap": {name: turn.result for name, turn in turns.items()},
                "first_seconds": {name: turn.first for name, turn in turns.items()},
            }
            paths.append({**setting._asdict(), **compared(turns, "regjax", "sklearn"), **extra})
            print(json.dumps(paths[-1], indent=2), flush=True)
    figures = {
        "paths": paths,
        "machine": cli.machine(),
    }
    if _OUT.value:
        with open(_OUT.value, "w") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    cli.run(main)
