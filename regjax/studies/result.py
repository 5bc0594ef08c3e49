"""What a study found: its trials and confirmation as tables, and what follows from them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from regjax import comparison
from regjax.comparison import Difference, Estimate
from regjax.config import StudyConfig
from regjax.studies import choose, plan

if TYPE_CHECKING:  # pandas is slow to load, and only a notebook needs it
    import pandas as pd

Row = dict[str, Any]


class ArmResult(NamedTuple):
    """One arm after the confirmation.

    Attributes:
      label: the arm.
      setting: its best setting of the search.
      search: what that had in the search.
      scores: on `test`, one a seed, NaN where it diverged.
      score: the mean of those that are numbers.
      against: the first arm that has a result, paired; None for that arm itself.
      best: the probability that it is the best of those that never diverged; NaN if it has.
    """

    label: str
    setting: dict[str, Any]
    search: float
    scores: np.ndarray
    score: Estimate
    against: Difference | None
    best: float

    @property
    def diverged(self) -> int:
        """On how many seeds."""
        return int(np.isnan(self.scores).sum())


class StudyResult(NamedTuple):
    """A study, finished or not.

    Attributes:
      config: the study.
      rows: what is known of each finished trial of the search.
      confirm_rows: the same of each finished run of the confirmation.
      arms: each arm that was confirmed, the best mean first; behind them those that diverged.
      effects: by (factor, level): that level against the factor's first, over the other factors.
      tied: of the arms that never diverged, the best's label and those that cannot be told from
        it.
      trends: by range: rank correlation with the search's objective within arms, and its p.
      planned: trials of search and confirmation in all.
    """

    config: StudyConfig
    rows: list[Row]
    confirm_rows: list[Row]
    arms: list[ArmResult]
    effects: dict[tuple[str, str], Difference]
    tied: list[str]
    trends: dict[str, tuple[float, float]]
    planned: tuple[int, int]

    @property
    def finished(self) -> bool:
        """Whether all has run that was planned."""
        return (len(self.rows), len(self.confirm_rows)) == self.planned

    @property
    def trials(self) -> "pd.DataFrame":
        """The search's trials, a row each."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    @property
    def confirmation(self) -> "pd.DataFrame":
        """The confirmation's runs, a row each."""
        import pandas as pd

        return pd.DataFrame(self.confirm_rows)

    @property
    def table(self) -> "pd.DataFrame":
        """The arms, a row each, the best first."""
        import pandas as pd

        return pd.DataFrame(
            {
                "arm": arm.label,
                **arm.setting,
                "search": arm.search,
                **arm.score._asdict(),
                **({} if arm.against is None else _flat(arm.against)),
                "best": arm.best,
            }
            for arm in self.arms
        )


def collect(
    study: StudyConfig, search: Sequence[FrozenTrial], confirm: Sequence[FrozenTrial]
) -> StudyResult:
    """Makes tables and statistics of what the storage holds."""
    ended = choose.stopped_after(study, search)
    planned = plan.budget(study) if ended is None else ended + 1
    best = choose.best_of_arms(study, search)
    rows = _rows(study, choose.counted(study, search))
    confirm_rows = _rows(study, confirm)
    scores = _scores(study, confirm_rows, list(best))
    return StudyResult(
        study,
        rows,
        confirm_rows,
        _arms(study, rows, scores),
        _effects(study, scores),
        comparison.tied_with_best(_signed(study, scores)),
        _trends(study, rows),
        (planned, study.study.confirm * len(best)),
    )


def _flat(difference: Difference) -> Row:
    estimate = {f"against_{k}": v for k, v in difference.estimate._asdict().items()}
    return {**estimate, "p_holm": difference.p, "effect": difference.effect}


def _rows(study: StudyConfig, trials: Sequence[FrozenTrial]) -> list[Row]:
    """What each finished trial was, and what it measured, the mean over its runs."""
    arms, rows = study.study.arms, []
    for trial in trials:
        record = trial.user_attrs.get("record")
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or record is None:
            continue
        runs = record["runs"]
        arm = plan.arm_of(arms, trial.params)
        rows.append(
            {
                "number": trial.user_attrs["number"],
                "arm": plan.label(arms, arm),
                **{name: arm.get(name) for name in plan.varied(arms)},
                **{name: trial.params.get(name, np.nan) for name in study.study.ranges},
                "value": np.nan if (value := choose.value(trial)) is None else value,
                **{
                    f"{split}_{what}": _mean(runs, f"{split}_{what}")
                    for split in ("select", "test")
                    for what in ("accuracy", "r2", "loss")
                    if f"{split}_{what}" in runs[0]
                },
                "best_epoch": _mean(runs, "best_epoch"),
                "trained_epochs": _mean(runs, "epochs"),  # `epochs` may be varied
                "seconds": sum(run["seconds"] for run in runs),
                "stopped_because": runs[-1]["stopped_because"] if runs[-1]["best_epoch"] else "nan",
                "seed": runs[0]["seed"],
                "same_as": record.get("same_as"),
                "curves": [run["curves"] for run in runs],
                "worker": trial.user_attrs.get("worker"),
                "started": trial.datetime_start,
                "finished": trial.datetime_complete,
            }
        )
    return rows


def diverged(row: Row) -> bool:
    """Whether a trial, or a run of the confirmation, ended without a number."""
    return math.isnan(row["value"]) and row["stopped_because"] != "pruned"


def _mean(runs: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([np.nan if run.get(name) is None else run[name] for run in runs]))


def _scores(
    study: StudyConfig, confirm_rows: list[Row], labels: list[str]
) -> dict[str, np.ndarray]:
    """Test scores of each arm over the seeds on which every arm has finished."""
    seeds = plan.confirm_seeds(study)
    done = {(row["arm"], row["seed"]): row["value"] for row in confirm_rows}
    whole = [seed for seed in seeds if all((label, seed) in done for label in labels)]
    if not whole:
        return {}
    return {label: np.array([done[label, seed] for seed in whole], float) for label in labels}


def _signed(study: StudyConfig, scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores made larger-is-better."""
    return {label: choose.sign(study) * values for label, values in scores.items()}


def _arms(study: StudyConfig, rows: list[Row], scores: dict[str, np.ndarray]) -> list[ArmResult]:
    if not scores:
        return []
    labels = {plan.label(study.study.arms, arm): arm for arm in study.study.arms}
    reference = next(iter(scores))
    others = {label: (s, scores[reference]) for label, s in scores.items() if label != reference}
    against = comparison.compare(others)
    best = comparison.probability_best(_signed(study, scores))
    results = []
    for label, values in scores.items():
        mine = [r for r in rows if r["arm"] == label and not math.isnan(r["value"])]
        row = max(mine, key=lambda r: choose.sign(study) * r["value"])  # the first of ties
        ranges = plan.applying(study, labels[label])
        setting = {**labels[label], **{name: row[name] for name in ranges}}
        score = comparison.estimate(values)
        # The mean over the seeds that it survived is not to be compared.
        chance = best[label] if np.isfinite(values).all() else np.nan
        results.append(
            ArmResult(label, setting, row["value"], values, score, against.get(label), chance)
        )

    def place(arm: ArmResult) -> tuple[bool, bool, float]:
        mean = arm.score.mean
        return arm.diverged > 0, math.isnan(mean), -choose.sign(study) * mean

    return sorted(results, key=place)


def _effects(
    study: StudyConfig, scores: dict[str, np.ndarray]
) -> dict[tuple[str, str], Difference]:
    """Each factor's levels against its first, seed by seed, averaged over the other factors."""
    arms = study.study.arms
    columns = plan.factors(arms)
    if len(columns) < 2 or not scores or len(scores) < len(arms):
        return {}
    levels = {plan.label(arms, arm): plan.params_of(arms, arm) for arm in arms}
    pairs = {}
    for name, choices in columns.items():
        means = {
            choice: np.mean([scores[a] for a in scores if levels[a][name] == choice], axis=0)
            for choice in choices
        }
        for choice in choices[1:]:
            pairs[f"{name}\n{choice}"] = (means[choice], means[choices[0]])
    return {(n.split("\n")[0], n.split("\n")[1]): d for n, d in comparison.compare(pairs).items()}


def _trends(study: StudyConfig, rows: list[Row]) -> dict[str, tuple[float, float]]:
    found = {}
    for name in study.study.ranges:
        known = [r for r in rows if r["same_as"] is None and not math.isnan(r["value"])]
        drawn = [r for r in known if not math.isnan(r[name])]
        if len(drawn) >= 4:
            found[name] = comparison.trend(
                np.array([r[name] for r in drawn]),
                choose.sign(study) * np.array([r["value"] for r in drawn]),
                np.array([r["arm"] for r in drawn]),
            )
    return found


def importances(result: StudyResult) -> dict[str, float]:
    """How much of the search's variance each factor or range explains, by fANOVA's cheaper kin:
    the permutation importance of a random forest over finished trials, as shares of their sum.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    arms, rows = result.config.study.arms, [r for r in result.rows if not math.isnan(r["value"])]
    columns: dict[str, np.ndarray] = {}
    for name in plan.varied(arms):
        columns[name] = np.unique([str(r[name]) for r in rows], return_inverse=True)[1]
    for name, drawn in result.config.study.ranges.items():
        values = np.array([r[name] for r in rows], float)
        columns[name] = np.nan_to_num(np.log(values) if drawn.log else values, nan=-100.0)
    values = np.array([r["value"] for r in rows])
    if len(rows) < 8 or not columns or np.ptp(values) == 0:
        return {}
    table = np.column_stack(list(columns.values()))
    forest = RandomForestRegressor(64, min_samples_leaf=2, random_state=0).fit(table, values)
    permuted: Any = permutation_importance(forest, table, values, n_repeats=20, random_state=0)
    gains = np.maximum(permuted.importances_mean, 0)
    total = gains.sum() or 1.0
    return dict(sorted(zip(columns, map(float, gains / total), strict=True), key=lambda x: -x[1]))
