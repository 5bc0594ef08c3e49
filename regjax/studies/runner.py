"""Trains a study's runs one after another in this process, each program compiled once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from regjax import data as data_lib
from regjax import program, train
from regjax.config import Config
from regjax.data import Data, Pool
from regjax.program import Program

Record = dict[str, Any]
CURVES = ("train_loss", "valid_loss", "valid_accuracy")


class Runner:
    """Keeps data sets and compiled programs from one run to the next."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, ...], Pool] = {}
        self._data: dict[str, Data] = {}
        self._programs: dict[str, Program] = {}

    def run(
        self,
        config: Config,
        splits: tuple[str, ...],
        after_epoch: Callable[[dict[str, Any]], bool] = lambda line: True,
    ) -> Record:
        """Trains a config as `regjax train` does, and measures its best weights.

        Args:
          config: checked.
          splits: where to measure them.
          after_epoch: is given the epoch's metrics; whether to go on.

        Returns:
          What `result.json` says of a run, and its curves; `best_epoch` is 0 and nothing is
          measured where no epoch had a finite loss.
        """
        parts = train.put_together(config, self._draw(config))
        functions = self._program(parts)
        run = functions.init(*parts.start())
        arrays = parts.arrays("train"), parts.arrays("valid")
        best, lines, pruned = run.train, [], False
        for after, line in train.epochs(parts, functions.run_epoch, run, arrays):
            run = after
            lines.append(line)
            if line["improved"]:
                best = jax.tree.map(jnp.copy, run.train)  # the next epoch takes the run's buffers
            if not after_epoch(line):
                pruned = True
                break
        best_epoch = int(run.stopping.best_epoch)
        return {
            **(train.measure(parts, functions, best, splits) if best_epoch else {}),
            "seed": config.seed,
            "best_epoch": best_epoch,
            "epochs": int(run.epoch),
            "stopped_because": "pruned" if pruned else train.stopped_because(run),
            "seconds": sum(line["seconds"] for line in lines),
            "curves": {n: [line[n] for line in lines] for n in CURVES if n in lines[0]},
        }

    def _draw(self, config: Config) -> Data:
        """The data of a run; those of the last few seeds are kept."""
        data = config.data
        place = (data.name, data.data_dir, data.manual_dir, data.target, data.missing)
        if place not in self._pools:
            self._pools[place] = data_lib.load(data)
        drawn = f"{config.data!r} {config.seed if config.data.split_seed < 0 else ''}"
        if drawn not in self._data:
            while len(self._data) >= 4:
                self._data.pop(next(iter(self._data)))
            self._data[drawn] = data_lib.draw(self._pools[place], config.data, config.seed)
        return self._data[drawn]

    def _program(self, parts: train.Assembled) -> Program:
        shape = (parts.data.input_shape, parts.network.classes)
        key = f"{program.structure(parts.config, parts.strengths)} {shape}"
        if key not in self._programs:
            self._programs[key] = parts.program()
        return self._programs[key]
