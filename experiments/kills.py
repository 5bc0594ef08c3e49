"""A run ended at any moment and started again ends as one that was never ended.

python -m experiments.kills [--kills=20] [--signal=KILL] [--modes=single,jit,pmap,refit]
    [--config=configs/digits.py]

Question: does a SIGKILL, SIGTERM or SIGINT ever change what a run leaves? Method: of each mode (one
device, eight virtual ones under jit and under pmap, a refit by steps) one run goes through
undisturbed; the others are ended once and started again with the same command. Half of the signals
fall at a moment drawn uniformly over its whole duration (start-up, compiling, training, saving,
writing the result), half within a tenth of a second after an epoch drawn at random, so that a slow
start on a busy machine does not keep them all out of the training.
Verdict: identical, if `result.json` and `metrics.jsonl` (without the seconds) and every array of
the best and the latest checkpoint, and of what `regjax evaluate` looks at (after a refit another
one), are equal bit by bit; and if a run that trained when SIGTERM or SIGINT came has exit code 143
or 130 and one line on stderr.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments import cli
from regjax import evaluate
from regjax.assembly import assemble
from regjax.checkpoint import Checkpoints
from regjax.state import RunState
from regjax.workdir import Workdir

MODES = {
    "single": ("--config.parallel.mode=single",),
    "jit": ("--config.parallel.mode=jit",),
    "pmap": ("--config.parallel.mode=pmap",),
    "refit": (
        "--config.parallel.mode=single",
        "--config.stopping.refit=restart",
        "--config.stopping.refit_by=steps",
    ),
}
DEVICES = 8

_CONFIG = flags.DEFINE_string("config", "configs/digits.py", "the run")
_KILLS = flags.DEFINE_integer("kills", 20, "how many runs are ended, over the modes", lower_bound=1)
_SIGNAL = flags.DEFINE_enum("signal", "KILL", ["KILL", "TERM", "INT"], "what they are sent")
_MODES = flags.DEFINE_list("modes", list(MODES), "what kind of runs")
_SEED = flags.DEFINE_integer("seed", 0, "of the moments")


def start(mode: str, workdir: Path) -> subprocess.Popen[str]:
    """Starts the run through the real command line."""
    command = [sys.executable, "-m", "regjax", "train", f"--config={_CONFIG.value}"]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}", *MODES[mode]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(DEVICES)},
    )


def finish(mode: str, workdir: Path) -> float:
    """Runs to the end; returns how long that took."""
    started, process = time.perf_counter(), start(mode, workdir)
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the run in {workdir} ended with {process.returncode}: {said}")
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
    lines = [{**line, "seconds": 0} for line in workdir.read_metrics()]
    timed = ("seconds", "compile_seconds")
    kept = {name: value for name, value in result.items() if name not in timed}
    return {"result": kept, "checkpoints": bits, "lines": lines}


def digest(run: RunState) -> str:
    """A hash of a run's every bit."""
    run = run.replace(key=jax.random.key_data(run.key))
    made = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(run)):
        made.update(leaf.tobytes())
    return made.hexdigest()


def end(mode: str, path: Path, epoch: int, moment: float) -> tuple[str, bool]:
    """Ends a run `moment` seconds after its start, or after a line; says where, and if as it ought.

    Before a run trains, the signal may come before anyone has a word to say.
    """
    number, process = signal.Signals[f"SIG{_SIGNAL.value}"], start(mode, path)
    while len(Workdir(path).read_metrics()) < epoch:
        time.sleep(0.001)
    time.sleep(moment)
    process.send_signal(number)
    _, said = process.communicate()
    lines, code = len(Workdir(path).read_metrics()), process.returncode
    right = True
    if number != signal.SIGKILL and lines and code:
        told = said.startswith("regjax: interrupted;") and said.count("\n") == 1
        right = told and code == 128 + number
    return f"after line {lines}, code {code} {said.strip()[-120:]}", right


def ended(mode: str, folder: Path, kills: int, moments: random.Random) -> int:
    """How many runs of a mode ended as the one that was never ended."""
    whole = folder / "whole"
    finish(mode, whole)  # the first start also fills caches
    shutil.rmtree(whole)
    seconds = finish(mode, whole)
    expected, identical = fingerprint(whole), 0
    for number in range(kills):
        path, epoch, moment = folder / str(number), 0, moments.uniform(0, seconds)
        if number % 2:
            epoch = moments.randint(1, len(expected["lines"]))
            moment = moments.uniform(0, 0.1)
        where, right = end(mode, path, epoch, moment)
        finish(mode, path)
        same = right and fingerprint(path) == expected
        identical += same
        print(f"{mode}: {moment:.2f} s {where}: {'identical' if same else 'DIFFERENT'}", flush=True)
    return identical


def main(values: flags.FlagValues) -> None:
    """Ends, resumes, compares and prints."""
    jax.config.update("jax_num_cpu_devices", DEVICES)
    moments, identical = random.Random(_SEED.value), 0
    for i, mode in enumerate(_MODES.value):
        kills = len(range(i, _KILLS.value, len(_MODES.value)))
        with tempfile.TemporaryDirectory() as folder:
            identical += ended(mode, Path(folder), kills, moments)
    figures = {"signal": _SIGNAL.value, "kills": _KILLS.value, "identical": identical}
    print(json.dumps(figures))
    if identical < _KILLS.value:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
