"""What a field of a config is: a typed default with the values it may have."""

import dataclasses
import typing
from dataclasses import field
from typing import Any

from regjax.errors import InputError, did_you_mean


def within(default: Any, interval: str, **words: Any) -> Any:
    """A number field that must lie in `interval`, written "[0, 1)" with inf for no bound.

    A word, as in `auto=0`, may be given in place of the number that it stands for.
    """
    return field(default=default, metadata={"interval": interval, "words": words})


def traced(default: Any, interval: str, off: float | None = None) -> Any:
    """A number field that is traced; at `off`, and at None, it is left out of the program."""
    return field(default=default, metadata={"interval": interval, "traced": True, "off": off})


def one_of(default: str, *choices: str, prefix: str = "") -> Any:
    """A text field that must be one of `choices`, or begin with `prefix` if there is one."""
    return field(default=default, metadata={"choices": choices, "prefix": prefix})


class Fields:
    """Base of the config classes: an unknown field is refused by name, not silently set."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__:  # pyright: ignore[reportAttributeAccessIssue]
            raise InputError(unknown(type(self), name))
        object.__setattr__(self, name, value)


def unknown(cls: type, name: str) -> str:
    """Says that a class has no such field, with the closest that it has."""
    valid = [f.name for f in dataclasses.fields(cls)]
    return (
        f"{cls.__name__} has no field '{name}'{did_you_mean(name, valid)}; "
        f"its fields are {', '.join(valid)}"
    )


def plain_type(hint: Any) -> Any:
    """The type of a field's values, None aside.

    >>> plain_type(typing.Optional[float])
    <class 'float'>
    """
    options = typing.get_args(hint) if typing.get_origin(hint) is typing.Union else [hint]
    return next(t for t in options if t is not type(None))
