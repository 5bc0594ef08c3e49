"""Configs by their fields' dotted names: listed, set, compared."""

import copy
import dataclasses
import functools
import typing
from collections.abc import Iterator
from typing import Any

from regjax.config.sections import Config
from regjax.errors import InputError, did_you_mean

# What differs from machine to machine and does not change a result.
PLACES = (
    "data.data_dir",
    "data.manual_dir",
    "data.memory",
    "data.workers",
    "parallel.mode",
    "parallel.devices",
    "parallel.shards",
    "study.lanes",
    "study.heartbeat",
)


def flatten(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted field name, value) for every field.

    >>> dict(flatten(Config()))["optimizer.name"]
    'adam'
    """
    for f in dataclasses.fields(section):
        value = getattr(section, f.name)
        if dataclasses.is_dataclass(value):
            yield from flatten(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value


def fields(cls: type = Config, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields (dotted field name, type hint, metadata) for every field.

    >>> next(name for name, _, metadata in fields() if metadata.get("traced"))
    'augment.thickness'
    """
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[f.name]):
            yield from fields(hints[f.name], f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", hints[f.name], f.metadata


def with_setting(config: Config, setting: dict[str, Any]) -> Config:
    """Returns a copy of a config with some fields set, by their dotted names, unchecked.

    Raises:
      InputError: no such field.

    >>> with_setting(Config(), {"optimizer.learning_rate": 0.1}).optimizer.learning_rate
    0.1
    """
    fields = dict(flatten(config))
    new = copy.deepcopy(config)
    for name, value in setting.items():
        if name not in fields:
            raise InputError(suggest_field(name, type(config)))
        *sections, last = name.split(".")
        setattr(functools.reduce(getattr, sections, new), last, value)
    return new


def differences(old: Config, new: Config) -> list[str]:
    """Returns "field: old there, new here" for each field that would change the result.

    >>> differences(Config(seed=1), Config(seed=2))
    ['seed: 1 there, 2 here']
    """
    there, here = dict(flatten(old)), dict(flatten(new))
    return [
        f"{name}: {there[name]!r} there, {here[name]!r} here"
        for name in here
        if name not in PLACES and there[name] != here[name]
    ]


def suggest_field(name: str, kind: type[Config] = Config) -> str:
    """Says that a dotted field does not exist, with the closest that does.

    >>> suggest_field("optimiser.learning_rate")[:66]
    "there is no config field 'optimiser.learning_rate' (did you mean '"
    """
    valid = [dotted for dotted, _ in flatten(kind())]
    hint = did_you_mean(name, valid) or did_you_mean(name, [*valid, *_sections(kind())])
    return f"there is no config field '{name}'{hint}; `regjax show` lists all fields"


def _sections(section: Any, prefix: str = "") -> Iterator[str]:
    for f in dataclasses.fields(section):
        value = getattr(section, f.name)
        if dataclasses.is_dataclass(value):
            yield f"{prefix}{f.name}"
            yield from _sections(value, f"{prefix}{f.name}.")
