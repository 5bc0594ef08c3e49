"""Several `regjax study` commands on one storage share its trials; one that dies loses none.

python -m experiments.study_workers [--commands=3] [--storage=journal|postgresql] [--trials=60]

Question: is any trial done twice, or lost, also where a worker is killed? Method: three commands
with one lane each, in three folders as on three machines, are started at once on one storage: a
journal file, or a PostgreSQL server of this script's own on loopback (Debian's package). Midway one
of them is killed by SIGKILL with its worker; the others wait until its silence is longer than
`study.heartbeat` and take its trial over.
Verdict: every number from 0 to 59 is finished exactly once, by at least two workers.
"""

import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from absl import flags
from optuna.trial import TrialState

from experiments import cli
from regjax.studies.storage import open_storage

_COMMANDS = flags.DEFINE_integer("commands", 3, "how many at once", lower_bound=2)
_TRIALS = flags.DEFINE_integer("trials", 60, "of the study, in 12 arms", lower_bound=12)
_STORAGE = flags.DEFINE_enum("storage", "journal", ["journal", "postgresql"], "of all")
_PORT = flags.DEFINE_integer("port", 54329, "of the PostgreSQL server")


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A server on loopback with an empty database; yields its URL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        sys.exit("no PostgreSQL found in /usr/lib/postgresql; install the package postgresql")
    data, bin_ = folder / "data", programs[-1]
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder.chmod(0o755)
    data.mkdir()
    if user:
        shutil.chown(data, "postgres", "postgres")
    options = f"-p {_PORT.value} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data}"
    quiet = {"stdout": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run(
        [*user, bin_ / "initdb", "-D", data, "-A", "trust", "-U", "me"], check=True, **quiet
    )
    control = [*user, bin_ / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-o", options, "-l", data / "log", "start"], check=True, **quiet)
    try:
        yield f"postgresql+psycopg://me@127.0.0.1:{_PORT.value}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **quiet)


def start(workdir: Path, storage: str) -> subprocess.Popen[str]:
    """Starts one command, as on a machine of its own."""
    command = [sys.executable, "-m", "regjax", "study", "--config=configs/study_digits.py"]
    fields = {"lanes": 1, "trials": _TRIALS.value // 12, "confirm": 0, "heartbeat": 10}
    options = [f"--config.study.{name}={value}" for name, value in fields.items()]
    return subprocess.Popen(
        [*command, *options, "--config.epochs=15", f"--workdir={workdir}", f"--storage={storage}"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def share(folder: Path, storage: str) -> dict[str, object]:
    """Runs the commands, kills one midway, and counts."""
    commands = [start(folder / str(i), storage) for i in range(_COMMANDS.value)]
    assert commands[0].stdout is not None
    for line in commands[0].stdout:  # what any of them finished
        if line.startswith("trial") and int(line.split()[1]) >= _TRIALS.value // 3:
            break
    os.killpg(commands[0].pid, signal.SIGKILL)
    killed_at = time.time()
    for command in commands:
        command.communicate()
    study = optuna.load_study(study_name="digits", storage=open_storage(storage, folder))
    done = [t for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    times = collections.Counter(t.user_attrs["number"] for t in done)
    workers = collections.Counter(t.user_attrs["worker"] for t in done)
    return {
        "trials": _TRIALS.value // 12 * 12,
        "finished": len(times),
        "twice": sum(count > 1 for count in times.values()),
        "by worker": sorted(workers.values()),
        "seconds after the kill": round(time.time() - killed_at),
        "exit codes": [command.returncode for command in commands],
    }


def main(values: flags.FlagValues) -> None:
    """Runs and prints."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if _STORAGE.value == "postgresql":
            with postgresql(folder) as url:
                found = share(folder, url)
        else:
            found = share(folder, f"journal:{folder / 'journal.log'}")
    print(json.dumps({"storage": _STORAGE.value, **found}))
    if found["finished"] != found["trials"] or found["twice"]:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
