"""Runs in progress, each advanced an epoch at a time: one after another, or many as lanes.

On a CPU a lane is a process of its own with `OneByOne`, the very program of `regjax train`. On an
accelerator `Vectorized` (in `regjax.studies.vectorized`) advances many lanes as one program.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from regjax import feed, train
from regjax.assembly import Assembled
from regjax.config import Config
from regjax.program import Program
from regjax.state import RunState, TrainState
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
        """Advances runs by an epoch; returns those that it ended, and what they were."""
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


def weights(train: TrainState) -> TrainState:
    """Without the optimizer's state, often twice as large, which nobody asks of the best epoch."""
    return train.replace(opt_state=())


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
        self._best = jax.tree.map(jnp.copy, weights(run.train))
