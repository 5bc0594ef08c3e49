"""Runs in progress, each advanced an epoch at a time: one after another, or many as lanes.

On a CPU a lane is a thread that has its runs done by `OneByOne`, the very program of `regjax
train`: it is traced and compiled once for all lanes. On an accelerator `Vectorized` (in
`regjax.studies.vectorized`) advances many lanes as one program.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from regjax import feed, train
from regjax.assembly import Assembled
from regjax.config import Config
from regjax.program import Program
from regjax.state import RunState, TrainState, weights
from regjax.studies.shared import Shared

Line = dict[str, Any]  # an epoch's metrics
Record = dict[str, Any]
CURVES = ("train_loss", "valid_loss", "valid_accuracy", "valid_r2")


class Job(NamedTuple):
    """A run that is asked for.

    Attributes:
      config: checked.
      splits: where its best weights are measured.
      after_epoch: is given each epoch's metrics; whether to go on. By default it does.
      owner: whose it is.
      last: whether its last epoch's weights are measured, in place of its best epoch's.
      weights: whether its record also holds these weights, a `TrainState`, see `weights`.
    """

    config: Config
    splits: tuple[str, ...]
    after_epoch: Callable[[Line], bool] = lambda line: True
    owner: Any = None
    last: bool = False
    weights: bool = False


class Lanes(Protocol):
    """What a worker has its runs done by."""

    def free(self) -> bool:
        """Whether another job can be started."""
        ...

    def start(self, job: Job) -> None:
        """Takes a job."""
        ...

    def epoch(self) -> list[tuple[Job, Record]]:
        """Advances runs by an epoch or more; returns those that ended, and what they were."""
        ...


@dataclass
class Lane:
    """A run in progress, as the host sees it."""

    job: Job
    parts: Assembled
    lines: list[Line] = field(default_factory=list)
    pruned: bool = False

    def ended(self, line: Line, stopped: bool) -> bool:
        """Takes an epoch's metrics; whether the run ends with it."""
        self.lines.append(line)
        whole = stopped or line["epoch"] >= self.job.config.epochs
        self.pruned = not (self.job.after_epoch(line) or whole)
        return self.pruned or whole

    def record(self, run: RunState, best: TrainState, functions: Program) -> Record:
        """What `result.json` says of a run, and its curves.

        `best_epoch` is 0 and nothing is measured where no epoch had a finite loss.

        Args:
          run: at its end; only epoch and stopping are looked at.
          best: the best epoch's weights, or the last's.
          functions: the program.
        """
        best_epoch = int(run.stopping.best_epoch)
        measured = train.measure(self.parts, functions, best, self.job.splits) if best_epoch else {}
        return {
            **measured,
            "seed": self.job.config.seed,
            "best_epoch": best_epoch,
            "epochs": int(run.epoch),
            "stopped_because": "pruned"
            if self.pruned
            else train.stopped_because(self.job.config, run),
            "seconds": sum(line["seconds"] for line in self.lines),
            "curves": {
                name: [line.get(name) for line in self.lines]
                for name in CURVES
                if any(name in line for line in self.lines)
            },
            **({"weights": best} if self.job.weights else {}),
        }


_copied = jax.jit(partial(jax.tree.map, jnp.copy))


class Threads:
    """Lanes side by side, each in a thread, where a job's `after_epoch` is called.

    Args:
      lanes: each does one run at a time.
    """

    def __init__(self, lanes: Sequence[Lanes]) -> None:
        self._idle, self._busy = list(lanes), dict[Future[list[tuple[Job, Record]]], Lanes]()
        self._threads = ThreadPoolExecutor(len(lanes))

    def free(self) -> bool:
        """Whether a lane has nothing to do."""
        return bool(self._idle)

    def start(self, job: Job) -> None:
        """Begins a run in a free lane."""
        lane = self._idle.pop()

        def whole() -> list[tuple[Job, Record]]:
            lane.start(job)
            while not (ended := lane.epoch()):
                pass
            return ended

        self._busy[self._threads.submit(whole)] = lane

    def epoch(self) -> list[tuple[Job, Record]]:
        """Waits until a run has ended."""
        done, _ = wait(self._busy, return_when=FIRST_COMPLETED)
        self._idle += [self._busy.pop(run) for run in done]
        return [ended for run in done for ended in run.result()]


class OneByOne:
    """One run at a time, as `regjax train` does it."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._lane: Lane | None = None

    def free(self) -> bool:
        """Whether the last run has ended."""
        return self._lane is None

    def start(self, job: Job) -> None:
        """Begins a run."""
        parts = self._shared.assemble(job.config)
        self._functions, self._lane = self._shared.program(parts), Lane(job, parts)
        run = self._functions.init(*parts.start())
        self._keep(run)
        self._epochs = train.epochs(parts, self._functions, run, feed.resident(parts))

    def epoch(self) -> list[tuple[Job, Record]]:
        """Advances it."""
        lane = self._lane
        assert lane is not None
        run, line = next(self._epochs)
        if line["improved"] or lane.job.last:
            self._keep(run)
        if not lane.ended(line, bool(run.stopping.stopped)):
            return []
        self._lane = None
        return [(lane.job, lane.record(run, self._best, self._functions))]

    def _keep(self, run: RunState) -> None:
        """A copy: the next epoch takes the run's buffers."""
        self._best = _copied(weights(run.train))
