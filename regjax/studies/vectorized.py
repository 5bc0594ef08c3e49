"""Lanes of one compiled program: K runs that differ in numbers, seeds and splits, advanced at once.

`vmap` over the lanes of a device, `shard_map` over the devices. A lane whose run has ended is given
the next one while the others go on. What a lane computes depends on its own run only, but its last
bits on how many lanes a device has; so their number is fixed for a study.
"""

import collections
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from regjax import compiling, state, step, train
from regjax.assembly import Assembled
from regjax.batch import Arrays
from regjax.config import Config
from regjax.state import RunState, TrainState, weights
from regjax.strengths import Strengths
from regjax.studies.lanes import Job, Lane, Record
from regjax.studies.shared import Shared

LANES = "lanes"
SPLITS = ("train", "valid")
Sets = dict[bool, tuple[jax.Array, jax.Array]]  # a pool's test split and the rest, on the device


class Stacked(struct.PyTreeNode):
    """All that is a lane's own; with a leading axis, that of all lanes.

    Attributes:
      strengths: its numbers.
      run: its state.
      best: the best epoch's weights so far, or the last's; without the optimizer's state.
      last: which of the two.
      rows: its splits, as rows of what all lanes share: `Arrays` without images and labels.
    """

    strengths: Strengths
    run: RunState
    best: TrainState
    last: jax.Array
    rows: dict[str, Arrays]


class Vectorized:
    """Many runs at once, as lanes.

    Each program has its own lanes, so that runs of several programs may be in progress; at each
    call the program with the most runs in its lanes is advanced, of equals the one that waited
    longest.

    Args:
      shared: data and programs.
      width: lanes of each program; made a multiple of this process's devices.
      programs: how many programs there are to be.
    """

    def __init__(self, shared: Shared, width: int, programs: int = 1) -> None:
        devices = jax.local_devices()
        self._mesh = Mesh(np.array(devices), (LANES,))
        self._shared, self._programs = shared, programs
        self.width = -(-width // len(devices)) * len(devices)
        self._groups: dict[str, _Group] = {}
        self._sets: dict[int, Sets] = {}
        self.useful, self.advanced = 0, 0  # lane-epochs

    def free(self) -> bool:
        """Whether every program might have a full set of lanes at work with one more job."""
        return sum(group.jobs() for group in self._groups.values()) < self.width * self._programs

    def start(self, job: Job) -> None:
        """Takes a job, to be begun when its program has a free lane."""
        parts = self._shared.assemble(job.config)
        pool = self._shared.pool(job.config)
        # Lanes share shapes: those of the splits, of their scaling, of what fills their gaps.
        key = f"{self._shared.program_key(parts)} {job.config.data!r} {parts.data.fill is None}"
        if key not in self._groups:
            if id(pool) not in self._sets:
                self._sets[id(pool)] = _on_devices(pool, NamedSharding(self._mesh, P()))
            self._groups[key] = _Group(
                parts, self._shared, self._sets[id(pool)], self.width, self._mesh
            )
        self._groups[key].waiting.append(Lane(job, parts))

    def epoch(self) -> list[tuple[Job, Record]]:
        """Advances one program's lanes."""
        _compile([group for group in self._groups.values() if group.advance is None])
        for group in self._groups.values():
            group.fill()
        group = max(self._groups.values(), key=lambda g: (g.busy(), -g.last_advanced))
        self.useful += group.busy()
        self.advanced += self.width
        return group.epoch()


def measured_width(shared: Shared, config: Config, most: int) -> int:
    """How many lanes are worth their while: four times as many as long as that is 1.5 times faster.

    Args:
      shared: data and programs.
      config: a run of the study.
      most: not more than that, but at least one a device.
    """
    width = chosen = len(jax.local_devices())
    rate = 0.0
    while width == chosen or width <= most:
        try:
            seconds = _seconds_an_epoch(Vectorized(shared, width), config)
        except jax.errors.JaxRuntimeError:  # more than fits into memory
            break
        if width / seconds < 1.5 * rate:
            break
        chosen, rate = width, width / seconds
        width *= 4
    return chosen


def _seconds_an_epoch(lanes: Vectorized, config: Config) -> float:
    for _ in range(lanes.width):
        lanes.start(Job(config, ()))
    lanes.epoch()  # compiles
    started = time.perf_counter()
    lanes.epoch()
    return time.perf_counter() - started


def _compile(groups: list["_Group"]) -> None:
    """Compiles what groups run, all side by side: a compiler keeps few cores busy."""
    lowered = [program for group in groups for program in group.lowered()]
    with ThreadPoolExecutor() as threads:  # they are traced by Python before, which has one core
        compiled = list(threads.map(lambda program: program.compile(), lowered))
    for i, group in enumerate(groups):
        group.begin, group.advance, group.best_of = compiled[3 * i : 3 * i + 3]


def _on_devices(pool: Any, everywhere: NamedSharding) -> Sets:
    sets = {False: (pool.images, pool.labels), True: (pool.test_images, pool.test_labels)}
    return {
        which: jax.device_put((images, labels), everywhere)
        for which, (images, labels) in sets.items()
        if images is not None
    }


class _Group:
    """The lanes of one program.

    Attributes:
      waiting: runs to be begun.
      last_advanced: when.
      begin: `begin(stacked, place, strengths, inputs, key, rows)`, a lane's new run.
      advance: `advance(stacked, sets) -> (stacked, metrics)`, an epoch of all lanes.
      best_of: `best_of(stacked, place)`, a lane's best weights.
    """

    def __init__(
        self, parts: Assembled, shared: Shared, sets: Sets, width: int, mesh: Mesh
    ) -> None:
        self.waiting: collections.deque[Lane] = collections.deque()
        self.last_advanced = 0.0
        self.begin: Any = None
        self.advance: Any = None
        self.best_of: Any = None
        self._parts, self._mesh = parts, mesh
        self._lanes: list[Lane | None] = [None] * width
        self._functions = shared.program(parts)
        self._sets = {
            split: sets[parts.data.rows[split].of_test]
            for split in SPLITS
            if len(parts.data.rows[split].indices)
        }
        # What free lanes compute is not looked at.
        shapes = jax.eval_shape(self._fresh, *self._start(parts))
        nothing = jax.tree.map(partial(_zeros, width), shapes)
        self._stacked: Stacked = jax.device_put(nothing, NamedSharding(mesh, P(LANES)))

    def jobs(self) -> int:
        """Runs begun and waiting."""
        return self.busy() + len(self.waiting)

    def busy(self) -> int:
        """Lanes with a run."""
        return sum(lane is not None for lane in self._lanes)

    def lowered(self) -> list[Any]:
        """`begin`, `advance` and `best_of`, to be compiled."""
        where, everywhere = (NamedSharding(self._mesh, spec) for spec in (P(LANES), P()))

        def begin(stacked: Stacked, place: Any, *start: Any) -> Stacked:
            return jax.tree.map(lambda a, b: a.at[place].set(b), stacked, self._fresh(*start))

        def best_of(stacked: Stacked, place: Any) -> TrainState:
            return jax.tree.map(lambda a: a[place], stacked.best)

        begins = jax.jit(begin, donate_argnums=0, out_shardings=where)
        takes = jax.jit(best_of, out_shardings=everywhere)
        return [
            begins.lower(self._stacked, np.int32(0), *self._start(self._parts)),
            make_advance(self._parts, self._mesh).lower(self._stacked, self._sets),
            takes.lower(self._stacked, np.int32(0)),
        ]

    def _start(self, parts: Assembled, last: bool = False) -> tuple[Any, ...]:
        rows = {split: _rows(parts, split) for split in self._sets}
        return *parts.start(), np.bool_(last), rows

    def _fresh(self, strengths: Strengths, inputs: Any, key: Any, last: Any, rows: Any) -> Stacked:
        run = state.init(self._parts.general, self._parts.network, strengths, inputs, key)
        return Stacked(strengths, run, weights(run.train), jnp.asarray(last), rows)

    def fill(self) -> None:
        """Begins waiting runs in free lanes."""
        for i, lane in enumerate(self._lanes):
            if lane is None and self.waiting:
                self._lanes[i] = taken = self.waiting.popleft()
                start = self._start(taken.parts, taken.job.last)
                self._stacked = self.begin(self._stacked, np.int32(i), *start)

    def epoch(self) -> list[tuple[Job, Record]]:
        """Advances every lane; returns the runs that this ended."""
        started = time.perf_counter()
        self.last_advanced = started
        self._stacked, found = self.advance(self._stacked, self._sets)
        run = self._stacked.run
        host, stopping, epochs = jax.device_get((found, run.stopping, run.epoch))
        seconds = (time.perf_counter() - started) / self.busy()
        ended = []
        for i, lane in enumerate(self._lanes):
            if lane is None:
                continue
            of_lane, measured = jax.tree.map(lambda a, i=i: a[i], (stopping, host))
            line = train.as_line(lane.job.config, int(epochs[i]), measured)
            if lane.ended(line | {"seconds": seconds}, bool(of_lane.stopped)):
                self._lanes[i] = None
                ended.append((lane.job, self._record(i, lane, of_lane)))
        return ended

    def _record(self, place: int, lane: Lane, stopping: Any) -> Record:
        best = jax.device_get(self.best_of(self._stacked, np.int32(place)))
        run = self._stacked.run.replace(epoch=len(lane.lines), stopping=stopping)
        return lane.record(run, best, self._functions)


def _zeros(width: int, leaf: Any) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), (width, *leaf.shape))
    return jnp.zeros((width, *leaf.shape), leaf.dtype)


def _rows(parts: Assembled, split: str) -> Arrays:
    data = parts.data
    nothing: Any = None
    fill = None if data.fill is None else jnp.asarray(data.fill)
    indices = jnp.asarray(data.rows[split].indices, jnp.int32)
    shift, scale = jnp.asarray(data.shift), jnp.asarray(data.scale)
    return Arrays(nothing, nothing, shift, scale, indices, fill, **parts.target_scaling())


def make_advance(parts: Assembled, mesh: Mesh) -> Any:
    """Returns `advance(stacked, sets) -> (stacked, metrics)`, one epoch of all lanes, compiled.

    Args:
      parts: of any of the lanes' runs.
      mesh: of one axis, the lanes.
    """
    run_epoch = step.make_run_epoch(parts.general, parts.network)

    def one(lane: Stacked, sets: dict[str, Any]) -> tuple[Stacked, step.Metrics]:
        whole = {
            split: rows.replace(images=sets[split][0], labels=sets[split][1])
            for split, rows in lane.rows.items()
        }
        run, measured = run_epoch(lane.strengths, lane.run, whole["train"], whole.get("valid"))
        keep = partial(jnp.where, measured["improved"] | lane.last)
        best = jax.tree.map(keep, weights(run.train), lane.best)
        return lane.replace(run=run, best=best), measured

    lanes = jax.vmap(one, in_axes=(0, None))
    spread = jax.shard_map(
        lanes, mesh=mesh, in_specs=(P(LANES), P()), out_specs=P(LANES), check_vma=False
    )
    return jax.jit(spread, donate_argnums=0, compiler_options=compiling.options())
