"""Trials per minute of a study, in regjax and in PyTorch with Optuna.

python -m experiments.benchmarks.study [--trials=40] [--repeats=3] [--workers=1,2]

Question: how many times the trials per minute does `regjax study` make of eager PyTorch, driven by
Optuna as its tutorials have it, one trial after another and with several workers?
Method: the trials of `configs/study_seed.py` (norm and penalty as arms, λ and learning rate drawn
by Sobol, early stopping at patience 5), the very same settings, data and splits for all. Each
program runs the whole study on an otherwise idle machine, in turn (A B C A B C ...), from its start
to its end: imports and compilation count, with an empty compilation cache; the data lie decoded on
disk. A PyTorch worker has its share of the cores. Reported: trials and trial-epochs per minute
(early stopping makes the epochs a matter of luck), and the ratios of neighbours.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from experiments.benchmarks.epochs import torch_tensors
from regjax import config as config_lib
from regjax.config import StudyConfig

_CONFIG = flags.DEFINE_string("config", "configs/study_seed.py", "a study of the cnn by Adam")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "where TFDS keeps the prepared set")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "original files, to prepare it from")
_TRIALS = flags.DEFINE_integer("trials", 40, "of the search; nothing is confirmed", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 100, "at most", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 3, "whole studies of each", lower_bound=1)
_WORKERS = flags.DEFINE_list("workers", ["1", "2"], "of PyTorch and Optuna")
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")

Made = dict[str, float]  # trials, epochs, seconds, best


def run_regjax(study: StudyConfig, folder: Path) -> Made:
    """Runs the command, as a user does."""
    from regjax.studies import coordinator

    config = folder / "config.json"
    config.write_text(config_lib.to_json(study))
    command = [sys.executable, "-m", "regjax", "study", f"--config={config}"]
    # Compiled programs are kept there.
    environment = {**os.environ, "REGJAX_CACHE_DIR": str(folder / "cache")}
    _decoded(study, folder / "cache")
    started = time.perf_counter()
    subprocess.run(
        [*command, f"--workdir={folder / 'study'}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    seconds = time.perf_counter() - started
    rows = coordinator.read(folder / "study").rows
    made = [row["trained_epochs"] for row in rows]
    best = max(row["value"] for row in rows)
    return {"trials": len(made), "epochs": sum(made), "seconds": seconds, "best": best}


def _decoded(study: StudyConfig, cache: Path) -> None:
    """Puts the decoded data into a new cache."""
    code = "import sys; from regjax import config, data; data.load(config.load(sys.argv[1]).data)"
    config = cache.parent / "config.json"
    environment = {**os.environ, "REGJAX_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, "-c", code, str(config)], env=environment, check=True)


def run_torch(study: StudyConfig, folder: Path, workers: int) -> Made:
    """Runs PyTorch and Optuna, with its trials divided by a journal where there are many."""
    import optuna

    from regjax.studies import plan

    journal = str(folder / "journal.log")
    context = multiprocessing.get_context("spawn")
    started = time.perf_counter()
    shared = _optuna_study(journal)
    for entry in plan.search_entries(study):
        shared.enqueue_trial(entry.params, user_attrs={"planned": True})
    processes = [
        context.Process(target=_torch_worker, args=(study, journal, workers))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    seconds = time.perf_counter() - started
    done = [t for t in shared.trials if t.state == optuna.trial.TrialState.COMPLETE]
    made = sum(trial.user_attrs["epochs"] for trial in done)
    return {"trials": len(done), "epochs": made, "seconds": seconds, "best": shared.best_value}


def _optuna_study(journal: str) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(JournalFileBackend(journal))
    return optuna.create_study(
        study_name="torch", storage=storage, direction="maximize", load_if_exists=True
    )


def _torch_worker(study: StudyConfig, journal: str, workers: int) -> None:
    import optuna
    import torch

    from regjax import data as data_lib
    from regjax.studies import plan

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    pool = data_lib.load(study.data)
    shared = _optuna_study(journal)
    waiting = (optuna.trial.TrialState.WAITING,)
    while shared.get_trials(deepcopy=False, states=waiting):
        trial = shared.ask()
        if "planned" not in trial.user_attrs:  # another worker was faster
            shared.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        config = plan.config_of(study, plan.suggest(trial, study), study.seed)
        value, epochs = train_torch(config, data_lib.draw(pool, config.data, config.seed))
        trial.set_user_attr("epochs", epochs)
        shared.tell(trial, value)


def train_torch(config: config_lib.Config, data: Any) -> tuple[float, int]:
    """One trial in eager PyTorch: the accuracy on `select` of the best epoch, and the epochs."""
    import torch

    from experiments.benchmarks.torch_networks import TorchCNN

    torch.manual_seed(config.seed)
    tensors = {name: torch_tensors(data, name) for name in ("train", "valid", "select")}
    network = TorchCNN(config.model.norm)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.optimizer.learning_rate)
    penalty = _torch_penalty(config)

    def accuracy(split: str) -> float:
        network.eval()
        x, y = tensors[split]
        batches = zip(x.split(config.eval_batch_size), y.split(config.eval_batch_size), strict=True)
        with torch.no_grad():
            hits = sum((network(a).argmax(1) == b).sum().item() for a, b in batches)
        return hits / len(y)

    best, best_epoch, kept, epoch = -1.0, 0, {}, 0
    while epoch < config.epochs and epoch - best_epoch < config.stopping.patience:
        epoch += 1
        network.train()
        x, y = tensors["train"]
        for rows in torch.randperm(len(y)).split(config.batch_size):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(x[rows]), y[rows])
            (loss + penalty(network)).backward()
            optimizer.step()
        if (measured := accuracy("valid")) > best:
            best, best_epoch = measured, epoch
            kept = {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(kept)
    return accuracy("select"), epoch


def _torch_penalty(config: config_lib.Config) -> Callable[[Any], Any]:
    name, strength = config.penalty.name, config.penalty.strength
    shares = {"none": (0, 0), "l1": (1, 0), "l2": (0, 1), "elastic": (0.5, 0.5)}
    l1, l2 = shares[name]

    def penalty(network: Any) -> Any:
        total = 0.0
        for weight in network.parameters() if strength else ():
            if l1:
                total = total + l1 * weight.abs().sum()
            if l2:
                total = total + l2 * weight.square().sum()
        return strength * total

    return penalty


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    study = config_lib.load(_CONFIG.value)
    assert isinstance(study, StudyConfig)
    study.data.data_dir, study.data.manual_dir = _DATA_DIR.value, _MANUAL_DIR.value
    study.epochs = _EPOCHS.value
    study.study.protocol, study.study.trials, study.study.confirm = "optuna", _TRIALS.value, 0
    study = config_lib.check(study)
    makes: dict[str, Callable[[Path], Made]] = {"regjax": lambda f: run_regjax(study, f)}
    for count in map(int, _WORKERS.value):
        makes[f"torch, {count} workers"] = lambda f, n=count: run_torch(study, f, n)
    made: dict[str, list[Made]] = {name: [] for name in makes}
    for _ in range(_REPEATS.value):
        for name, make in makes.items():
            with tempfile.TemporaryDirectory() as folder:
                made[name].append(make(Path(folder)))
            print(name, json.dumps(made[name][-1]), flush=True)
    figures: dict[str, Any] = {
        "machine": cli.machine(),
        "runs": made,
    }
    for what in ("trials", "epochs"):
        rates = {n: [60 * run[what] / run["seconds"] for run in runs] for n, runs in made.items()}
        figures[f"{what} per minute"] = {n: statistics.median(each) for n, each in rates.items()}
        figures[f"ratio of {what} per minute"] = {
            name: [ours / other for ours, other in zip(rates["regjax"], each, strict=True)]
            for name, each in rates.items()
            if name != "regjax"
        }
    print(json.dumps({k: v for k, v in figures.items() if k != "runs"}, indent=2))
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    cli.run(main)
