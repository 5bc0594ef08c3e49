"""What the runs of a study share in one process: data sets, and each program compiled once."""

import threading
from typing import Any

from regjax import assembly, program
from regjax import data as data_lib
from regjax.assembly import Assembled
from regjax.config import Config
from regjax.data import Data, Pool, Stored
from regjax.errors import InputError
from regjax.program import Program
from regjax.state import RunState


class Shared:
    """Keeps data sets, compiled programs and their shapes from one run to the next.

    Several threads may call `assemble` and `program` at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[tuple[Any, ...], Pool] = {}
        self._data: dict[str, Data] = {}
        self._programs: dict[str, Program] = {}
        self._shapes: dict[str, RunState] = {}

    def assemble(self, config: Config) -> Assembled:
        """What a checked config is made into; the data of the last few seeds are kept."""
        with self._lock:
            drawn = f"{config.data!r} {config.seed if config.data.split_seed < 0 else ''}"
            if drawn not in self._data:
                while len(self._data) >= 4:
                    self._data.pop(next(iter(self._data)))
                self._data[drawn] = data_lib.draw(self.pool(config), config.data, config.seed)
            parts = assembly.put_together(config, self._data[drawn])
            key = self.program_key(parts)
            if key not in self._shapes:
                self._shapes[key] = parts.shapes()
            return parts._replace(known=self._shapes[key])

    def pool(self, config: Config) -> Pool:
        """The set that a config's data are drawn from."""
        data = config.data
        place = (data.name, data.data_dir, data.manual_dir, data.target, data.missing, data.task)
        place += (data.stream, data.memory)
        if place not in self._pools:
            pool = data_lib.load(data)
            if isinstance(pool, Stored):
                raise InputError(
                    f"{pool.name} would be streamed, but a study keeps its data in memory; raise "
                    "data.memory, or set data.stream to never"
                )
            self._pools[place] = pool
        return self._pools[place]

    def program(self, parts: Assembled) -> Program:
        """The program that runs a config; the same for all that share one."""
        key = self.program_key(parts)
        with self._lock:
            if key not in self._programs:
                self._programs[key] = parts.program()
            return self._programs[key]

    def program_key(self, parts: Assembled) -> str:
        """A text that two configs share exactly if one program runs both, on inputs of one kind."""
        shape = (parts.data.input_shape, parts.network.classes)
        return f"{program.structure(parts.general, parts.strengths)} {shape}"
