"""A run put together from its config: data drawn, network built, devices found."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from regjax import conflicts, models, parallel, program, refit, state, strengths
from regjax import data as data_lib
from regjax.batch import Arrays, Part
from regjax.config import Config, check
from regjax.data import Data
from regjax.errors import InputError
from regjax.network import Network
from regjax.parallel import ALONE, Parallel
from regjax.program import Program
from regjax.state import RunState
from regjax.strengths import Strengths


class Assembled(NamedTuple):
    """A config made into values: what `train`, `evaluate` and `show` all start from.

    Attributes:
      config: the run.
      general: the config of the program that runs it, see `program.generalized`.
      data, network, strengths: what these make of it.
      parallel: its devices.
      known: its `shapes`, where they were computed before.
    """

    config: Config
    general: Config
    data: Data
    network: Network
    strengths: Strengths
    parallel: Parallel = ALONE
    known: RunState | None = None

    def alone(self) -> "Assembled":
        """The same run on one device."""
        return put_together(self.config, self.data)._replace(strengths=self.strengths)

    def program(self) -> Program:
        """Its functions, to be compiled."""
        return program.make_program(self.general, self.network, self.shapes(), self.parallel)

    def start(self) -> tuple[Strengths, jax.Array, jax.Array]:
        """What `Program.init` is given: strengths, first inputs, key."""
        count = self._start_examples()
        inputs = self.first("train", count).take(jnp.arange(count), jnp.ones(count)).images
        return self.strengths, inputs, jax.random.key(self.config.seed)

    def shapes(self) -> RunState:
        """The run's structure and where it lies, without computing it."""
        if self.known is not None:
            return self.known
        shape = (self._start_examples(), *self.data.input_shape)
        init = partial(state.init, self.general, self.network, self.strengths)
        inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
        shapes = jax.eval_shape(init, inputs, jax.random.key(self.config.seed))
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            shapes,
            self.parallel.where(shapes),
        )

    def arrays(self, split: str) -> Arrays | None:
        """A split on the devices, or None where it is empty."""
        return self.whole(split) if self.data.splits[split].examples else None

    def whole(self, split: str) -> Arrays:
        """A split that is not empty on the devices."""
        return self.placed(*self.data.splits[split])

    def first(self, split: str, count: int) -> Arrays:
        """The first examples of a split on the devices."""
        return self.placed(*self.data.splits[split].first(count))

    def placed(self, images: Any, labels: Any) -> Arrays:
        """Examples as stored, on the devices."""
        stored: Any = [jnp.asarray(x) for x in (images, labels, self.data.shift, self.data.scale)]
        return self.parallel.put(Arrays(*stored, **self.target_scaling()))

    def chunk(self, images: np.ndarray, labels: np.ndarray, mask: np.ndarray, first: int) -> Arrays:
        """Batches as stored `(batches, N, ...)`, this process's rows of each, on the devices.

        Args:
          images, labels: the rows.
          mask: `(batches, N)`, 0 for padding.
          first: number of the first batch in its epoch.
        """
        rest = (np.int32(first), self.data.shift, self.data.scale)
        placed: Any = self.parallel.put_share((images, labels, mask), rest)
        (x, y, counted), (number, shift, scale) = placed
        return Arrays(x, y, shift, scale, part=Part(number, counted))

    def target_scaling(self) -> dict[str, Any]:
        """What `Arrays` is given where numbers are predicted."""
        shift, scale = self.data.target_shift, self.data.target_scale
        if shift is None or scale is None:
            return {}
        return {"target_shift": jnp.asarray(shift), "target_scale": jnp.asarray(scale)}

    def _start_examples(self) -> int:
        """How many training examples the network starts with: LSUV looks at a batch of them."""
        return min(self.data.splits["train"].examples, self.config.eval_batch_size)


def assemble(config: Config) -> Assembled:
    """Checks a config, loads and divides its data, and builds its network.

    Raises:
      InputError: a config or data that cannot be trained on.
    """
    config = check(config)
    pool = data_lib.load(config.data)
    drawn = data_lib.draw(pool, config.data, config.seed)
    return checked(put_together(config, drawn, parallel.on_devices(config.parallel)))


def checked(parts: Assembled) -> Assembled:
    """Returns what was put together, if it can be trained.

    Raises:
      InputError: if not.
    """
    if message := conflicts.find_in_data(parts):
        raise InputError(message)
    parts = parts._replace(known=parts.shapes())
    if message := conflicts.find(parts):
        raise InputError(message)
    refits = parts.config.stopping.refit != "none"
    if refits and (message := conflicts.find_in_batches(refitted(parts))):
        raise InputError(f"stopping.refit trains on train + valid: {message}")
    return parts


def refitted(parts: Assembled, target: float = refit.NO_TARGET) -> Assembled:
    """Returns the second phase of a run with `stopping.refit`: on train + valid, see `refit`.

    Args:
      parts: the run.
      target: the loss that ends it.
    """
    config, data = parts.config, refit.merged(parts.data)
    made = put_together(refit.phase(config), data, parts.parallel)
    numbers = refit.numbers(config, parts.strengths, made.strengths, target)
    return made._replace(strengths=numbers)


def put_together(config: Config, data: Data, devices: Parallel = ALONE) -> Assembled:
    """What `assemble` returns, of a config that was checked, data drawn, and devices found."""
    examples = data.splits["train"].examples
    general = program.generalized(config)
    model, axis_name = config.model, devices.spread.axis_name
    if not config.parallel.sync_norm:
        axis_name = None
        if model.norm == "batch" and devices.spread.sharding is not None:  # the same in one program
            parts = {"norm": "ghost_batch", "norm_groups": devices.spread.parts}
            model = dataclasses.replace(model, **parts)
    module = models.build(model, data.input_shape, data.outputs, axis_name)
    network = Network(config.model, module, data.outputs)
    numbers = strengths.from_config(general, examples)
    return Assembled(config, general, data, network, numbers, devices)
