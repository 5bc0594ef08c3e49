"""How a study shows itself while it goes on: a bar on a terminal, a line a trial elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from regjax.config import StudyConfig
from regjax.progress import bar, say
from regjax.studies import choose, plan, words

Phases = Sequence[Sequence[FrozenTrial]]


@contextlib.contextmanager
def showing(study: StudyConfig, console: Console) -> Iterator[Callable[[Phases], None]]:
    """Gives what shows the trials that have ended, given all: by a bar, or in a line each.

    Args:
      study: the config.
      console: where to; a terminal gets a bar, all else a line a trial.
    """
    planned = plan.budget(study) + study.study.confirm * len(study.study.arms)
    with bar("trials", planned, 0, console) as move:
        yield _Trials(study, console, move).show


class _Trials:
    """What is known of the trials, and what was told of them."""

    def __init__(
        self, study: StudyConfig, console: Console, move: Callable[[int, str], None] | None
    ) -> None:
        self._study, self._console, self._move = study, console, move
        self._started, self._before = time.monotonic(), -1
        self._told: set[tuple[int, int]] = set()

    def show(self, phases: Phases) -> None:
        """By the trials of each phase."""
        finished = [[t for t in phase if t.state.is_finished()] for phase in phases]
        done = sum(map(len, finished))
        if self._before < 0:
            self._before = done
        if self._move:
            self._move(done, self._summary(phases, done))
            return
        for phase, trials in enumerate(finished):
            for trial in sorted(trials, key=lambda t: t.datetime_complete or t.number):
                if (phase, trial.number) not in self._told:
                    self._told.add((phase, trial.number))
                    if done > self._before:  # what an earlier start did is not news
                        say(self._console, self._line(phase, trial))

    def _summary(self, phases: Phases, done: int) -> str:
        """Best so far, speed and lanes in use."""
        sign = choose.sign(self._study)
        values = [sign * value for t in phases[0] if (value := choose.value(t)) is not None]
        minutes = (time.monotonic() - self._started) / 60
        running = sum(t.state == TrialState.RUNNING for phase in phases for t in phase)
        best = f"best {sign * max(values):.4f}  " if values else ""
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
