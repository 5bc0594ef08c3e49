"""The lanes of a study on a CPU: a process that takes trials until there are none left.

python -m regjax.studies.worker WORKDIR PARENT [STORAGE]

It begins once the first line of its stdin says how many lanes it has, so that it can be started
before the study is known to be sound, and ends when its parent, a process's number, has.

Started by `regjax study`, which checks the config. A trial is trained by the very program of
`regjax train`, so its numbers do not depend on who runs it, beside what, or in which order.
"""

import json
import os
import statistics
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from regjax import programs
from regjax.config import StudyConfig
from regjax.errors import InputError
from regjax.studies import plan
from regjax.studies.choose import best_of_arms, metric, stopped_after
from regjax.studies.choose import value as value_of
from regjax.studies.lanes import Job, Lanes, OneByOne, Record, Threads
from regjax.studies.ledger import KEY, NUMBER, RECORD, Claim, Ledger, Worker, key_of
from regjax.studies.plan import Entry
from regjax.studies.shared import Shared
from regjax.studies.storage import open_storage
from regjax.workdir import read_config

PAUSE = 0.2  # seconds between two looks for a trial that another worker may give back


Trial = Generator[Job, Record, None]  # asks for runs, is sent what they were, and ends when told


class TrialWorker:
    """A worker: takes trials from the storage and has their runs done in its lanes.

    Args:
      study: the config.
      storage_url: as `open_storage` has it.
      workdir: the study's folder.
      lanes: where the runs are done.
      parent: the process without which it ends; None: none.
    """

    def __init__(
        self,
        study: StudyConfig,
        storage_url: str,
        workdir: Path,
        lanes: Lanes,
        parent: int | None = None,
    ) -> None:
        self._study, self._lanes, self._parent = study, lanes, parent
        self._lock = threading.Lock()  # held by who uses the storage
        self._worker = Worker(workdir, f"{os.getpid()}-{uuid.uuid4().hex[:8]}")
        storage = open_storage(storage_url, workdir)
        self._search, self._confirm = (
            Ledger(storage, study, phase, self._worker, local=not storage_url)
            for phase in ("search", "confirm")
        )

    def work(self) -> None:
        """Runs both phases to their end."""
        self._check_parent()  # it may have ended while this process started
        entries = plan.search_entries(self._study)
        self._phase(self._search, entries, self._search_trial, stops=True)
        if self._study.study.confirm:
            best = best_of_arms(self._study, self._search.trials())
            entries = plan.confirm_entries(self._study, best)
            self._phase(self._confirm, entries, self._confirm_trial, stops=False)
        self._worker.close()

    def _phase(
        self,
        ledger: Ledger,
        entries: list[Entry],
        begin: Callable[[Claim], Trial],
        stops: bool,
    ) -> None:
        ledger.mend(entries)
        going = 0
        while True:
            with self._lock:
                ended = stops and stopped_after(self._study, ledger.trials()) is not None
                while not ended and self._lanes.free() and (claim := ledger.claim()):
                    going += self._advance(begin(claim), None)
                if not going and (ended or ledger.finished(entries)):
                    return
            if going:
                found = self._lanes.epoch()
                with self._lock:
                    going -= sum(not self._advance(job.owner, record) for job, record in found)
            else:
                time.sleep(PAUSE)
                self._check_parent()
                ledger.mend(entries)

    def _advance(self, trial: Trial, record: Record | None) -> bool:
        """Lets a trial go on to its next run, which is started; whether there is one."""
        try:
            job = next(trial) if record is None else trial.send(record)
        except StopIteration:
            return False
        self._lanes.start(job._replace(owner=trial))
        return True

    def _check_parent(self) -> None:
        if (
            self._parent is not None and os.getppid() != self._parent
        ):  # killed: nobody is left to be told
            os._exit(1)

    def _search_trial(self, claim: Claim) -> Trial:
        setting = plan.suggest(claim.trial, self._study)
        seeds = plan.search_seeds(self._study)
        key = key_of(setting, seeds)
        claim.trial.set_user_attr(KEY, key)
        if done := self._search.same(key):  # never trained twice
            record = {**done.user_attrs[RECORD], "same_as": done.user_attrs[NUMBER]}
            self._search.tell(claim, record, value_of(done))
            return
        runs = []
        for i, seed in enumerate(seeds):
            runs.append((yield self._job(self._search, claim, setting, seed, ("select",), i == 0)))
            if runs[-1]["stopped_because"] == "pruned" or not runs[-1]["best_epoch"]:
                break
        whole = len(runs) == len(seeds) and all(
            run["best_epoch"] and run["stopped_because"] != "pruned" for run in runs
        )
        objective = self._study.study.objective
        value = statistics.fmean(run[objective] for run in runs) if whole else None
        self._search.tell(claim, {"setting": setting, "runs": runs}, value)

    def _confirm_trial(self, claim: Claim) -> Trial:
        setting = plan.suggest(claim.trial, self._study)
        seed = claim.trial.suggest_int("seed", 0, 2**31 - 1)
        run = yield self._job(self._confirm, claim, setting, seed, ("test", "select"), False)
        measured = run.get(metric(self._study, "test"))
        self._confirm.tell(claim, {"setting": setting, "runs": [run]}, measured)

    def _job(
        self,
        ledger: Ledger,
        claim: Claim,
        setting: dict[str, Any],
        seed: int,
        splits: tuple[str, ...],
        prune: bool,
    ) -> Job:
        told = time.monotonic()
        monitor = metric(self._study, "valid")
        pruning = prune and self._study.study.pruner != "none"

        def after_epoch(line: dict[str, Any]) -> bool:
            nonlocal told
            self._check_parent()
            if time.monotonic() - told > self._study.study.heartbeat / 10:
                with self._lock:
                    ledger.alive(claim)
                told = time.monotonic()
            if pruning and monitor in line:
                with self._lock:
                    claim.trial.report(line[monitor], line["epoch"])
                    return not claim.trial.should_prune()
            return True

        return Job(plan.config_of(self._study, setting, seed), splits, after_epoch)


def main(workdir: str, parent: str, storage_url: str = "") -> None:
    """Runs one worker; what stops it is its last line on stderr."""
    shared = Shared()
    programs.keep()
    if not (count := sys.stdin.readline()):
        return  # its parent has ended
    try:
        study = read_config(Path(workdir), StudyConfig)
        lanes = Threads([OneByOne(shared) for _ in range(int(count))])
        TrialWorker(study, storage_url, Path(workdir), lanes, int(parent)).work()
        return
    except InputError as error:
        print(json.dumps({"error": str(error)}), file=sys.stderr, flush=True)
    except BaseException:
        traceback.print_exc()
    os._exit(2)  # not waiting for what the other lanes are at


if __name__ == "__main__":
    main(*sys.argv[1:])
