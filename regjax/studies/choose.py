"""Decisions that follow from the trials alone: where the search ends, and each arm's best."""

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from regjax.config import StudyConfig, maximized
from regjax.studies import plan


def sign(study: StudyConfig) -> int:
    """1 where larger is better, −1 where smaller is."""
    return 1 if maximized(study.study.objective) else -1


def value(trial: FrozenTrial) -> float | None:
    """What a trial measured; None if it has not, as diverged or pruned.

    (Of a pruned one Optuna has the last value that its pruner was told, on another split.)
    """
    return trial.value if trial.state == TrialState.COMPLETE else None


def metric(study: StudyConfig, split: str) -> str:
    """The name of what the search is by, on another split."""
    return study.study.objective.replace("select", split)


def stopped_after(study: StudyConfig, trials: Sequence[FrozenTrial]) -> int | None:
    """The number of the last trial that counts, if the search has stopped before its end.

    It stops after `patience` trials in a row, in the order of their numbers, without a new best;
    in a balanced search at the end of a round, so that the arms stay equal.

    Args:
      study: the config.
      trials: in the order of their numbers; those behind one that is not done do not count.
    """
    search = study.study
    if not search.patience:
        return None
    round_size = len(search.arms) if search.protocol == "balanced" else 1
    best, misses = None, 0
    for place, trial in enumerate(trials):
        if trial.user_attrs["number"] != place or not trial.state.is_finished():
            return None
        found = value(trial)
        score = None if found is None else sign(study) * found
        improved = score is not None and (best is None or score > best)
        best, misses = (score, 0) if improved else (best, misses + 1)
        if misses >= search.patience and (place + 1) % round_size == 0:
            return place
    return None


def counted(study: StudyConfig, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials up to where the search stopped."""
    last = stopped_after(study, trials)
    return [t for t in trials if last is None or t.user_attrs["number"] <= last]


def best_of_arms(study: StudyConfig, trials: Sequence[FrozenTrial]) -> dict[str, dict[str, Any]]:
    """The parameters of each arm's best trial, by the arm's label; ties keep the earlier.

    An arm none of whose trials had a result is not there.
    """
    arms, best = study.study.arms, {}
    for trial in counted(study, trials):
        if (found := value(trial)) is not None:
            name, score = plan.label(arms, plan.arm_of(arms, trial.params)), sign(study) * found
            if name not in best or score > best[name][0]:
                best[name] = (score, trial.params)
    order = [plan.label(arms, arm) for arm in arms]
    return {name: best[name][1] for name in order if name in best}
