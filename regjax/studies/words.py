"""What a study found, in sentences that follow from its statistics."""

import math

from regjax.comparison import Difference, Estimate
from regjax.config import StudyConfig
from regjax.studies import choose, plan
from regjax.studies.result import ArmResult, StudyResult


def metric(study: StudyConfig, split: str = "select") -> str:
    """The objective on a split, as it is shown.

    >>> metric(StudyConfig(), "test")
    'test accuracy'
    """
    return choose.metric(study, split).replace("_", " ").replace("r2", "R²")


def scale(study: StudyConfig) -> float:
    """Accuracies are shown in percent."""
    return 100.0 if study.study.objective.endswith("accuracy") else 1.0


def unit(study: StudyConfig) -> str:
    """What a difference is measured in."""
    what = study.study.objective.removeprefix("select_")
    return {"accuracy": "points", "r2": "of R²"}.get(what, f"of {what}")


def score(study: StudyConfig, value: float) -> str:
    """A score as it is shown.

    >>> score(StudyConfig(), 0.97784)
    '97.78'
    """
    return "-" if math.isnan(value) else f"{scale(study) * value:.{_digits(study)}f}"


def mean(study: StudyConfig, arm: ArmResult) -> str:
    """An arm's mean as it is shown, with its seeds where it has not all."""
    seeds = len(arm.scores)
    there = f" ({seeds - arm.diverged} of {seeds} seeds)" if arm.diverged else ""
    return f"{score(study, arm.score.mean)}{there}"


def _digits(study: StudyConfig) -> int:
    return 2 if study.study.objective.endswith("accuracy") else 4


def interval(study: StudyConfig, estimate: Estimate, sign: str = "") -> str:
    """An interval as it is shown; `sign` is "+" for differences."""
    if math.isnan(estimate.low):
        return "-"
    low, high = scale(study) * estimate.low, scale(study) * estimate.high
    digits = _digits(study)
    return f"{low:{sign}.{digits}f} to {high:{sign}.{digits}f}"


def difference(study: StudyConfig, d: Difference) -> str:
    """A difference with its interval."""
    if math.isnan(d.estimate.mean):
        return "-"
    mean = f"{scale(study) * d.estimate.mean:+.{_digits(study)}f}"
    return f"{mean} ({interval(study, d.estimate, '+')})"


def probability(p: float) -> str:
    """A p value as it is shown.

    >>> probability(0.0321), probability(1e-6)
    ('.032', '< .001')
    """
    if math.isnan(p):
        return "-"
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def listed(names: list[str], last: str = "and") -> str:
    """Names in a sentence.

    >>> listed(["l1", "l2", "none"])
    'l1, l2 and none'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def many(count: int, what: str) -> str:
    """A number of things.

    >>> many(1, "arm"), many(2, "arm")
    ('1 arm', '2 arms')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def clock(seconds: float) -> str:
    """A time as it is shown.

    >>> clock(30), clock(200), clock(8000)
    ('30 s', '3.3 min', '2.2 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def conclusion(result: StudyResult) -> list[str]:
    """The findings, one a sentence or two; where nothing can be told, that."""
    sentences = []
    if not result.arms:
        sentences.append(_without_confirmation(result))
    elif _seeds(result) == 1:
        sentences.append(_one_seed(result))
    if result.arms and _seeds(result) > 1:
        for name in dict.fromkeys(factor for factor, _ in result.effects):
            sentences += _effect(result, name)
        several = len(result.arms) > 1
        sentences.append(_best(result) if several else _only(result.config, result.arms[0]))
    sentences += [_diverged(result), *_without_result(result)]
    sentences += [_trend(result, name) for name in result.trends]
    if not result.finished:
        searched, confirmed = result.planned
        sentences.append(
            f"The study is not finished: {len(result.rows)} of {searched} trials and "
            f"{len(result.confirm_rows)} of {confirmed} runs of the confirmation are done."
        )
    return [sentence for sentence in sentences if sentence]


def _without_confirmation(result: StudyResult) -> str:
    done = [row for row in result.rows if not math.isnan(row["value"])]
    if not done:
        return "No trial has finished with a number yet."
    sign = choose.sign(result.config)
    best = max(done, key=lambda row: sign * row["value"])
    what, lost = metric(result.config), len(result.rows) - len(done)
    without = f" ({lost} without a number)" if lost else ""
    return (
        f"The best of {many(len(result.rows), 'trial')}{without} is {best['arm']} with a {what} of "
        f"{score(result.config, best['value'])}; without a confirmation on fresh seeds that says "
        "little of how the arms compare."
    )


def _one_seed(result: StudyResult) -> str:
    first = result.arms[0]
    if first.diverged:
        return ""
    if len(result.arms) == 1:
        return (
            f"On one seed {first.label} has a {metric(result.config, 'test')} of "
            f"{score(result.config, first.score.mean)}."
        )
    return (
        f"The arms were compared on one seed, which no difference between them can be told by; "
        f"there {first.label} came first, with a {metric(result.config, 'test')} of "
        f"{score(result.config, first.score.mean)}."
    )


def confirmed_on(study: StudyConfig) -> str:
    """What the confirmation draws anew.

    >>> confirmed_on(StudyConfig())
    'fresh seeds and splits'
    """
    if not study.study.fresh:
        return "the search's seeds and splits"
    return "fresh seeds and splits" if study.data.split_seed < 0 else "fresh seeds of one split"


def note(result: StudyResult) -> str:
    """How the arms' table was made."""
    looked = "Test data were looked at once, with each arm's best setting on "
    looked += f"{confirmed_on(result.config)}."
    if result.arms and _seeds(result) == 1:
        return looked
    lost = " An arm that diverged has its mean and its differences over its other seeds, and no "
    lost += "P(best)."
    return (
        f"{looked} Intervals are smoothed bootstrap-t over the seeds; differences are paired; p is "
        "of the paired t-test, corrected by Holm over the table; g is Hedges' g of the paired "
        "differences; P(best) is from the means' posterior, given arm and seed."
        f"{lost if any(arm.diverged for arm in result.arms) else ''}"
    )


def _seeds(result: StudyResult) -> int:
    return len(result.arms[0].scores)


def _effect(result: StudyResult, name: str) -> list[str]:
    """One factor's levels against its first."""
    study = result.config
    levels = {level: d for (factor, level), d in result.effects.items() if factor == name}
    first = plan.factors(study.study.arms)[name][0]
    sentences = []
    for level, d in levels.items():
        if d.told_apart:
            above = "above" if d.estimate.mean > 0 else "below"
            mean = abs(scale(study) * d.estimate.mean)
            sentences.append(
                f"{name}: {level} is {mean:.{_digits(study)}f} {unit(study)} {above} {first} "
                f"(95 % interval {interval(study, d.estimate, '+')}, p {_p(d.p)})"
                f"{'' if d.seeds == _seeds(result) else _at(result, d)}."
            )
    same = {level: d for level, d in levels.items() if not d.told_apart and d.seeds}
    if same:
        largest = max(same.values(), key=lambda d: abs(d.estimate.mean))
        sentences.append(
            f"{name}: {listed(list(same), 'or')} cannot be told apart from {first}"
            f"{_at(result, min(same.values(), key=lambda d: d.seeds))} (the largest difference is "
            f"{difference(study, largest)} {unit(study)}, p {_p(largest.p)})."
        )
    if lost := [level for level, d in levels.items() if not d.seeds]:
        sentences.append(
            f"{name}: {listed(lost)} cannot be compared with {first}: on every seed an arm of one "
            "of them diverged."
        )
    return sentences


def _at(result: StudyResult, d: Difference) -> str:
    """On how many seeds two levels were compared."""
    if d.seeds == _seeds(result):
        return f" at {d.seeds} seeds"
    return f" on the {d.seeds} of {_seeds(result)} seeds on which none of their arms diverged"


def _p(p: float) -> str:
    shown = probability(p)
    return shown if shown.startswith("<") else f"= {shown}"


def _only(study: StudyConfig, arm: ArmResult) -> str:
    seeds = len(arm.scores) - arm.diverged
    if not seeds:
        return ""
    about = f" (95 % interval {interval(study, arm.score)})" if seeds > 1 else ""
    return (
        f"The arm's {metric(study, 'test')} is {score(study, arm.score.mean)}, the mean over "
        f"{many(seeds, 'seed')}{about}."
    )


def _best(result: StudyResult) -> str:
    if not result.tied:
        return "No arm had a finite loss on every seed."
    whole = [arm for arm in result.arms if not arm.diverged]
    among = "" if len(whole) == len(result.arms) else "Among the arms that never diverged, "
    best, others = result.tied[0], result.tied[1:]
    if len(whole) == 1:
        return f"{best} is the only arm that never diverged."
    if not others:
        return f"{among}{best} is the best arm: it can be told apart from every other."
    if len(result.tied) == len(whole):
        none = f"{among}no" if among else "No"
        return f"{none} arm can be told apart from the best, {best}, at {_seeds(result)} seeds."
    the = f"{among}the" if among else "The"
    return (
        f"{the} best arm by its mean is {best}; at {_seeds(result)} seeds it cannot be told apart "
        f"from {listed(others, 'or')}, but from the other {len(whole) - len(result.tied)}."
    )


def _diverged(result: StudyResult) -> str:
    """Which arms diverged in the confirmation, and how often."""
    lost = [arm for arm in result.arms if arm.diverged]
    if not lost:
        return ""
    first, *others = lost
    seeds = f"{first.diverged} of {many(_seeds(result), 'seed')}"
    more = "".join(f", {arm.label} on {arm.diverged}" for arm in others)
    if len(result.arms) == 1:
        return f"In the confirmation the arm diverged on {seeds}."
    return (
        f"In the confirmation {first.label} diverged on {seeds}{more}; a mean over the other seeds "
        "alone makes no arm the best."
    )


def _without_result(result: StudyResult) -> list[str]:
    """The arms that nothing could be confirmed of, once the search is over."""
    arms = result.config.study.arms
    if len(result.rows) < result.planned[0]:
        return []
    sentences = []
    for label in (plan.label(arms, arm) for arm in arms):
        tried = [row for row in result.rows if row["arm"] == label]
        if tried and all(math.isnan(row["value"]) for row in tried):
            of = (
                f"none of its {many(len(tried), 'trial')} ended" if tried[1:] else "its trial ended"
            )
            how = "with a number" if tried[1:] else "without a number"
            sentences.append(f"{label} is not compared: {of} {how}.")
        elif not tried:
            sentences.append(f"{label} is not compared: the search never chose it.")
    return sentences


def _trend(result: StudyResult, name: str) -> str:
    rho, p = result.trends[name]
    if math.isnan(rho):
        return ""
    what = metric(result.config)
    if p >= 0.05:
        return (
            f"{name}: over its range no trend of {what} can be told within arms (rank "
            f"correlation {rho:+.2f}, p {_p(p)})."
        )
    better = "Larger" if rho > 0 else "Smaller"
    return (
        f"{name}: {better} was better in the search (rank correlation within arms {rho:+.2f}, "
        f"p {_p(p)})."
    )
