"""The plots of a report."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from regjax.config import StudyConfig
from regjax.drawing import COLOURS, MARKERS
from regjax.studies import choose, plan, words
from regjax.studies.result import Row, StudyResult, importances

ENTRIES = 14  # of a legend, for which there is room


def plots(result: StudyResult) -> dict[str, tuple[str, Callable[[Any], None], float]]:
    """Every plot that there are data for: by file name its caption, how to draw it, its height."""
    study, found = result.config, {}
    done = [row for row in result.rows if not math.isnan(row["value"])]
    if any(not math.isnan(arm.score.mean) for arm in result.arms):
        found["arms"] = (
            f"{_title(study, 'test')} of each arm's best setting: mean, 95 % interval, each seed",
            lambda axes: _arms(axes, result),
            1.0 + 0.34 * len(result.arms),
        )
    if not done:
        return found
    found["search"] = (
        f"{_title(study)} of each trial in the order of the search",
        lambda axes: _search(axes, result, done),
        3.4,
    )
    for name in study.study.ranges:
        if any(not math.isnan(row[name]) for row in done):
            found[_by(name)] = (
                f"{_title(study)} by {name}",
                lambda axes, name=name: _by_range(axes, study, done, name),
                3.4,
            )
    if len(plan.factors(study.study.arms)) == 2:
        found["grid"] = (
            _grid_caption(result),
            lambda axes: _grid(axes, result, done),
            3.4,
        )
    found["curves"] = (
        f"{_title(study, 'valid')} by epoch: each arm's best trial, up to where it stopped",
        lambda axes: _curves(axes, study, done),
        3.8,
    )
    if shares := importances(result):
        found["importances"] = (
            "What the search's results depend on: permutation importance in a random forest",
            lambda axes: _importances(axes, shares),
            0.9 + 0.34 * len(shares),
        )
    return found


def names(study: StudyConfig) -> set[str]:
    """File names of all plots that a study may have."""
    return {"arms", "search", "grid", "curves", "importances", *map(_by, study.study.ranges)}


def _by(field: str) -> str:
    return f"by_{field.replace('.', '_')}"


def _title(study: StudyConfig, split: str = "select") -> str:
    name = words.metric(study, split)
    return f"{name[0].upper()}{name[1:]}{' (%)' if words.scale(study) == 100 else ''}"


def _groups(study: StudyConfig, rows: list[Row]) -> dict[str, list[Row]]:
    """Rows by the level of the first factor."""
    names = plan.varied(study.study.arms)
    if not names:
        return {"": rows}
    levels = dict.fromkeys(str(arm.get(names[0])) for arm in study.study.arms)
    return {level: [r for r in rows if str(r[names[0]]) == level] for level in levels}


def _points(
    axes: Any, study: StudyConfig, rows: list[Row], x: Callable[[Row], float], along: str
) -> None:
    """The score of each row, a colour and a marker for each level of the first factor."""
    for i, (level, group) in enumerate(_groups(study, rows).items()):
        values = [words.scale(study) * row["value"] for row in group]
        where = [x(row) for row in group]
        axes.plot(where, values, **_look(i), ls="", ms=4, alpha=0.8, label=_shown(level))
    _zoom(axes, words.scale(study) * np.array([row["value"] for row in rows]))
    axes.set_xlabel(along)
    axes.set_ylabel(_title(study))
    if names := plan.varied(study.study.arms):
        _legend(axes, names[0])


def _look(number: int) -> dict[str, Any]:
    """A colour and a marker, which come together anew only after 64."""
    turn, place = divmod(number, len(COLOURS))
    return {"color": COLOURS[place], "marker": MARKERS[(place + turn) % len(MARKERS)]}


def _shown(label: str) -> str:
    """A label that a plot has room for, and does not take for a formula."""
    short = label if len(label) <= 32 else f"{label[:20]}…{label[-11:]}"
    return short.replace("$", r"\$")


def _legend(axes: Any, title: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > ENTRIES:
        left = len(labels) - ENTRIES + 1
        handles = [*handles[: ENTRIES - 1], *axes.plot([], [], " ")]
        labels = [*labels[: ENTRIES - 1], f"and {left} more"]
    axes.figure.legend(handles, labels, title=title, loc="outside right upper")


def _zoom(axes: Any, values: np.ndarray) -> None:
    """Shows the upper or lower three quarters in full: a few failed trials hide the rest."""
    low, high = np.quantile(values, [0.1, 0.9])
    margin = 0.6 * (high - low) or 0.5
    bottom, top = max(low - margin, values.min()), min(high + margin, values.max())
    pad = 0.05 * (top - bottom) or 0.5
    axes.set_ylim(bottom - pad, top + pad)


def _arms(axes: Any, result: StudyResult) -> None:
    scale = words.scale(result.config)
    for place, arm in enumerate(reversed(result.arms)):
        mean, low, high = (scale * x for x in arm.score)
        colour = COLOURS[0] if arm.label in result.tied else COLOURS[-1]
        axes.scatter(scale * arm.scores, [place] * len(arm.scores), s=9, color=colour, alpha=0.4)
        if not math.isnan(low):
            axes.plot([low, high], [place, place], color=colour, lw=2)
        axes.plot(mean, place, "o", color=colour, ms=6)
    axes.set_yticks(range(len(result.arms)), [_shown(arm.label) for arm in reversed(result.arms)])
    axes.set_xlabel(_title(result.config, "test"))
    ends = np.array([end for arm in result.arms for end in (arm.score.low, arm.score.high)])
    scores = scale * np.concatenate([ends, *(arm.scores for arm in result.arms)])
    scores = scores[np.isfinite(scores)]
    pad = 0.05 * np.ptp(scores) or 0.5
    axes.set_xlim(scores.min() - pad, scores.max() + pad)


def _search(axes: Any, result: StudyResult, done: list[Row]) -> None:
    study = result.config
    _points(axes, study, done, lambda row: row["number"] + 1, "Trial")
    values = words.scale(study) * np.array([row["value"] for row in done])
    best = np.maximum.accumulate if choose.sign(study) > 0 else np.minimum.accumulate
    numbers = [row["number"] + 1 for row in done]
    axes.step(numbers, best(values), where="post", color=COLOURS[-1], lw=1)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _by_range(axes: Any, study: StudyConfig, done: list[Row], name: str) -> None:
    drawn = [row for row in done if not math.isnan(row[name])]
    _points(axes, study, drawn, lambda row: row[name], name)
    if study.study.ranges[name].log:
        axes.set_xscale("log")


def _grid_caption(result: StudyResult) -> str:
    first, second = plan.factors(result.config.study.arms)
    split = "test" if result.arms else "select"
    best = "mean over the seeds" if result.arms else "best of each arm's trials"
    return f"{_title(result.config, split)} by {first} and {second}: {best}"


def _grid(axes: Any, result: StudyResult, done: list[Row]) -> None:
    study = result.config
    (first, rows), (second, columns) = plan.factors(study.study.arms).items()
    sign, scale = choose.sign(study), words.scale(study)
    best: dict[str, Any] = {}
    for row in done:
        value = row["value"]
        best[row["arm"]] = sign * max(sign * best.get(row["arm"], value), sign * value)
    best |= {arm.label: arm.score.mean for arm in result.arms}
    arms = study.study.arms
    labels = {tuple(plan.params_of(arms, arm).values()): plan.label(arms, arm) for arm in arms}
    width = 0.8 / len(columns)
    for j, column in enumerate(columns):
        values = [scale * best.get(labels[row, column], math.nan) for row in rows]
        places = np.arange(len(rows)) + (j - (len(columns) - 1) / 2) * width
        axes.plot(places, values, **_look(j), ls="", ms=7, label=_shown(column))
        at = {labels[row, column]: place for row, place in zip(rows, places, strict=True)}
        for arm in result.arms:
            if arm.label in at and not math.isnan(arm.score.low):
                place = at[arm.label]
                ends = [scale * arm.score.low, scale * arm.score.high]
                axes.plot([place, place], ends, color=_look(j)["color"], lw=1.5)
    axes.set_xticks(range(len(rows)), map(_shown, rows))
    axes.set_xlabel(first)
    axes.set_ylabel(_title(study, "test" if result.arms else "select"))
    _legend(axes, second)


def _curves(axes: Any, study: StudyConfig, done: list[Row]) -> None:
    sign, scale = choose.sign(study), words.scale(study)
    monitor = choose.metric(study, "valid")
    names = plan.varied(study.study.arms)
    levels = list(_groups(study, done))
    best: dict[str, Row] = {}
    for row in done:
        if row["arm"] not in best or sign * row["value"] > sign * best[row["arm"]]["value"]:
            best[row["arm"]] = row
    every = []
    for row in best.values():
        curve = scale * np.array(row["curves"][0].get(monitor, []), float)
        epochs = 1 + np.flatnonzero(np.isfinite(curve))  # of those that were evaluated
        if not len(epochs):
            continue
        curve = curve[epochs - 1]
        level = str(row[names[0]]) if names else ""
        colour = _look(levels.index(level))["color"]
        axes.plot(epochs, curve, color=colour, lw=1, alpha=0.8)
        axes.plot(epochs[-1], curve[-1], "o", color=colour, ms=4)
        every.append(curve)
    for i, level in enumerate(levels):
        axes.plot([], [], color=_look(i)["color"], label=_shown(level))
    if every:
        _zoom(axes, np.concatenate(every))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("Epoch")
    axes.set_ylabel(_title(study, "valid"))
    if names:
        _legend(axes, names[0])


def _importances(axes: Any, shares: dict[str, float]) -> None:
    names = list(reversed(shares))
    axes.barh(names, [100 * shares[name] for name in names], color=COLOURS[0], height=0.6)
    axes.set_xlabel("Share (%)")
