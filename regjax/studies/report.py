"""Writes a study's report: `report.html`, self-contained, and `report.md` with its PNGs."""

import base64
import json
import math
import os
import platform
import re
from pathlib import Path
from typing import Any

import jinja2
from rich.table import Table
from rich.text import Text

from regjax import config as config_lib
from regjax.config import StudyConfig
from regjax.errors import InputError
from regjax.studies import plan, words
from regjax.studies import result as result_lib
from regjax.studies.result import StudyResult
from regjax.sweeps import Range
from regjax.train import devices, versions
from regjax.workdir import write as write_text
from regjax.workdir import write_bytes

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "figures"


def load() -> None:
    """Loads what `write` needs, which takes some seconds, before it does."""
    import sklearn.ensemble
    import sklearn.inspection  # noqa: F401

    from regjax import drawing  # noqa: F401
    from regjax.studies import plots  # noqa: F401


def write(result: StudyResult, workdir: Path) -> Path:
    """Writes the report of a study, finished or not, and returns the path of its page.

    Raises:
      InputError: the folder cannot be written.
    """
    from regjax import drawing  # matplotlib is slow to load
    from regjax.studies import plots

    values = contents(result, workdir)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("regjax.studies", "templates"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["plain"] = _plain
    drawn = plots.plots(result)
    try:
        folder = workdir / FIGURES
        folder.mkdir(parents=True, exist_ok=True)
        figures = []
        for name, (caption, draw, height) in drawn.items():
            light = drawing.render(draw, drawing.LIGHT, height)
            dark = drawing.render(draw, drawing.DARK, height)
            write_bytes(folder / f"{name}.png", light)
            images = {"light": _b64(light), "dark": _b64(dark)}
            figures.append({"name": name, "caption": caption, **images})
        for name in plots.names(result.config) - set(drawn):  # of a report of another time
            (folder / f"{name}.png").unlink(missing_ok=True)
        for name in (MARKDOWN, HTML):
            text = environment.get_template(f"{name}.j2").render(**values, figures=figures)
            write_text(workdir / name, text)
    except OSError as error:
        raise InputError(
            f"the report cannot be written to '{workdir}': {error.strerror or error}"
        ) from error
    return workdir / HTML


def _plain(text: str) -> str:
    """Text as it is where Markdown would see a column of a table, or a tag."""
    return re.sub("<(?=[A-Za-z/!?])", "&lt;", text.replace("|", "\\|"))


def _b64(image: bytes) -> str:
    return base64.b64encode(image).decode()


def contents(result: StudyResult, workdir: Path) -> dict[str, Any]:
    """What both forms of the report say."""
    study = result.config
    return {
        "name": study.study.name,
        "headline": headline(result),
        "conclusion": words.conclusion(result),
        "columns": columns(result),
        "cells": cells(result),
        "note": words.note(result),
        "what": _facts(result),
        "arms": [(plan.label(study.study.arms, arm), json.dumps(arm)) for arm in study.study.arms],
        "ranges": {name: range_text(r) for name, r in study.study.ranges.items()},
        "settings": [(arm.label, json.dumps(arm.setting)) for arm in result.arms],
        "versions": versions(),
        "config": config_lib.to_json(study),
        "command": f"regjax study --config={workdir / 'config.json'} --workdir=NEW_DIR",
    }


def headline(result: StudyResult) -> str:
    """What was run, in a line."""
    search, arms = result.config.study, words.many(len(result.config.study.arms), "arm")
    trials = words.many(len(result.rows), "trial")
    if search.protocol == "balanced":
        trials = f"{words.many(search.trials, 'trial')} each"
    fresh = f"{'' if search.fresh else 'of '}{words.confirmed_on(result.config)}"
    confirmed = f", then {search.confirm} {fresh} an arm" if search.confirm else ""
    return f"{arms}, {trials}{confirmed}"


def _facts(result: StudyResult) -> dict[str, str]:
    study, search = result.config, result.config.study
    diverged = words.many(sum(map(result_lib.diverged, result.rows)), "trial")
    lost = words.many(sum(map(result_lib.diverged, result.confirm_rows)), "run")
    copied = sum(row["same_as"] is not None for row in result.rows)
    trained = [row for row in (*result.rows, *result.confirm_rows) if row["same_as"] is None]
    epochs, seconds = (sum(r[name] for r in trained) for name in ("trained_epochs", "seconds"))
    workers = len({row["worker"] for row in trained})
    facts = {
        "protocol": f"{search.protocol}, sampler {search.sampler}",
        "trials": f"{len(result.rows)} of {result.planned[0]}",
        "confirmation": f"{len(result.confirm_rows)} of {result.planned[1]} runs",
        "data": _of_arms(study, "data.name"),
        "network": _of_arms(study, "model.name"),
        "epochs trained": f"{epochs:,.0f}",
        "diverged": f"{diverged}, {lost} of the confirmation",
        "training time": f"{words.clock(seconds)}, summed over {workers} workers",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {devices()}",
    }
    if trained and result.finished:
        start, end = (f(r[k] for r in trained) for f, k in ((min, "started"), (max, "finished")))
        facts["from the first trial to the last"] = words.clock((end - start).total_seconds())
    return facts | ({"answered from the record": str(copied)} if copied else {})


def _of_arms(study: StudyConfig, field: str) -> str:
    """A field's value, or all that it has in the arms."""
    base = dict(config_lib.flatten(study))[field]
    return words.listed(list(dict.fromkeys(arm.get(field, base) for arm in study.study.arms)))


def range_text(r: Range) -> str:
    """A range as it is shown.

    >>> range_text(Range(1e-6, 1e-2, log=True, when={"penalty.name": ["l1", "l2"]}))
    '1e-06 to 0.01, log scale, where penalty.name is l1 or l2'
    """
    scale = ", log scale" if r.log else ""
    whole = ", whole numbers" if r.integer else ""
    conditions = {name: words.listed(list(map(str, v)), "or") for name, v in r.when.items()}
    when = "".join(f", where {name} is {values}" for name, values in conditions.items())
    return f"{r.low:g} to {r.high:g}{scale}{whole}{when}"


def columns(result: StudyResult) -> list[str]:
    """The heads of the arms' table."""
    study = result.config
    names = plan.varied(study.study.arms) or ["arm"]
    first = plan.label(study.study.arms, study.study.arms[0])
    first = next((arm.label for arm in result.arms if arm.against is None), first)
    return [
        *names,
        words.metric(study, "test"),
        "95 % interval",
        f"against {first}",
        "p (Holm)",
        "g",
        "P(best)",
    ]


def cells(result: StudyResult) -> list[list[str]]:
    """The rows of the arms' table, the best arm first."""
    study, rows = result.config, []
    for arm in result.arms:
        d = arm.against
        names = plan.varied(study.study.arms)
        levels = [plan.text(arm.setting.get(name)) for name in names] or [arm.label]
        rows.append(
            [
                *levels,
                words.mean(study, arm),
                words.interval(study, arm.score),
                "" if d is None else words.difference(study, d),
                "" if d is None else words.probability(d.p),
                "" if d is None or math.isnan(d.effect) else f"{d.effect:+.1f}",
                words.probability(arm.best),
            ]
        )
    return rows


def table(result: StudyResult) -> Table:
    """The arms' table for a terminal."""
    made = Table(title=headline(result))
    texts = len(plan.varied(result.config.study.arms)) or 1
    for i, name in enumerate(columns(result)):
        made.add_column(Text(name), justify="left" if i < texts else "right", overflow="fold")
    for row in cells(result):
        made.add_row(*map(Text, row))
    return made
