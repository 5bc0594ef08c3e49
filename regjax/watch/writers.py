"""Where an epoch's numbers go. A writer has `scalars`, `histograms` and `close`."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from regjax import config as config_lib
from regjax import workdir
from regjax.config import Config


class Writer(Protocol):
    """What every writer is told."""

    def scalars(self, epoch: int, values: dict[str, Any]) -> None:
        """The numbers of an epoch."""
        ...

    def histograms(self, epoch: int, values: dict[str, np.ndarray]) -> None:
        """Arrays after an epoch, finite and not empty, by name."""
        ...

    def close(self) -> None:
        """All was told."""
        ...


class TensorBoard:
    """Event files in `FOLDER/tensorboard`, by tensorboardX, which needs no TensorFlow."""

    def __init__(self, folder: Path, config: Config, done: int) -> None:
        from tensorboardX import SummaryWriter

        # Epochs that a kill took back are trained again: TensorBoard forgets the first time.
        void = done + 1 if done else 0  # from the start on the config, at step 0, comes again too
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=void)
        if not done:
            self._writer.add_text("config", f"```\n{config_lib.to_json(config)}```")

    def scalars(self, epoch: int, values: dict[str, Any]) -> None:
        """Adds a point to each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), epoch)

    def histograms(self, epoch: int, values: dict[str, np.ndarray]) -> None:
        """Adds a slice to each histogram."""
        for name, value in values.items():
            self._writer.add_histogram(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


class Wandb:
    """A run of Weights & Biases; that of `FOLDER/wandb_id` goes on.

    It takes no epoch twice, so those that are trained again after a kill keep their first points.
    """

    def __init__(self, folder: Path, config: Config, done: int) -> None:
        del done
        import wandb  # pyright: ignore[reportMissingImports]

        name = folder / "wandb_id"
        if not name.exists():
            workdir.write(name, uuid.uuid4().hex)
        self._histogram = wandb.Histogram
        self._run: Any = wandb.init(
            project="regjax",
            id=name.read_text().strip(),
            resume="allow",
            dir=str(folder),
            config=dict(config_lib.flatten(config)),
        )
        self._waiting: dict[str, Any] = {}

    def scalars(self, epoch: int, values: dict[str, Any]) -> None:
        """Keeps the numbers: W&B takes all of an epoch at once."""
        del epoch
        self._waiting = dict(values)

    def histograms(self, epoch: int, values: dict[str, np.ndarray]) -> None:
        """Logs the epoch."""
        drawn = {name: self._histogram(value) for name, value in values.items()}
        self._run.log({**self._waiting, **drawn}, step=epoch)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class Jsonl:
    """`FOLDER/watch.jsonl`, a line an epoch: needs no package and no viewer."""

    def __init__(self, folder: Path, config: Config, done: int) -> None:
        del config
        self._path = folder / "watch.jsonl"
        lines = workdir.read_lines(self._path)
        workdir.write_lines(self._path, [line for line in lines if line["epoch"] <= done])

    def scalars(self, epoch: int, values: dict[str, Any]) -> None:
        """Adds a line."""
        workdir.add_line(self._path, {"epoch": epoch, **values})

    def histograms(self, epoch: int, values: dict[str, np.ndarray]) -> None:
        """Leaves them out."""

    def close(self) -> None:
        """Has nothing to close."""


WRITERS: dict[str, Callable[[Path, Config, int], Writer]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "jsonl": Jsonl,
}
