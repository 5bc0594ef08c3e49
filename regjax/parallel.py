"""The devices of a run: where its state and its data lie, and its functions compiled for them."""

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from regjax import compiling
from regjax.config import ParallelConfig
from regjax.errors import InputError
from regjax.spread import Spread

PyTree = Any
DATA, MODEL = "data", "model"  # the mesh's axes; a batch is divided over both


class Parallel(NamedTuple):
    """Which devices a run has, and what each does.

    Attributes:
      spread: where a batch's examples are.
      mesh: the devices, `(data, model)`; None: one.
    """

    spread: Spread = Spread()
    mesh: Mesh | None = None

    def everywhere(self) -> Any:
        """Where what every device has lies."""
        if self.mesh is None:
            return SingleDeviceSharding(jax.local_devices()[0])
        return NamedSharding(self.mesh, P())

    def where(self, shapes: PyTree) -> PyTree:
        """Where each array of a run's state lies: divided over `model`, or everywhere.

        An array is divided along its longest axis that the devices divide evenly, as in FSDP
        (Zhao et al. 2023; ZeRO-3); so are the optimizer's moments of it.
        """
        if self.mesh is None or self.mesh.shape[MODEL] == 1:
            return jax.tree.map(lambda _: self.everywhere(), shapes)
        mesh = self.mesh

        def divided(leaf: Any) -> NamedSharding:
            axes = [i for i, n in enumerate(leaf.shape) if n and n % mesh.shape[MODEL] == 0]
            if not axes:
                return NamedSharding(mesh, P())
            longest = max(axes, key=lambda i: leaf.shape[i])
            return NamedSharding(mesh, P(*[None] * longest, MODEL))

        return jax.tree.map(divided, shapes)

    def put(self, tree: PyTree) -> PyTree:
        """Values that every device needs, on every device."""
        if self.mesh is None:
            return tree
        if jax.process_count() > 1:  # each process has the values, on a device of its own
            tree = jax.device_get(tree)
        return jax.device_put(tree, self.everywhere())

    def put_share(self, rows: PyTree, rest: PyTree) -> tuple[PyTree, PyTree]:
        """Batches `(batches, N, ...)`, of which each process has its rows, and what all have.

        Under `jit` each device gets its rows alone. No process waits here for another, so it may
        be called beside what they compute together.
        """
        mesh = self.mesh
        if mesh is None:
            return jax.tree.map(jnp.asarray, (rows, rest))
        divided = P() if self.spread.axis_name else P(None, (DATA, MODEL))

        def placed(tree: PyTree, spec: P) -> PyTree:
            place = NamedSharding(mesh, spec)
            return jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, x), tree)

        return placed(rows, divided), placed(rest, P())

    def jit(
        self,
        function: Callable[..., Any],
        out: Any = None,
        donate: tuple = (),
        options: compiling.Options = None,
    ) -> Any:
        """A function of whole batches, compiled for the devices.

        Args:
          function: pure.
          out: where its results lie; None: as XLA has it.
          donate: the arguments whose buffers it may take.
          options: for the compiler; a program that has some cannot be part of another.
        """
        out = None if self.mesh is None else out  # on one device: wherever the arguments are
        return jax.jit(function, out_shardings=out, donate_argnums=donate, compiler_options=options)

    def compiled(self, function: Callable[..., Any], out: Any = None, donate: tuple = ()) -> Any:
        """The same of a function with this `spread`: under `pmap`, of a batch's parts.

        With the options of `regjax.compiling`.
        """
        options = compiling.options()
        if self.spread.axis_name is None:
            return self.jit(function, out, donate, options)
        assert self.mesh is not None
        devices = list(self.mesh.devices.flat)

        def part(number: jax.Array, arguments: tuple[Any, ...]) -> Any:
            del number  # pmap wants an argument that differs
            return function(*arguments)

        axes: Any = {"in_axes": (0, None), "out_axes": None, "devices": devices}
        parts = jax.pmap(part, self.spread.axis_name, **axes)
        return self.jit(
            lambda *arguments: parts(np.arange(len(devices)), arguments), options=options
        )


ALONE = Parallel()


def memory() -> int | None:
    """The bytes that a device has, or where it does not tell, this machine; None: not known.

    >>> (memory() or 2**40) > 2**28
    True
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def on_devices(config: ParallelConfig) -> Parallel:
    """Returns what a config asks for of the devices there are.

    Raises:
      InputError: more devices than there are, or that cannot be divided as asked.

    >>> on_devices(ParallelConfig("single")).spread.parts
    1
    """
    if config.mode == "single" and config.devices > 1:
        raise InputError(
            f"parallel.mode is 'single' but parallel.devices is {config.devices}; set the mode to "
            "jit or pmap, or devices to auto"
        )
    there = sorted(jax.devices(), key=lambda device: device.process_index)
    asked = 1 if config.mode == "single" else config.devices or len(there)
    if asked > len(there):
        raise InputError(
            f"parallel.devices is {asked}, but there are {len(there)} ({there[0].device_kind}); "
            "lower it, or set it to auto"
        )
    if jax.process_count() > 1 and (config.mode != "jit" or asked < len(there)):
        raise InputError(
            f"this run has {jax.process_count()} processes, for which parallel.mode must be jit "
            f"and parallel.devices auto, but they are {config.mode} and {config.devices or 'auto'}"
        )
    if config.shards > 1 and config.mode != "jit":
        raise InputError(
            f"parallel.shards is {config.shards}, which parallel.mode '{config.mode}' cannot do; "
            "set it to jit"
        )
    if asked % config.shards:
        raise InputError(
            f"parallel.shards is {config.shards}, which does not divide the {asked} devices; "
            "change either"
        )
    if asked == 1:
        return ALONE
    devices = np.array(there[:asked]).reshape(-1, config.shards)
    mesh = Mesh(devices, (DATA, MODEL))
    if config.mode == "pmap":
        return Parallel(Spread(asked, axis_name=DATA), mesh)
    return Parallel(
        Spread(math.prod(mesh.devices.shape), NamedSharding(mesh, P((DATA, MODEL)))), mesh
    )
