"""What a study will run, as values: its arms, its entries, and each entry's configs. Pure.

A trial is told to Optuna by parameters: one categorical for each field that the arms vary (or one
named `arm`, where the arms are no full grid) and one number for each range. An entry is a trial to
come: its number, which decides its seed, and the parameters that are fixed beforehand; what it
leaves open the sampler chooses.
"""

import importlib.util
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from regjax import config as config_lib
from regjax.config import Config, ParallelConfig, SearchConfig, StudyConfig
from regjax.errors import InputError
from regjax.sweeps import Setting

ARM = "arm"  # the parameter, where arms are no grid
ADAPTIVE = ("tpe", "cmaes", "gp")  # samplers that look at results; the others' points are planned


class Entry(NamedTuple):
    """A trial to come."""

    number: int
    params: dict[str, Any]


def check(study: StudyConfig) -> StudyConfig:
    """Returns the config with numbers made plain, or says what is wrong with it.

    In it every arm has all fields that any arm sets: one that it leaves out is the config's own.

    Raises:
      InputError: what `config.check` refuses, in the study or any of its arms at either end of
        any range; arms that are the same, unknown fields, an impossible search.
    """
    if not isinstance(study, StudyConfig):
        raise InputError(f"the config is a {type(study).__name__}, expected a StudyConfig")
    study = config_lib.check(study)
    search = study.study
    if not search.arms:
        raise InputError("study.arms is empty; give at least one arm, [{}] for the config as it is")
    _check_arms(study)
    for name, drawn in search.ranges.items():
        drawn.check(name)
        _check_range(study, name)
    if search.sampler == "grid":
        _grid_side(search)
    if search.sampler == "gp" and importlib.util.find_spec("torch") is None:
        raise InputError(
            "study.sampler is 'gp', for which Optuna needs PyTorch; install torch, or choose tpe"
        )
    if search.sampler in ADAPTIVE and not search.ranges and search.protocol == "balanced":
        raise InputError(f"study.sampler is '{search.sampler}' but study.ranges is empty; add one")
    runs: dict[str, int] = {}
    for i, arm in enumerate(search.arms):
        run = "".join(map(config_lib.to_json, ends(study, arm)))
        if run in runs:
            raise InputError(
                f"study.arms[{runs[run]}] and study.arms[{i}] are the same run; drop one"
            )
        runs[run] = i
    search.arms = _filled(study)
    return study


def _filled(study: StudyConfig) -> list[Setting]:
    """The arms by the values that they have, so that what is left out is no level of its own."""
    names = dict.fromkeys(name for arm in study.study.arms for name in arm)
    every = [dict(config_lib.flatten(ends(study, arm)[0])) for arm in study.study.arms]
    # As they will be read from config.json.
    return [json.loads(json.dumps({name: values[name] for name in names})) for values in every]


def _check_arms(study: StudyConfig) -> None:
    for i, arm in enumerate(study.study.arms):
        if not isinstance(arm, dict):
            raise InputError(f"study.arms[{i}] is {arm!r}, expected a dict of fields to values")
        for name in arm:
            _check_varied(study, name, f"study.arms[{i}]")


def _check_varied(study: StudyConfig, name: str, where: str) -> None:
    if name not in dict(config_lib.flatten(study)):
        raise InputError(f"{where}: {config_lib.suggest_field(name)}")
    if name in ("seed", "data.split_seed") or name.startswith("study."):
        raise InputError(f"{where} sets '{name}', which a study sets itself; leave it out")


def _check_range(study: StudyConfig, name: str) -> None:
    where, drawn = f"study.ranges['{name}']", study.study.ranges[name]
    _check_varied(study, name, where)
    hints = {field: config_lib.plain_type(hint) for field, hint, _ in config_lib.fields()}
    if hints[name] not in (int, float):
        raise InputError(f"{where}: {name} is no number; vary it in study.arms")
    if hints[name] is int and not drawn.integer:
        raise InputError(f"{where}: {name} is a whole number; set integer=True")
    for condition in drawn.when:
        _check_varied(study, condition, f"{where}.when")
    if any(name in arm for arm in study.study.arms):
        raise InputError(f"{where}: study.arms sets {name} too; leave it to one of them")
    if not any(name in applying(study, arm) for arm in study.study.arms):
        raise InputError(f"{where}: no arm fulfils its `when`, so it would never be drawn")


def varied(arms: Sequence[Setting]) -> list[str]:
    """The fields in which arms differ, in the order in which they are set.

    >>> varied([{"epochs": 3, "model.norm": "batch"}, {"epochs": 3, "model.norm": "layer"}])
    ['model.norm']
    """
    names = list(dict.fromkeys(name for arm in arms for name in arm))
    return [name for name in names if len({text(arm.get(name)) for arm in arms}) > 1]


def text(value: Any) -> str:
    """A value of a setting, as it is shown and as Optuna knows it."""
    return value if isinstance(value, str) else json.dumps(value)


def label(arms: Sequence[Setting], arm: Setting) -> str:
    """An arm's name: the values in which it differs from others, no two with the same.

    A value is in quotes where it could be read as another, or as several.

    >>> arms = [{"model.norm": "batch", "epochs": 3}, {"model.norm": "layer", "epochs": 3}]
    >>> label(arms, arms[0])
    'batch'
    """
    return "/".join(_quoted(arm[name]) if name in arm else "-" for name in varied(arms)) or "all"


def _quoted(value: Any) -> str:
    shown = text(value)
    return json.dumps(shown) if set('/"') & set(shown) or shown == "-" else shown


def factors(arms: Sequence[Setting]) -> dict[str, list[str]]:
    """Optuna's categorical parameters for the arms: a list of choices for each.

    >>> factors([{"model.norm": "batch"}, {"model.norm": "layer"}])
    {'model.norm': ['batch', 'layer']}
    """
    names = varied(arms)
    if not names:
        return {}
    columns = {n: list(dict.fromkeys(text(arm.get(n)) for arm in arms)) for n in names}
    if math.prod(len(choices) for choices in columns.values()) == len(arms):
        return columns
    return {ARM: [label(arms, arm) for arm in arms]}


def params_of(arms: Sequence[Setting], arm: Setting) -> dict[str, str]:
    """The categorical parameters that stand for an arm."""
    columns = factors(arms)
    return {n: label(arms, arm) if n == ARM else text(arm.get(n)) for n in columns}


def arm_of(arms: Sequence[Setting], params: Mapping[str, Any]) -> Setting:
    """The arm that categorical parameters stand for."""
    columns = factors(arms)
    wanted = {name: params[name] for name in columns}
    return next(arm for arm in arms if params_of(arms, arm) == wanted)


def applying(study: StudyConfig, arm: Setting) -> dict[str, Any]:
    """The ranges that are drawn for an arm."""
    values = {**dict(config_lib.flatten(study)), **arm}
    return {name: r for name, r in study.study.ranges.items() if r.applies(values)}


def ends(study: StudyConfig, arm: Setting) -> list[Config]:
    """The configs of an arm's first run at the low and at the high end of all its ranges.

    Raises:
      InputError: a setting that `config.check` refuses.
    """
    ranges = applying(study, arm)
    settings = [{n: r.low for n, r in ranges.items()}, {n: r.high for n, r in ranges.items()}]
    return [config_of(study, {**arm, **setting}, study.seed) for setting in settings]


def config_of(study: StudyConfig, setting: Setting, seed: int) -> Config:
    """The config of one run.

    Raises:
      InputError: a setting that `config.check` refuses.
    """
    whole = config_lib.with_setting(study, setting)
    names = Config.__dataclass_fields__
    run = Config(**{name: getattr(whole, name) for name in names})
    run.seed = seed
    run.parallel = ParallelConfig("single")  # devices are shared by lanes, not by a run
    if run.stopping.refit != "none":
        raise InputError(
            f"stopping.refit is '{run.stopping.refit}', which a study cannot do; set it to none, "
            "and refit the winner's config with `regjax train`"
        )
    try:
        return config_lib.check(run)
    except InputError as error:
        told = ", ".join(f"{name}={value!r}" for name, value in setting.items())
        raise InputError(f"with {told or 'no change'}: {error}") from error


def search_seeds(study: StudyConfig) -> list[int]:
    """The seeds of every trial of the search: the same for all, as are their splits."""
    return [study.seed + i for i in range(study.study.seeds)]


def confirm_seeds(study: StudyConfig) -> list[int]:
    """The seeds of the confirmation; if `fresh`, none that the search has seen."""
    first = study.seed + (study.study.seeds if study.study.fresh else 0)
    return [first + i for i in range(study.study.confirm)]


def search_entries(study: StudyConfig) -> list[Entry]:
    """The trials of the search.

    Balanced: round by round every arm once, at the same point of the ranges in each round, so that
    a study that is cut short is balanced too. In one search with a planned sampler the arm is one
    more coordinate of the point; with an adaptive one all is left to it.
    """
    search, arms = study.study, study.study.arms
    if search.sampler in ADAPTIVE:
        rounds = itertools.product(range(search.trials), arms)
        if search.protocol == "optuna":
            return [Entry(i, {}) for i in range(search.trials)]
        return [Entry(i, params_of(arms, arm)) for i, (_, arm) in enumerate(rounds)]
    places = points(search, study.seed)
    entries = []
    if search.protocol == "optuna":
        for i, (first, *rest) in enumerate(places):
            arm = arms[min(int(first * len(arms)), len(arms) - 1)]
            entries.append(Entry(i, _params_at(study, arm, rest)))
        return entries
    for place, arm in itertools.product(places, arms):
        entries.append(Entry(len(entries), _params_at(study, arm, place)))
    return entries


def confirm_entries(study: StudyConfig, best: Mapping[str, dict[str, Any]]) -> list[Entry]:
    """The trials of the confirmation: each arm's best parameters on every seed."""
    rounds = itertools.product(confirm_seeds(study), best.values())
    return [Entry(i, {**params, "seed": seed}) for i, (seed, params) in enumerate(rounds)]


def _params_at(study: StudyConfig, arm: Setting, place: Sequence[float]) -> dict[str, Any]:
    """The parameters of an arm at a point in the unit cube of all ranges."""
    shares = dict(zip(study.study.ranges, place, strict=True))
    drawn = {name: r.at(shares[name]) for name, r in applying(study, arm).items()}
    return {**params_of(study.study.arms, arm), **drawn}


def points(search: SearchConfig, seed: int) -> list[list[float]]:
    """`trials` points in the unit cube of the ranges; with one search, of arms and ranges.

    Sobol's are scrambled (Owen), so that their first few are spread out too.
    """
    dimensions = len(search.ranges) + (search.protocol == "optuna")
    if dimensions == 0:
        return [[] for _ in range(search.trials)]
    if search.sampler == "grid":
        axis = np.linspace(0, 1, _grid_side(search)) if search.trials > 1 else np.array([0.5])
        return [list(map(float, place)) for place in itertools.product(axis, repeat=dimensions)]
    if search.sampler == "random":
        return np.random.default_rng(seed).random((search.trials, dimensions)).tolist()
    from scipy.stats import qmc  # half a second, which a worker does not need

    sobol = qmc.Sobol(dimensions, rng=np.random.default_rng(seed))
    return sobol.random_base2(math.ceil(math.log2(search.trials)))[: search.trials].tolist()


def _grid_side(search: SearchConfig) -> int:
    """Points along each range of a grid.

    Raises:
      InputError: `trials` is no power of a whole number.
    """
    if search.protocol == "optuna":
        raise InputError(
            "study.sampler is 'grid', which needs study.protocol 'balanced': each arm its grid"
        )
    count = len(search.ranges) or 1
    side = round(search.trials ** (1 / count))
    if side**count != search.trials:
        near = ", ".join(str(n**count) for n in range(max(side - 1, 1), side + 2))
        raise InputError(
            f"study.trials is {search.trials}, but a grid over {count} ranges has {near}, ... "
            "points; choose one of these"
        )
    return side


def suggest(trial: Any, study: StudyConfig) -> Setting:
    """Has Optuna fill in a trial's parameters, and returns the setting that they stand for."""
    arms = study.study.arms
    chosen = {n: trial.suggest_categorical(n, choices) for n, choices in factors(arms).items()}
    arm = arm_of(arms, chosen)
    numbers: Setting = {}
    for name, r in applying(study, arm).items():
        if r.integer:
            numbers[name] = trial.suggest_int(name, int(r.low), int(r.high), log=r.log)
        else:
            numbers[name] = trial.suggest_float(name, float(r.low), float(r.high), log=r.log)
    return {**arm, **numbers}


def budget(study: StudyConfig) -> int:
    """How many trials the search has."""
    per_arm = study.study.protocol == "balanced"
    return study.study.trials * (len(study.study.arms) if per_arm else 1)
