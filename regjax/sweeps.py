"""Grids of settings as plain lists of dicts, and the ranges that a search draws numbers from.

A setting is a dict from config fields to values. Every function takes lists of settings and
returns one: `product(over("model.norm", ["none", "batch"]), over("seed", [0, 1]))`.
"""

import builtins
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from regjax.errors import InputError

Setting = dict[str, Any]


def over(name: str, values: Iterable[Any]) -> list[Setting]:
    """One setting for each value of a field.

    >>> over("seed", [0, 1])
    [{'seed': 0}, {'seed': 1}]
    """
    return [{name: value} for value in values]


def product(*sweeps: Sequence[Setting]) -> list[Setting]:
    """Every setting of each with every setting of the others, the last changing fastest.

    Raises:
      InputError: two of them set the same field.

    >>> len(product(over("model.norm", ["none", "batch"]), over("seed", [0, 1, 2])))
    6
    """
    return [_merged(settings) for settings in itertools.product(*sweeps)]


def zip(*sweeps: Sequence[Setting]) -> list[Setting]:
    """The first of each, the second of each, and so on.

    Raises:
      InputError: their lengths differ, or two of them set the same field.

    >>> zip(over("batch_size", [32, 64]), over("optimizer.learning_rate", [0.1, 0.2]))[1]
    {'batch_size': 64, 'optimizer.learning_rate': 0.2}
    """
    if len({len(sweep) for sweep in sweeps}) > 1:
        lengths = " and ".join(str(len(sweep)) for sweep in sweeps)
        raise InputError(f"zip needs sweeps of one length, these have {lengths}")
    return [_merged(settings) for settings in builtins.zip(*sweeps, strict=True)]


def chain(*sweeps: Sequence[Setting]) -> list[Setting]:
    """One after the other.

    >>> chain(over("seed", [0]), over("batch_size", [8]))
    [{'seed': 0}, {'batch_size': 8}]
    """
    return [dict(setting) for sweep in sweeps for setting in sweep]


def sample(sweep: Sequence[Setting], count: int, seed: int = 0) -> list[Setting]:
    """`count` of the settings, drawn without replacement, in their old order.

    Raises:
      InputError: fewer settings than `count`.

    >>> sample(over("seed", range(100)), 2)
    [{'seed': 63}, {'seed': 84}]
    """
    if not 0 <= count <= len(sweep):
        raise InputError(f"sample of {count} settings, expected 0 to {len(sweep)}")
    import numpy as np  # configs import this module, and the command line answers without it

    drawn = np.random.default_rng(seed).choice(len(sweep), count, replace=False)
    return [dict(sweep[i]) for i in sorted(drawn)]


def _merged(settings: Iterable[Setting]) -> Setting:
    merged: Setting = {}
    for setting in settings:
        if twice := merged.keys() & setting.keys():
            raise InputError(f"two sweeps set '{min(twice)}'; give it in one")
        merged |= setting
    return merged


@dataclass(frozen=True)
class Range:
    """The numbers that a search draws from for one field.

    Attributes:
      low, high: the ends, both included.
      log: uniform in the logarithm.
      integer: whole numbers only.
      when: draws only in settings that have these fields at one of these values, such as
        `{"penalty.name": ["l1", "l2"]}`; otherwise the field stays as the config has it.

    >>> Range(1e-4, 1e-2, log=True).at(0.5)
    0.001
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    when: dict[str, list[Any]] = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Says what is wrong with it.

        Raises:
          InputError: no numbers, an empty range, 0 or less on a log scale, fractions as ends of
            whole numbers.
        """
        ends = (self.low, self.high)
        given = f"the range of {name} is {self.low!r} to {self.high!r}"
        if any(isinstance(e, bool) or not isinstance(e, (int, float)) for e in ends):
            raise InputError(f"{given}, expected two numbers")
        if not all(math.isfinite(e) for e in ends) or self.low > self.high:
            raise InputError(f"{given}, expected finite numbers, the smaller first")
        if self.log and self.low <= 0:
            raise InputError(f"{given} on a log scale, which has no 0; start above it")
        if self.integer and any(e != int(e) for e in ends):
            raise InputError(f"{given} in whole numbers, but an end is none")
        if not isinstance(self.when, dict) or not all(
            isinstance(values, (list, tuple)) for values in self.when.values()
        ):
            raise InputError(f"`when` of the range of {name} is no dict of fields to lists")

    def applies(self, values: Setting) -> bool:
        """Whether a search draws this number for a config with these values."""
        return all(
            _plain(values[name]) in map(_plain, choices) for name, choices in self.when.items()
        )

    def at(self, share: float) -> float | int:
        """The number at a share of the way from `low` to `high`."""
        if share <= 0:
            return self.low
        if self.integer:
            return min(int(self.high), math.floor(_between(self.low, self.high + 1, share, self)))
        number = _between(self.low, self.high, share, self)
        return min(max(number, self.low), self.high)


def _plain(value: Any) -> Any:
    """A tuple as the list that a config's file makes of it."""
    return list(value) if isinstance(value, tuple) else value


def _between(low: float, high: float, share: float, scale: Range) -> float:
    if scale.log:
        return float(f"{math.exp(math.log(low) * (1 - share) + math.log(high) * share):.12g}")
    return low * (1 - share) + high * share
