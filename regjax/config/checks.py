"""Refuses what cannot work, before anything is computed."""

import dataclasses
import json
import math
import numbers
import typing
from typing import Any

from regjax.config import conflicts
from regjax.config.field_types import plain_type
from regjax.config.sections import AnyConfig, Config, StudyConfig
from regjax.errors import InputError, did_you_mean
from regjax.sweeps import Range

FLOAT32_MIN, FLOAT32_MAX = 1.1754944e-38, 3.4028234e38  # below the first, a CPU may take it for 0


def check(config: AnyConfig) -> AnyConfig:
    """Returns the config with numbers made plain, or says what is wrong with the first bad field.

    Raises:
      InputError: a wrong type, a number outside its interval, an unknown choice, or fields that
        contradict each other.

    >>> from regjax.config import Config, PenaltyConfig
    >>> check(Config(epochs=3)).epochs
    3
    >>> check(Config(penalty=PenaltyConfig(name="l1", strength=-1.0)))
    Traceback (most recent call last):
    ...
    regjax.errors.InputError: penalty.strength is -1.0, expected a number in [0, inf)
    """
    if type(config) not in (Config, StudyConfig):
        raise InputError(
            f"the config is a {type(config).__name__}, expected a Config or a StudyConfig itself, "
            "which is what can be read again"
        )
    config = _checked(config, "")
    if message := conflicts.find(config):
        raise InputError(message)
    return config


def _checked(section: Any, prefix: str) -> Any:
    hints = typing.get_type_hints(type(section))
    values = {}
    for f in dataclasses.fields(section):
        value, name = getattr(section, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(hints[f.name]):
            if type(value) is not hints[f.name]:
                expected = hints[f.name].__name__
                raise InputError(f"{name} is a {type(value).__name__}, expected a {expected}")
            values[f.name] = _checked(value, f"{name}.")
        elif typing.get_origin(hints[f.name]) is tuple:
            values[f.name] = _checked_tuple(value, hints[f.name], f.metadata, name)
        elif typing.get_origin(hints[f.name]) in (list, dict):
            values[f.name] = _checked_container(value, typing.get_origin(hints[f.name]), name)
        else:
            values[f.name] = _checked_value(value, hints[f.name], f.metadata, name)
    return type(section)(**values)


def _checked_tuple(value: Any, hint: Any, metadata: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise InputError(f"{name} is {value!r}, expected a tuple such as (128, 128)")
    kind = typing.get_args(hint)[0]
    return tuple(_checked_value(v, kind, metadata, f"{name}[{i}]") for i, v in enumerate(value))


def _checked_container(value: Any, kind: Any, name: str) -> Any:
    """A list or dict, as it is; `regjax.studies.plan` looks at what is in it."""
    if not isinstance(value, kind):
        raise InputError(f"{name} is {value!r}, expected a {kind.__name__}")
    if kind is dict:
        return {key: _checked_range(r, f"{name}[{key!r}]", key) for key, r in value.items()}
    return _as_read(value, name)


def _checked_range(value: Any, name: str, key: Any) -> Range:
    if not isinstance(key, str):
        raise InputError(f"{name} is of no field; give a field's name")
    if not isinstance(value, Range):
        raise InputError(f"{name} is {value!r}, expected a Range(low, high)")
    return dataclasses.replace(value, when=_as_read(value.when, f"{name}.when"))


def _as_read(value: Any, name: str) -> Any:
    """A value as it will be read from config.json: a tuple is a list."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds what JSON cannot: {error}") from error


def _checked_value(value: Any, hint: Any, metadata: Any, name: str) -> Any:
    kind = plain_type(hint)
    if value is None and kind is not hint:
        return None
    if isinstance(value, str):
        value = metadata.get("words", {}).get(value, value)
    accepted = {float: numbers.Real, int: numbers.Integral}.get(kind, kind)
    if not isinstance(value, accepted) or (kind in (int, float) and isinstance(value, bool)):
        article = "an int" if kind is int else f"a {kind.__name__}"
        raise InputError(f"{name} is {value!r} ({type(value).__name__}), expected {article}")
    value = kind(value)  # pyright: ignore[reportArgumentType] - None ended above
    size = abs(value) if kind is float and math.isfinite(value) else 0.0
    if size and not FLOAT32_MIN <= size <= FLOAT32_MAX:
        raise InputError(f"{name} is {value}, expected a number that float32 can hold")
    choices, interval = metadata.get("choices"), metadata.get("interval")
    prefix = metadata.get("prefix")
    if choices and value not in choices and not (prefix and value.startswith(prefix)):
        hint = did_you_mean(value, choices)
        known = ", ".join([*choices, *([f"{prefix}..."] if prefix else [])])
        raise InputError(f"{name} is '{value}', expected one of {known}{hint}")
    if interval and not _inside(value, interval):
        raise InputError(f"{name} is {value}, expected a number in {interval}")
    return value


def _inside(value: float, interval: str) -> bool:
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)
