"""A study killed at any moment and started again finds what one never killed finds.

python -m experiments.study_kills [--kills=20] [--config=configs/study_digits.py]

Question: is a finished trial ever lost, or another one found? Method: one study goes through
undisturbed; the others are killed once, coordinator and workers together, by SIGKILL at a moment
drawn uniformly over its duration, and started again with the same command. Shortened to one trial
an arm of ten epochs and one seed of confirmation; six minutes on 2 CPU cores.
Verdict: identical, if all trials of search and confirmation have the same settings, curves and
scores bit by bit, the winner is the same, and no trial that was finished at the kill ran again.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from regjax.errors import InputError
from regjax.studies import coordinator

_CONFIG = flags.DEFINE_string("config", "configs/study_digits.py", "the study")
_KILLS = flags.DEFINE_integer("kills", 20, "how many studies are killed", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "of the moments")
_FIELDS = flags.DEFINE_list(
    "fields", ["epochs=10", "study.trials=1", "study.confirm=1"], "--config.FIELD=VALUE"
)


def start(workdir: Path) -> subprocess.Popen[bytes]:
    """Starts the study through the real command line, in a process group of its own."""
    options = [f"--config.{field}" for field in _FIELDS.value]
    command = [sys.executable, "-m", "regjax", "study", f"--config={_CONFIG.value}", *options]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}"], stdout=subprocess.DEVNULL, start_new_session=True
    )


def finish(workdir: Path) -> float:
    """Runs to the end; returns how long that took."""
    started = time.perf_counter()
    if code := start(workdir).wait():
        raise RuntimeError(f"the study in {workdir} ended with exit code {code}")
    return time.perf_counter() - started


def fingerprint(workdir: Path) -> dict[str, Any]:
    """What must not depend on a kill."""
    found = coordinator.read(workdir)
    assert found.finished
    timed = ("seconds", "finished")
    rows = [
        {name: repr(value) for name, value in row.items() if name not in timed}
        for row in (*found.rows, *found.confirm_rows)
    ]
    return {"trials": rows, "winner": found.arms[0].label, "tied": found.tied}


def finished(workdir: Path) -> dict[tuple[str, int], Any]:
    """When each finished trial ended: one that ran again would have another time."""
    try:
        found = coordinator.read(workdir)
    except InputError:  # killed before its config was written
        return {}
    rows = {"search": found.rows, "confirm": found.confirm_rows}
    return {(phase, row["number"]): row["finished"] for phase in rows for row in rows[phase]}


def main(values: flags.FlagValues) -> None:
    """Kills, resumes, compares and prints."""
    moments = random.Random(_SEED.value)
    with tempfile.TemporaryDirectory() as folder:
        finish(Path(folder) / "first")  # also fills caches
        seconds = finish(Path(folder) / "whole")
        expected = fingerprint(Path(folder) / "whole")
        identical = 0
        for number in range(_KILLS.value):
            path, moment = Path(folder) / f"killed{number}", moments.uniform(0, seconds)
            process = start(path)
            time.sleep(moment)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            before = finished(path)
            finish(path)
            same = fingerprint(path) == expected and before.items() <= finished(path).items()
            identical += same
            print(
                f"killed after {moment:.1f} s, {len(before)} trials done: "
                f"{'identical' if same else 'DIFFERENT'}",
                flush=True,
            )
        print(json.dumps({"kills": _KILLS.value, "identical": identical}))
    if identical < _KILLS.value:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
