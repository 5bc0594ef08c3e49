"""Does half precision cost accuracy?

python -m experiments.precision [--config=configs/mnist_1000.py] [--seeds=5] [--epochs=0]

Question: is a run with `model.precision=bfloat16` as accurate as with float32? Method: each seed,
with its own split and start, is trained once with either; the best epoch's test accuracy counts.
Verdict: as accurate, if the means differ by at most 0.3 points. Seconds are those of an epoch of
training and evaluation, the median of all epochs; a CPU emulates bfloat16, which is slow there.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console

from experiments import cli
from regjax import config as config_lib
from regjax import train
from regjax.workdir import Workdir

_CONFIG = flags.DEFINE_string("config", "configs/mnist_1000.py", "the run")
_SEEDS = flags.DEFINE_integer("seeds", 5, "runs of each precision", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 0, "at most; 0: the config's", lower_bound=0)
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")

KINDS = ("float32", "bfloat16")
BAR = 0.3  # points


def trained(config: config_lib.Config, folder: Path) -> dict[str, Any]:
    """Test accuracy in points, epochs, and the median epoch's seconds."""
    result = train.train(config, folder, Console(quiet=True))
    seconds = statistics.median(line["seconds"] for line in Workdir(folder).read_metrics())
    accuracy = 100 * result["test_accuracy"]
    return {"accuracy": accuracy, "epochs": result["epochs"], "seconds": seconds}


def main(values: flags.FlagValues) -> None:
    """Trains, compares and prints."""
    base = config_lib.load(_CONFIG.value)
    base.epochs = _EPOCHS.value or base.epochs
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(_SEEDS.value):
            for kind in KINDS:
                config = config_lib.with_setting(base, {"seed": seed, "model.precision": kind})
                runs[kind].append(trained(config, Path(folder) / f"{kind}{seed}"))
                print(f"seed {seed}  {kind:8}  {json.dumps(runs[kind][-1])}", flush=True)
    means = {kind: statistics.mean(run["accuracy"] for run in runs[kind]) for kind in KINDS}
    difference = means["bfloat16"] - means["float32"]
    figures = {
        "seeds": _SEEDS.value,
        **{f"{kind}_accuracy": means[kind] for kind in KINDS},
        "difference": difference,
        "within_bar": abs(difference) <= BAR,
        **{
            f"{kind}_seconds": statistics.median(run["seconds"] for run in runs[kind])
            for kind in KINDS
        },
        "device": train.devices(),
    }
    print(json.dumps(figures, indent=2))
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(figures, indent=2) + "\n")
    if not figures["within_bar"]:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
