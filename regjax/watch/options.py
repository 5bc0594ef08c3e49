"""What is asked for by `--watch` and `--profile`, checked before anything is computed."""

import importlib.util
import re
from typing import NamedTuple

from regjax.errors import InputError, did_you_mean

# Each writer, and the package that it needs.
NEEDS = {"tensorboard": "tensorboardX", "wandb": "wandb", "jsonl": None}


class Watch(NamedTuple):
    """How a run is watched.

    Attributes:
      writers: which of `NEEDS` are told each epoch.
      profile: the first and the last epoch that JAX's profiler traces; None: it is off.
    """

    writers: tuple[str, ...] = ()
    profile: tuple[int, int] | None = None


OFF = Watch()


def parse(writers: str = "", profile: str = "", epochs: int | None = None) -> Watch:
    """Reads the flags.

    Args:
      writers: names joined by commas; empty: none.
      profile: "START:STOP", two epochs counted from 1, both traced; empty: no trace.
      epochs: how many the run has at most; None: unknown.

    Raises:
      InputError: an unknown writer, one that is not installed, or no two epochs of the run.

    >>> parse("tensorboard", "2:3")
    Watch(writers=('tensorboard',), profile=(2, 3))
    >>> parse(profile="3:2")
    Traceback (most recent call last):
    ...
    regjax.errors.InputError: --profile is '3:2', expected START:STOP, two epochs counted from 1, \
such as 2:3
    """
    names = tuple(dict.fromkeys(name.strip() for name in writers.split(",") if name.strip()))
    watch = Watch(names, _epochs(profile, epochs) if profile else None)
    return check(watch)


def check(watch: Watch) -> Watch:
    """Returns what it is given, if it can be done.

    Raises:
      InputError: an unknown writer, or one that is not installed.
    """
    for name in watch.writers:
        if name not in NEEDS:
            known = ", ".join(NEEDS)
            raise InputError(
                f"--watch is '{name}', expected some of {known}, joined by commas"
                f"{did_you_mean(name, NEEDS)}"
            )
        package = NEEDS[name]
        if package and importlib.util.find_spec(package) is None:
            raise InputError(
                f"--watch={name} needs the package {package}, which is not installed; run "
                f"`python -m pip install {package}`, or leave it out"
            )
    return watch


def _epochs(text: str, epochs: int | None) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    start, stop = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= start <= stop:
        raise InputError(
            f"--profile is '{text}', expected START:STOP, two epochs counted from 1, such as 2:3"
        )
    if epochs is not None and stop > epochs:
        raise InputError(f"--profile is '{text}', but epochs is {epochs}; lower STOP")
    return start, stop
