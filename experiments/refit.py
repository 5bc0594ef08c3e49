"""Does training once more on train + valid help, and is it never worse on average?

python -m experiments.refit [--seeds=5] [--config=configs/digits.py] [--train=150 --valid=150]

Question: what does `stopping.refit` change in test accuracy and loss, now that the validation
examples are trained on too? Method: each seed has its own split and start; the first phase is the
same for all, so differences are paired. Reported are means ± standard deviations over the seeds,
and the mean difference from the weights without a refit ± its standard error.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console

from experiments import cli
from regjax import config as config_lib
from regjax.config import Config
from regjax.train import train

_CONFIG = flags.DEFINE_string("config", "configs/digits.py", "the run")
_SEEDS = flags.DEFINE_integer("seeds", 5, "how many", lower_bound=2)
_FIRST = flags.DEFINE_integer("first_seed", 0, "the first of them")
_TRAIN = flags.DEFINE_float("train", None, "data.train, in place of the config's")
_VALID = flags.DEFINE_float("valid", None, "data.valid, in place of the config's")

REFITS: dict[str, dict[str, Any]] = {
    "restart": {"stopping.refit": "restart"},
    "restart by steps": {"stopping.refit": "restart", "stopping.refit_by": "steps"},
    "continue": {"stopping.refit": "continue"},
}


def scores(config: Config, folder: Path) -> dict[str, dict[str, Any]]:
    """What each refit leaves of one run, and what was before."""
    results = {
        name: train(config_lib.with_setting(config, changes), folder / name, Console(quiet=True))
        for name, changes in REFITS.items()
    }
    return {"none": results["restart"]["refit"]["before"], **results}


def main(values: flags.FlagValues) -> None:
    """Trains, compares and prints."""
    config, found = config_lib.load(_CONFIG.value), []
    sizes = {"data.train": _TRAIN.value, "data.valid": _VALID.value}
    sizes = {name: value for name, value in sizes.items() if value is not None}
    score = f"test_{config_lib.score_name(config)}"
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(_FIRST.value, _FIRST.value + _SEEDS.value):
            run = config_lib.with_setting(config, {"seed": seed, **sizes})
            found.append(scores(run, Path(folder) / str(seed)))
            told = "  ".join(f"{name} {of[score]:.4f}" for name, of in found[-1].items())
            ended = found[-1]["continue"]["refit"]
            print(
                f"seed {seed}  {told}  (restart {found[-1]['restart']['refit']['epochs']} epochs; "
                f"continue {ended['epochs']}, ended by {ended['ended_by']})",
                flush=True,
            )
    summary = {}
    for name in ("none", *REFITS):
        summary[name] = {}
        for metric in (score, "test_loss"):
            each = np.array([of[name][metric] for of in found])
            gains = each - [of["none"][metric] for of in found]
            error = gains.std(ddof=1) / np.sqrt(len(gains))
            summary[name][metric] = f"{each.mean():.4f} ± {each.std(ddof=1):.4f}"
            summary[name][f"{metric}_gain"] = f"{gains.mean():+.4f} ± {error:.4f}"
        print(f"{name:18}", "  ".join(f"{k} {v}" for k, v in summary[name].items()))
    print(json.dumps({"seeds": _SEEDS.value, **summary}))


if __name__ == "__main__":
    cli.run(main)
