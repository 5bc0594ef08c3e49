"""A study from its config to its report: checks, starts the workers, watches, sums up.

The workers need nobody: they take trials from the storage until there are none. The coordinator
only starts them, again where one dies, and shows what they have done. Several coordinators may
share a storage, in one folder or on many machines; each ends when the whole study has.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from regjax import assembly, program
from regjax.config import StudyConfig
from regjax.errors import InputError
from regjax.programs import keep
from regjax.progress import say, stdout
from regjax.studies import folder, plan, report, result, words
from regjax.studies.ledger import NUMBER, WORKER, Ledger
from regjax.studies.progress import showing
from regjax.studies.result import StudyResult
from regjax.studies.shared import Shared
from regjax.studies.storage import open_storage
from regjax.studies.vectorized import Vectorized, measured_width
from regjax.studies.worker import TrialWorker
from regjax.workdir import read_config

PAUSE = 0.3  # seconds between two looks at the storage
TOGETHER = 2  # lanes of a process: they share what is compiled, and Python's lock
DEATHS = 3  # of workers in a row, without a trial finished, that end a study


def check(study: StudyConfig) -> StudyConfig:
    """Checks a study down to the networks and the data of its arms, without training.

    Raises:
      InputError: what cannot work, in the study or in any arm.
    """
    study = plan.check(study)
    for split in ("select", *(["test"] if study.study.confirm else [])):
        if getattr(study.data, split) == 0:
            raise InputError(f"data.{split} is 0, but a study needs that split; give it a size")
    shared = Shared()
    for arm in study.study.arms:
        for config in plan.ends(study, arm):
            assembly.checked(shared.assemble(config))
    return study


def lanes(study: StudyConfig) -> int:
    """How many trials train at once: as asked, else one a core, or what measures fastest."""
    if study.study.lanes:
        return study.study.lanes
    if vectorized(study):
        first = plan.config_of(study, study.study.arms[0], study.seed)
        # With few trials a lane, most lanes are empty at the end.
        most = plan.budget(study) * study.study.seeds // (6 * programs(study))
        return measured_width(Shared(), first, most)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, plan.budget(study)))


def vectorized(study: StudyConfig) -> bool:
    """Whether the lanes are one vmapped program in this process, not threads of workers."""
    kind = study.study.lane
    return jax.default_backend() != "cpu" if kind == "auto" else kind == "vmap"


def programs(study: StudyConfig) -> int:
    """How many programs the arms need, where ranges vary nothing but traced numbers."""
    shared, texts = Shared(), set()
    for arm in study.study.arms:
        parts = shared.assemble(plan.ends(study, arm)[0])
        texts.add(program.structure(parts.general, parts.strengths))
    return len(texts)


def run(
    study: StudyConfig, path: str | Path, storage: str = "", console: Console | None = None
) -> StudyResult:
    """Runs a study to its end, or goes on with what was begun, and writes its report.

    Args:
      study: the config.
      path: its folder.
      storage: as `open_storage` has it; by default a journal file in the folder.
      console: where to report; by default to standard output.

    Returns:
      What it found.

    Raises:
      InputError: a study that cannot work, another study's folder or storage, workers that die,
        or no trial that ended with a number.
    """
    console, workdir = console or stdout(), folder.place(path)
    with _Crew(workdir, storage) as crew:
        study = plan.check(study)
        if not vectorized(study):
            crew.prepare()
        study = check(study)
        if storage:  # before anything is written
            _ledgers(study, storage, workdir)
        folder.claim(workdir, study, storage)
        ledgers = _ledgers(study, storage, workdir)
        before = _look(study, ledgers)
        if before.rows and not before.finished:
            say(console, f"resuming '{workdir}' after {len(before.rows)} trials")
        if not before.finished:
            if vectorized(study):
                _in_lanes(study, workdir, storage, ledgers, console)
            else:
                _watch(study, ledgers, console, crew, len(before.rows))
    found = _look(study, ledgers)
    _check_outcome(found)
    report.write(found, workdir)
    return found


def read(path: str | Path, storage: str = "") -> StudyResult:
    """What a study has found so far.

    Raises:
      InputError: no study there, or a storage that cannot be read.
    """
    workdir = folder.place(path)
    study = read_config(workdir, StudyConfig)
    return _look(study, _ledgers(study, storage, workdir, new=False))


def _ledgers(study: StudyConfig, storage: str, workdir: Path, new: bool = True) -> list[Ledger]:
    opened = open_storage(storage, workdir, new)
    return [Ledger(opened, study, phase, new=new) for phase in ("search", "confirm")]


def _look(study: StudyConfig, ledgers: list[Ledger]) -> StudyResult:
    return result.collect(study, *(ledger.trials() for ledger in ledgers))


def _check_outcome(found: StudyResult) -> None:
    if not any(row["stopped_because"] != "nan" for row in found.rows):
        raise InputError(
            f"none of {len(found.rows)} trials had a finite loss; lower the ranges of "
            "optimizer.learning_rate or penalty.strength, or set optimizer.clip, in a new --workdir"
        )


def _in_lanes(
    study: StudyConfig, workdir: Path, storage: str, ledgers: list[Ledger], console: Console
) -> None:
    """Does the work in this process, as lanes of one program after another."""
    keep()
    width = ledgers[0].lanes(lambda: lanes(study))
    if study.study.lanes not in (0, width):
        say(console, f"study.lanes is {study.study.lanes}, but the study began with {width}: kept")
    vector = Vectorized(Shared(), width, programs(study))
    say(console, _headline(study, vector.width))
    ended = threading.Event()
    with showing(study, console) as show:

        def watch() -> None:
            with contextlib.suppress(BrokenPipeError):  # the work goes on to its end
                while not ended.wait(PAUSE):
                    show([ledger.trials() for ledger in ledgers])

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            TrialWorker(study, storage, workdir, vector).work()
        finally:
            ended.set()
            watcher.join()
        show([ledger.trials() for ledger in ledgers])


def _watch(
    study: StudyConfig, ledgers: list[Ledger], console: Console, crew: "_Crew", done: int
) -> None:
    """Keeps the workers running until they have ended by themselves."""
    count = lanes(study)
    say(console, _headline(study, count))
    crew.begin(count, done)
    with showing(study, console) as show:
        report.load()
        while crew:
            time.sleep(PAUSE)
            ended = crew.ended()  # before the look, which so knows all that they have done
            trials = [ledger.trials() for ledger in ledgers]
            show(trials)
            crew.replace(ended, trials)


class _Crew:
    """The workers of the study in a folder. Those that live at its end are killed."""

    def __init__(self, workdir: Path, storage: str) -> None:
        self._place = workdir, storage
        self._ends = contextlib.ExitStack()
        self._ready: list[_Process] = []  # they have no lanes yet
        self._workers: list[_Process] = []
        self._done = 0  # trials
        self._dead: list[_Process] = []  # in a row: since a trial was finished
        self._lost = 0  # lanes that no worker has

    def __enter__(self) -> "_Crew":
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.close()

    def prepare(self) -> None:
        """Starts one that waits for its lanes: it has much to import."""
        process = _Process(*self._place)
        self._ends.callback(process.end)
        self._ready.append(process)

    def begin(self, count: int, done: int) -> None:
        """Has so many lanes set to work on a study with so many trials done."""
        self._done = done
        for i in range(0, count, TOGETHER):
            self._start(min(TOGETHER, count - i))

    def __bool__(self) -> bool:
        return bool(self._workers or self._lost)

    def ended(self) -> list["_Process"]:
        """Those that live no longer."""
        return [worker for worker in self._workers if worker.poll() is not None]

    def replace(self, ended: list["_Process"], trials: Sequence[list[FrozenTrial]]) -> None:
        """Lets them go, and starts others for the lanes of those that died.

        Who dies now and then costs no trial: those it had are given back. A trial at which every
        worker dies comes up last, and ends the study rather than leave a hole in it; but not before
        the others have done what they can.
        """
        done = sum(trial.state.is_finished() for phase in trials for trial in phase)
        if done > self._done:
            self._dead, self._done = [], done
        for worker in ended:
            self._workers.remove(worker)
            if worker.returncode:
                worker.check()
                self._dead.append(worker)
                self._lost += worker.lanes
        if len(self._dead) < DEATHS:
            # Apart: a trial that they die of does not take another with it again.
            for _ in range(self._lost):
                self._start(1)
            self._lost = 0
        elif not self._workers:
            raise InputError(
                f"{len(self._dead)} workers in a row died ({self._dead[-1].last_words()[:300]})"
                f"{self._taken(trials)}; what was finished is kept, and the same command goes on"
            )

    def _start(self, lanes: int) -> None:
        if not self._ready:
            self.prepare()
        worker = self._ready.pop()
        self._workers.append(worker)
        worker.begin(lanes)

    def _taken(self, trials: Sequence[list[FrozenTrial]]) -> str:
        """What the dead were at, where no other has it."""
        names = {str(worker.pid) for worker in self._dead}
        return " and".join(
            f" at trial {trial.user_attrs[NUMBER] + 1} ({trial.params})"
            for phase in trials
            for trial in phase
            if trial.state == TrialState.RUNNING
            and str(trial.user_attrs.get(WORKER)).split("-")[0] in names
        )


class _Process(subprocess.Popen):
    """A worker of its own.

    What it says goes into a file: it would wait for ever for someone to read from a full pipe.
    """

    def __init__(self, workdir: Path, storage: str) -> None:
        about = str(workdir), str(os.getpid()), storage
        command = [sys.executable, "-m", "regjax.studies.worker", *about]
        self.lanes = 0
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        super().__init__(command, stderr=self._said, **streams)

    def begin(self, lanes: int) -> None:
        """Has it work with so many lanes."""
        self.lanes = lanes
        assert self.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.stdin:  # who is dead is seen elsewhere
            self.stdin.write(f"{lanes}\n".encode())

    def last_words(self) -> str:
        """The last line of its stderr."""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else f"exit code {self.returncode}"

    def check(self) -> None:
        """Raises what it could not go on with, if it has told."""
        try:
            told = json.loads(self.last_words())["error"]
        except (ValueError, TypeError, KeyError):
            return
        raise InputError(told)

    def end(self) -> None:
        """Kills it if it lives."""
        with self:  # it closes the pipe, and waits
            self.kill()
        self._said.close()


def _headline(study: StudyConfig, count: int) -> str:
    search, arms = study.study, words.many(len(study.study.arms), "arm")
    each = f", {search.trials} each" if search.protocol == "balanced" else ""
    fresh = "fresh seeds" if search.fresh else "of the search's seeds"
    then = f", then {search.confirm} {fresh} an arm" if search.confirm else ""
    trials, lanes = words.many(plan.budget(study), "trial"), words.many(count, "lane")
    return f"{arms}{each}: {trials}{then}; {lanes}"
