"""Many processes at work on one run: what they agree on, and who of them writes.

Every process runs the same program on its part of the devices and calls the same functions in the
same order; the first alone writes text and talks. Alone, a process is the first of one.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.console import Console

from regjax.config import Config, flatten
from regjax.errors import InputError
from regjax.progress import stdout
from regjax.workdir import Workdir


def many() -> bool:
    """Whether this process is one of many."""
    return jax.process_count() > 1


def primary() -> bool:
    """Whether this is the process that writes text and talks."""
    return jax.process_index() == 0


def agree(what: str, values: dict[str, Any]) -> None:
    """Compares what every process must have alike.

    Args:
      what: it is, for the message.
      values: as JSON knows them.

    Raises:
      InputError: a process has another value than the first; in every process.
    """
    if not many():
        return
    told = [json.loads(text) for text in gather(json.dumps(values, sort_keys=True))]
    for number, theirs in enumerate(told):
        names = [name for name in told[0] if theirs.get(name) != told[0][name]]
        if names:
            raise InputError(
                f"{what} differs between processes ({names[0]}: {told[0][names[0]]!r} in process "
                f"0, {theirs.get(names[0])!r} in process {number}); give all of them the same"
            )


def gather(text: str) -> list[str]:
    """Every process's text, by its number."""
    mine = np.frombuffer(text.encode(), np.uint8)
    lengths = np.reshape(multihost_utils.process_allgather(np.array([len(mine)])), -1)
    padded = np.pad(mine, (0, int(lengths.max()) - len(mine)))
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
    return [bytes(row[:n]).decode() for row, n in zip(rows, lengths, strict=True)]


def whole(array: jax.Array) -> np.ndarray:
    """An array's values, also where other processes have parts of it; each has to ask."""
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def soonest(asked: bool, steps: int) -> tuple[bool, int]:
    """What all processes do next, as one program: whether any was asked to end, and fewest steps.

    >>> soonest(False, 3)
    (False, 3)
    """
    if not many():
        return asked, steps
    told = np.asarray(multihost_utils.process_allgather(np.array([asked, steps], np.int32)))
    return bool(told[:, 0].any()), int(told[:, 1].min())


def agree_on_config(config: Config) -> None:
    """Compares the processes' configs, but for where each has its data.

    Raises:
      InputError: they differ.
    """
    own = ("data.data_dir", "data.manual_dir")
    agree("the config", {name: value for name, value in flatten(config) if name not in own})


class Onlooker(Workdir):
    """The run's folder for the processes that do not write: the first one does."""

    @contextlib.contextmanager
    def claim(self, config: Config) -> Iterator[None]:
        """Waits until the first process has the folder.

        Raises:
          InputError: it is not the same folder.
        """
        _together("claimed")
        if not self.config.exists():
            raise InputError(
                f"--workdir '{self.path}' is not the folder of process 0; give one that all "
                "processes share"
            )
        self.check(config)
        yield

    def keep_metrics(self, epochs: int, phase: str = "") -> list[int]:
        """The epochs whose lines the first process keeps."""
        lines = [line for line in self.read_metrics() if line.get("phase", "") == phase]
        return [line["epoch"] for line in lines if line["epoch"] <= epochs]

    def add_metrics(self, line: dict[str, Any]) -> None:
        """Leaves it to the first process."""

    def write_result(self, result: dict[str, Any]) -> None:
        """Leaves it to the first process."""


class Leader(Workdir):
    """The run's folder for the first of many processes."""

    @contextlib.contextmanager
    def claim(self, config: Config) -> Iterator[None]:
        """Makes the folder this run's own, then lets the others look."""
        with super().claim(config):
            _together("claimed")
            yield


def folder(path: str | Path) -> Workdir:
    """A run's folder as this process has it."""
    if not many():
        return Workdir(path)
    return Leader(path) if primary() else Onlooker(path)


def console(given: Console | None = None) -> Console:
    """Where this process reports: nowhere, unless it is the first."""
    if not primary():
        return Console(quiet=True)
    return given or stdout()


def _together(name: str) -> None:
    multihost_utils.sync_global_devices(name)
