"""Does it matter to a run beside how many others it is trained?

python -m experiments.lane_counts [--widths=1,8,30] [--seeds=30] [--config=configs/mnist_1000.py]

Question: under `vmap` the last bits of a run depend on the number of lanes, and training amplifies
them. Do its results differ in more than chance? Method: the same runs, a seed and split each, are
trained to their early stop with every number of lanes. Compared with the first: the accuracy on
`select` of the best epoch and the number of epochs, by paired t-tests with their intervals, and as
distributions by Kolmogorov and Smirnov's test, Holm's correction over all of these.
Verdict: no difference, if no corrected p is below .05.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from scipy import stats

from experiments import cli, lanes
from regjax import config as config_lib
from regjax.comparison import holm
from regjax.config import Config
from regjax.studies.lanes import Job
from regjax.studies.shared import Shared
from regjax.studies.vectorized import Vectorized

_CONFIG = flags.DEFINE_string("config", "configs/mnist_1000.py", "the run")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "where TFDS keeps the prepared set")
_WIDTHS = flags.DEFINE_list("widths", ["1", "8", "30"], "numbers of lanes")
_SEEDS = flags.DEFINE_integer("seeds", 30, "runs", lower_bound=2)
_EPOCHS = flags.DEFINE_integer("epochs", 0, "at most; 0: the config's", lower_bound=0)
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")

MEASURED = ("select_accuracy", "epochs")


def trained(config: Config, width: int) -> dict[str, np.ndarray]:
    """What is measured of each run, in the order of seeds."""
    many = Vectorized(Shared(), width)
    for run in lanes.over_seeds(config, range(_SEEDS.value)):
        many.start(Job(run, ("select",)))
    records: list[dict[str, Any]] = []
    while len(records) < _SEEDS.value:
        records += [record for _, record in many.epoch()]
    records.sort(key=lambda record: record["seed"])
    return {name: np.array([record[name] for record in records], float) for name in MEASURED}


def compared(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """The paired difference with its 95 % interval, and p-values."""
    gap = other - one
    middle, error = gap.mean(), gap.std(ddof=1) / np.sqrt(len(gap))
    reach = stats.t.ppf(0.975, len(gap) - 1) * error
    t = middle / error if error else np.nan
    ks: Any = stats.ks_2samp(one, other)
    p = {"t": 2 * stats.t.sf(abs(t), len(gap) - 1), "ks": ks.pvalue}
    return {
        "difference": float(middle),
        "interval": [float(middle - reach), float(middle + reach)],
        "same_runs": int((gap == 0).sum()),
        "p": {name: float(value) for name, value in p.items() if np.isfinite(value)},
    }


def main(values: flags.FlagValues) -> None:
    """Trains, compares and prints."""
    config = config_lib.load(_CONFIG.value)
    config.data.data_dir = _DATA_DIR.value
    config.epochs = _EPOCHS.value or config.epochs
    config = config_lib.check(config)
    runs = {}
    for width in map(int, _WIDTHS.value):
        started = time.perf_counter()
        runs[width] = trained(config, width)
        means = {name: float(values.mean()) for name, values in runs[width].items()}
        print(
            f"{width} lanes  {json.dumps(means)}  {time.perf_counter() - started:.1f} s", flush=True
        )
    first, *others = runs
    figures: dict[str, Any] = {"device": jax.devices()[0].device_kind, "seeds": _SEEDS.value}
    p_values: dict[str, float] = {}
    for width in others:
        for name in MEASURED:
            what = f"{name}, {width} lanes against {first}"
            figures[what] = compared(runs[first][name], runs[width][name])
            p_values |= {f"{test} {what}": p for test, p in figures[what]["p"].items()}
    figures["smallest_p"] = min(holm(p_values).values(), default=1.0)
    figures["no_difference"] = figures["smallest_p"] >= 0.05
    print(json.dumps(figures, indent=2))
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(figures, indent=2) + "\n")
    if not figures["no_difference"]:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
