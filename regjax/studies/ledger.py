"""The trials of one phase of a study, shared by every worker through Optuna's storage.

All trials are enqueued beforehand, each with a number; a worker's `ask` pops one, which the storage
makes atomic. What may still go wrong is mended by rules that any worker can apply at any time: a
number that has no living trial is enqueued again, and of two with one number the earlier counts.
"""

import contextlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from regjax.config import SearchConfig, StudyConfig, differences, from_json, maximized, to_json
from regjax.errors import InputError
from regjax.studies.plan import Entry

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
NUMBER, WORKER, ALIVE, RECORD, KEY = "number", "worker", "alive", "record", "key"
LANES = "lanes"
UNSIGNED = 60.0  # seconds: longer than any sampler asks, a trial without a sign is a dead worker's


class Claim(NamedTuple):
    """A trial that this worker has taken: its own number, and Optuna's trial."""

    number: int
    trial: Trial


class Worker:
    """This process's sign of life: a lock that ends with the process, however it ends.

    Args:
      workdir: the study's folder.
      name: unlike that of any other worker.
    """

    def __init__(self, workdir: Path, name: str) -> None:
        self.name = name
        self.planning = filelock.FileLock(workdir / ".lock")  # held by who enqueues trials
        self._folder = workdir / "workers"
        self._folder.mkdir(exist_ok=True)
        self._lock = filelock.FileLock(self._folder / name)
        self._lock.acquire()

    def close(self) -> None:
        """Ends it."""
        (self._folder / self.name).unlink(missing_ok=True)
        self._lock.release()

    def ended(self, name: str) -> bool | None:
        """Whether another worker of this folder has ended; None: it is of another."""
        path = self._folder / name
        if name == self.name:
            return False
        if not path.exists():
            return None
        with contextlib.suppress(filelock.Timeout), filelock.FileLock(path, timeout=0):
            path.unlink(missing_ok=True)
            return True
        return False

    def alone(self) -> bool:
        """Whether no other worker of this folder lives."""
        names = [path.name for path in self._folder.iterdir()]
        return all(self.ended(name) is not False for name in names if name != self.name)


class Ledger:
    """One phase's trials.

    Args:
      storage: from `open_storage`.
      study: the config, which the storage must have been made with.
      phase: `search` or `confirm`.
      worker: who asks; None: only looks.
      local: whether only workers of this folder can see the storage.
      new: whether a study that is not there is begun.

    Raises:
      InputError: the storage holds another study of this name, or none.
    """

    def __init__(
        self,
        storage: BaseStorage,
        study: StudyConfig,
        phase: str,
        worker: Worker | None = None,
        local: bool = False,
        new: bool = True,
    ) -> None:
        search = study.study
        self._config, self._worker, self._local = search, worker, local
        direction = "maximize" if maximized(search.objective) else "minimize"
        name = search.name if phase == "search" else f"{search.name} ({phase})"
        if not new and name not in optuna.get_all_study_names(storage):
            raise InputError(
                f"the storage holds no study named '{name}'; give the --storage of the study"
            )
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction=direction,
            sampler=_Seeded(search, study.seed),
            pruner=_pruner(search),
            load_if_exists=True,
        )
        self._same(study)

    def _same(self, study: StudyConfig) -> None:
        known = self._study.user_attrs.get("config")
        if known is None:
            self._study.set_user_attr("config", to_json(study))
            return
        try:
            there = from_json(known, "the storage's config", StudyConfig)
            differ = "; ".join(differences(there, study))
        except InputError as error:
            differ = str(error)
        if differ:
            raise InputError(
                f"the storage holds another study named '{study.study.name}' ({differ}); give "
                "another study.name, another --storage, or the same config"
            )

    def lanes(self, choose: Callable[[], int]) -> int:
        """How many vmapped lanes the study has: as it began with, or chosen now and recorded."""
        if LANES not in self._study.user_attrs:
            self._study.set_user_attr(LANES, choose())
        return self._study.user_attrs[LANES]

    def trials(self) -> list[FrozenTrial]:
        """All trials that count, by their number: of each number one that is not failed."""
        found: dict[int, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state != TrialState.FAIL and NUMBER in trial.user_attrs:
                found.setdefault(trial.user_attrs[NUMBER], trial)
        return [found[number] for number in sorted(found)]

    def finished(self, entries: Iterable[Entry]) -> bool:
        """Whether every entry is done."""
        done = {t.user_attrs[NUMBER] for t in self.trials() if t.state in FINISHED}
        return all(entry.number in done for entry in entries)

    def mend(self, entries: Iterable[Entry]) -> None:
        """Gives back the trials of dead workers and enqueues what is missing.

        One worker of a folder at a time, so that not each enqueues all at the start.
        """
        assert self._worker is not None
        with self._worker.planning:
            self._mend(entries)

    def _mend(self, entries: Iterable[Entry]) -> None:
        params: dict[int, dict[str, Any]] = {}
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._dead(trial):
                self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                params[trial.user_attrs.get(NUMBER, -1)] = trial.params
        alive = {trial.user_attrs[NUMBER] for trial in self.trials()}
        for entry in entries:
            if entry.number not in alive:
                fixed = {**entry.params, **params.get(entry.number, {})}
                self._study.enqueue_trial(fixed, user_attrs={NUMBER: entry.number})

    def _dead(self, trial: FrozenTrial) -> bool:
        assert self._worker is not None
        name = trial.user_attrs.get(WORKER)
        started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        if name is None and self._local:  # killed between taking the trial and signing for it?
            return self._worker.alone() or time.time() - started > UNSIGNED
        ended = None if name is None else self._worker.ended(name)
        if ended is None:  # of another folder or machine, or its lock is gone
            seen = trial.user_attrs.get(ALIVE, started)
            return self._local or time.time() - seen > self._config.heartbeat
        return ended

    def claim(self) -> Claim | None:
        """Takes the next trial, or returns None where none is waiting."""
        assert self._worker is not None
        while self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Optuna's experimental samplers
                trial = self._study.ask()
            number = trial.user_attrs.get(NUMBER)
            first = {t.user_attrs[NUMBER]: t.number for t in self.trials()}.get(number)
            if number is None or first != trial.number:  # another worker was faster
                self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
                continue
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                trial.set_user_attr(WORKER, self._worker.name)
                return Claim(number, trial)  # else it was so slow that another has given it back
        return None

    def alive(self, claim: Claim) -> None:
        """Tells the others that this worker still works on a trial."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            claim.trial.set_user_attr(ALIVE, time.time())

    def tell(self, claim: Claim, record: dict[str, Any], value: float | None) -> None:
        """Records a finished trial; without a finite value as pruned, worse than any other."""
        if value is not None and not math.isfinite(value):
            value = None
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            claim.trial.set_user_attr(RECORD, record)
            state = TrialState.PRUNED if value is None else TrialState.COMPLETE
            self._study.tell(claim.trial, value, state=state, skip_if_finished=True)

    def same(self, key: str) -> FrozenTrial | None:
        """The first trial with this key that has run to its end, or diverged."""
        done = (t for t in self.trials() if t.state in FINISHED and t.user_attrs.get(KEY) == key)
        return next((t for t in done if not _stopped_by_pruner(t)), None)


def _stopped_by_pruner(trial: FrozenTrial) -> bool:
    """Whether the others' results ended it, which may be others at another time."""
    return any(run["stopped_because"] == "pruned" for run in trial.user_attrs[RECORD]["runs"])


def key_of(setting: dict[str, Any], seeds: list[int]) -> str:
    """A text that two trials share exactly if they would be the same."""
    return json.dumps([setting, seeds], sort_keys=True)


class _Seeded(BaseSampler):
    """A sampler that starts anew for each trial, seeded by the trial's number.

    So what it proposes depends on the number and on the trials known, not on which process asks or
    how often it was started again.
    """

    def __init__(self, search: SearchConfig, seed: int) -> None:
        self._search, self._seed = search, seed

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        number = trial.user_attrs.get(NUMBER, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental, says Optuna
            return _sampler(self._search, (self._seed * 1_000_003 + number) % 2**32)

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, Any]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Any, trial: FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)


def _sampler(search: SearchConfig, seed: int) -> BaseSampler:
    makes: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
    }
    return makes.get(search.sampler, lambda: optuna.samplers.RandomSampler(seed=seed))()


def _pruner(search: SearchConfig) -> optuna.pruners.BasePruner:
    if search.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner()
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()
