"""A run killed at any moment and started again ends as one that was never killed.

python -m experiments.kills [--kills=20] [--config=configs/digits.py]

Question: does a SIGKILL ever change what a run leaves? Method: one run goes through undisturbed;
the others are killed once and started again with the same command. Half of the kills fall at a
moment drawn uniformly over its whole duration (start-up, compiling, training, saving, writing the
result), half within a tenth of a second after an epoch drawn at random, so that a slow start on a
busy machine does not keep them all out of the training.
Verdict: identical, if `result.json` (without the seconds) and every array of the best and the
latest checkpoint, and of what `regjax evaluate` looks at (after a refit another one), are equal bit
by bit.
"""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from regjax import evaluate
from regjax.checkpoint import Checkpoints
from regjax.state import RunState
from regjax.train import assemble
from regjax.workdir import Workdir

_CONFIG = flags.DEFINE_string("config", "configs/digits.py", "the run")
_KILLS = flags.DEFINE_integer("kills", 20, "how many runs are killed", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "of the moments")


def start(config: str, workdir: Path) -> subprocess.Popen[bytes]:
    """Starts the run through the real command line."""
    command = [sys.executable, "-m", "regjax", "train", f"--config={config}"]
    return subprocess.Popen([*command, f"--workdir={workdir}"], stdout=subprocess.DEVNULL)


def finish(config: str, workdir: Path) -> float:
    """Runs to the end; returns how long that took."""
    started = time.perf_counter()
    if code := start(config, workdir).wait():
        raise RuntimeError(f"the run in {workdir} ended with exit code {code}")
    return time.perf_counter() - started


def fingerprint(path: Path) -> dict[str, Any]:
    """What must not depend on a kill: the result, and the bits of both checkpoints."""
    workdir = Workdir(path)
    result = workdir.read_result()
    assert result is not None
    shapes = assemble(workdir.read_config()).shapes()
    bits = {}
    with Checkpoints(workdir.checkpoints, read_only=True) as checkpoints:
        latest = checkpoints.latest()
        assert latest is not None
        for number in {checkpoints.best(), latest}:
            bits[number] = digest(checkpoints.restore(number, shapes))
    bits["evaluated"] = digest(evaluate.best(path)[1])
    epochs = [line["epoch"] for line in workdir.read_metrics()]
    timed = ("seconds", "compile_seconds")
    kept = {name: value for name, value in result.items() if name not in timed}
    return {"result": kept, "checkpoints": bits, "epochs": epochs}


def digest(run: RunState) -> str:
    """A hash of a run's every bit."""
    run = run.replace(key=jax.random.key_data(run.key))
    made = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(run)):
        made.update(leaf.tobytes())
    return made.hexdigest()


def main(argv: list[str]) -> None:
    """Kills, resumes, compares and prints."""
    del argv
    moments = random.Random(_SEED.value)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        finish(_CONFIG.value, whole)  # the first start also fills caches
        shutil.rmtree(whole)
        seconds = finish(_CONFIG.value, whole)
        expected = fingerprint(whole)
        identical = 0
        for number in range(_KILLS.value):
            path = Path(folder) / f"killed{number}"
            if number % 2:
                lines = range(1, len(expected["epochs"]) + 1)
                epoch, moment = moments.choice(lines), moments.uniform(0, 0.1)
            else:
                epoch, moment = 0, moments.uniform(0, seconds)
            process = start(_CONFIG.value, path)
            while len(Workdir(path).read_metrics()) < epoch:
                time.sleep(0.001)
            time.sleep(moment)
            process.kill()
            process.wait()
            at = len(Workdir(path).read_metrics())
            finish(_CONFIG.value, path)
            same = fingerprint(path) == expected
            identical += same
            print(
                f"killed after {moment:.2f} s{f' from line {epoch} on' if epoch else ''}, "
                f"after line {at}: {'identical' if same else 'DIFFERENT'}",
                flush=True,
            )
        print(json.dumps({"kills": _KILLS.value, "identical": identical}))
    if identical < _KILLS.value:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
