"""How a study shows itself while it goes on: a bar on a terminal, a line a trial elsewhere."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from regjax.config import StudyConfig
from regjax.progress import say
from regjax.studies import choose, plan, words

Phases = Sequence[Sequence[FrozenTrial]]


class TrialBar:
    """Shows trials as they finish. Use as a context manager.

    Args:
      study: the config.
      console: where to; a terminal gets a bar, all else a line a trial.
    """

    def __init__(self, study: StudyConfig, console: Console) -> None:
        self._study, self._console = study, console
        self._started, self._before = time.monotonic(), -1
        self._told: set[tuple[int, int]] = set()
        self._bar = None
        if console.is_terminal:
            columns = (TextColumn("trials"), MofNCompleteColumn(), BarColumn(20))
            self._bar = Progress(
                *columns, TimeRemainingColumn(), TextColumn("{task.description}"), console=console
            )
            self._task = self._bar.add_task("compiling", total=self._planned())

    def _planned(self) -> int:
        search = self._study.study
        return plan.budget(self._study) + search.confirm * len(search.arms)

    def __enter__(self) -> Callable[[Phases], None]:
        if self._bar:
            self._bar.start()
        return self._show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def _show(self, phases: Phases) -> None:
        finished = [[t for t in phase if t.state.is_finished()] for phase in phases]
        done = sum(map(len, finished))
        if self._before < 0:
            self._before = done
        if self._bar:
            self._bar.update(self._task, completed=done, description=self._summary(phases, done))
            return
        for phase, trials in enumerate(finished):
            for trial in sorted(trials, key=lambda t: t.datetime_complete or t.number):
                if (phase, trial.number) not in self._told:
                    self._told.add((phase, trial.number))
                    if done > self._before:  # what an earlier start did is not news
                        say(self._console, self._line(phase, trial))

    def _summary(self, phases: Phases, done: int) -> str:
        """Best so far, speed and lanes in use."""
        values = [
            choose.sign(self._study) * value
            for t in phases[0]
            if (value := choose.value(t)) is not None
        ]
        minutes = (time.monotonic() - self._started) / 60
        running = sum(t.state == TrialState.RUNNING for phase in phases for t in phase)
        best = f"best {abs(max(values)):.4f}  " if values else ""
        speed = f"{(done - self._before) / minutes:.0f} trials/min" if minutes else ""
        return f"{best}{speed}  {running} running"

    def _line(self, phase: int, trial: FrozenTrial) -> str:
        record: dict[str, Any] = trial.user_attrs.get("record", {})
        runs = record.get("runs", [])
        arm = plan.label(self._study.study.arms, plan.arm_of(self._study.study.arms, trial.params))
        value = _outcome(choose.value(trial), runs)
        seconds = sum(run["seconds"] for run in runs)
        epochs = sum(run["epochs"] for run in runs)
        number = trial.user_attrs["number"] + 1
        again = f"  same as {record['same_as'] + 1}" if "same_as" in record else ""
        name = "trial" if phase == 0 else "confirm"
        what = words.metric(self._study) if phase == 0 else "test"
        return f"{name} {number}  {arm}  {what} {value}  {epochs} epochs  {seconds:.1f} s{again}"


def _outcome(value: float | None, runs: list[dict[str, Any]]) -> str:
    if value is not None:
        return f"{value:.4f}"
    return "pruned" if runs and runs[-1]["stopped_because"] == "pruned" else "diverged"
