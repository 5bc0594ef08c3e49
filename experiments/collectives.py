"""What do the devices of a run send each other in a step, and how long does that take?

python -m experiments.collectives [--devices=1,2,4,8,64] [--models=cnn,vit_s,vit_b]

Question: how many bytes do the collectives of one train step have, by model and devices, and what
does that mean at 8, 256 and 4,096 devices? Method: the train step is compiled, not run, for a mesh
of virtual CPU devices, 32 examples each, and the collectives are read from the compiled HLO. Other
numbers of devices are extrapolated from the largest: the same tensors, over more devices.

In a ring of N each device sends 2(N - 1)/N of an all-reduce's bytes, and (N - 1)/N of an
all-gather's or a reduce-scatter's. It takes them `--near` GB/s to one of the same host (8 devices),
`--far` GB/s to another; the step's operations `--flops` a second; nothing is sent meanwhile, and
latency is left out. Convolutions are `lax`'s, as on accelerators: regjax's on a CPU add gradients
up in Winograd's form, of up to 36 numbers for each 9. XLA for CPU has no reduce-scatter: where each
device keeps a part of an all-reduce (FSDP), XLA for GPU and TPU can send half.
"""

import dataclasses
import math
import re
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import lax

from experiments import cli
from regjax import models, parallel, state, step, strengths, trees
from regjax.batch import Batch
from regjax.config import Config, ModelConfig, OptimizerConfig, ParallelConfig
from regjax.models import layers
from regjax.network import Network

_DEVICES = flags.DEFINE_list("devices", ["1", "2", "4", "8", "64"], "to compile for")
_MODELS = flags.DEFINE_list("models", ["cnn", "vit_s", "vit_b"], "which networks")
_NEAR = flags.DEFINE_float("near", 450, "GB/s: NVLink of an H100, one direction")
_FAR = flags.DEFINE_float("far", 50, "GB/s: one link of 400 Gb/s a device")
_FLOPS = flags.DEFINE_float("flops", 400e12, "of a device: 40 % of an H100's peak in bfloat16")

HOST = 8  # devices that share a host, and the parameters under FSDP
ASKED = (8, 256, 4096)
EXAMPLES = 32  # a step, of each device
_VIT = ModelConfig("vit", norm="layer", patch_size=16, depth=12, activation="gelu")
# The network, the shape of its inputs, its classes.
MODELS: dict[str, tuple[ModelConfig, tuple[int, ...], int]] = {
    "cnn": (ModelConfig("cnn", norm="batch"), (28, 28, 1), 10),  # that of configs/mnist.py
    "vit_s": (dataclasses.replace(_VIT, token_width=384, heads=6), (224, 224, 3), 1000),
    "vit_b": (dataclasses.replace(_VIT, token_width=768, heads=12), (224, 224, 3), 1000),
}
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s64": 8, "f64": 8}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """One operation of the compiled program.

    Attributes:
      kind: which of `KINDS`.
      bytes: of its whole tensors: what is reduced, or gathered.
      group: how many devices take part.
      far: whether these are of several hosts.
    """

    kind: str
    bytes: int
    group: int
    far: bool = False

    def sent(self) -> float:
        """Bytes that each device sends, in a ring.

        >>> Collective("all-reduce", 1000, 4).sent()
        1500.0
        """
        if self.kind == "collective-permute":
            return self.bytes
        return (2 if self.kind == "all-reduce" else 1) * self.bytes * (self.group - 1) / self.group


def collectives(hlo: str, devices: int) -> list[Collective]:
    """Reads the collectives of compiled HLO text.

    >>> line = "%a = (f32[2,3]{1,0}, f32[]) all-reduce(%b, %c), replica_groups=[2,8]<=[16]"
    >>> collectives(line, 16)
    [Collective(kind='all-reduce', bytes=28, group=8, far=False)]
    """
    found = []
    for shapes, kind, rest in re.findall(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\((.*)", hlo):
        group = first_group(rest, devices)
        size = sum(
            BYTES.get(dtype, 4) * math.prod(int(n) for n in axes.split(",") if n)
            for dtype, axes in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        )
        size *= len(group) if kind == "reduce-scatter" else 1
        if len(group) > 1:
            far = len({device // HOST for device in group}) > 1
            found.append(Collective(kind, size, len(group), far))
    return found


def first_group(text: str, devices: int) -> list[int]:
    """The devices that take part in one of an operation's groups.

    Raises:
      ValueError: groups written in another way.

    >>> first_group("replica_groups={{0,2},{1,3}}", 4), first_group("replica_groups=[2,2]<=[4]", 4)
    ([0, 2], [0, 1])
    >>> first_group("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", 4)
    [0, 1]
    """

    def numbers(written: str) -> list[int]:
        return [int(number) for number in written.split(",") if number]

    def ordered(dims: str, axes: str | None) -> np.ndarray:
        order = np.arange(devices).reshape(numbers(dims))
        return order.transpose(numbers(axes)) if axes else order

    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return numbers(listed[1])
    if counted := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        return ordered(counted[2], counted[3]).reshape(numbers(counted[1]))[0].tolist()
    mesh = r"replica_groups=mesh\[(.*?)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
    if of_mesh := re.search(mesh + r" \{((?:'\w+',? ?)+)\}", text):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", of_mesh[1]))
        order = ordered(of_mesh[2] or str(devices), of_mesh[3]).reshape([*map(int, sizes.values())])
        along = re.findall(r"\w+", of_mesh[4])
        return order[tuple(slice(None) if name in along else 0 for name in sizes)].ravel().tolist()
    raise ValueError(f"unknown groups: {text[:300]}")


class Row(NamedTuple):
    """What one train step does.

    Attributes:
      model: which of `MODELS`.
      parameters: how many.
      shards: 1 where every device has all of them.
      devices: in all.
      flops: operations of each device.
      found: the collectives.
      measured: whether it was compiled for so many devices.
    """

    model: str
    parameters: int
    shards: int
    devices: int
    flops: float
    found: list[Collective]
    measured: bool = True

    def on(self, devices: int) -> "Row":
        """The same over more devices."""

        def wider(one: Collective) -> Collective:
            times = devices // self.devices if one.far else 1
            return one._replace(group=one.group * times)

        found = [wider(one) for one in self.found]
        return self._replace(devices=devices, found=found, measured=False)

    def seconds(self) -> tuple[float, float]:
        """Of computing and of sending."""
        sending = sum(
            one.sent() / (1e9 * (_FAR.value if one.far else _NEAR.value)) for one in self.found
        )
        return self.flops / _FLOPS.value, sending

    def text(self) -> str:
        """A line of the table."""
        size = {kind: sum(one.bytes for one in self.found if one.kind == kind) for kind in KINDS}
        other = sum(size.values()) - size["all-reduce"] - size["all-gather"]
        computing, sending = self.seconds()
        cells = [
            self.model,
            f"{self.parameters / 1e6:.2f} M",
            "replicated" if self.shards == 1 else f"FSDP over {self.shards}",
            f"{self.devices:,}",
            "compiled" if self.measured else "extrapolated",
            str(len(self.found)),
            *(f"{n / 1e6:.2f}" for n in (size["all-reduce"], size["all-gather"], other)),
            f"{sum(one.sent() for one in self.found) / 1e6:.2f}",
            f"{1e3 * sending:.2g}",
            f"{1e3 * computing:.2g}",
        ]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "model",
    "parameters",
    "where they are",
    "devices",
    "",
    "collectives",
    "all-reduce, MB",
    "all-gather, MB",
    "other, MB",
    "a device sends, MB",
    "sending, ms",
    "computing, ms",
)


def compiled(name: str, devices: int, shards: int) -> Row:
    """The train step of a model, compiled for so many devices."""
    model, shape, classes = MODELS[name]
    adamw = OptimizerConfig("adamw", 1e-3)
    config = Config(batch_size=EXAMPLES * devices, model=model, optimizer=adamw)
    where = parallel.on_devices(ParallelConfig(devices=devices, shards=shards))
    network = Network(model, models.build(model, shape, classes), classes)
    numbers = strengths.from_config(config, examples=100 * config.batch_size)
    key, one = jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    shapes = jax.eval_shape(partial(state.init, config, network, numbers), one, key).train
    places = where.where(shapes)

    def placed(leaf: Any, place: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    def of_batch(*axes: int, dtype: Any = jnp.float32) -> Any:
        batch = jax.ShapeDtypeStruct((config.batch_size, *axes), dtype)
        return placed(batch, where.spread.sharding)

    train_step = step.make_train_step(config, network, where.spread)
    batch = Batch(of_batch(*shape), of_batch(dtype=jnp.int32), of_batch())
    arguments = numbers, jax.tree.map(placed, shapes, places), batch, key
    compute = where.jit(train_step, out=(places, where.everywhere()), donate=(1,))
    with mock.patch.object(layers, "unmaterialized", lax.conv_general_dilated):  # as on a GPU
        lowered = compute.lower(*arguments)
    found = collectives(lowered.compile().as_text(), devices)
    flops = (lowered.cost_analysis() or {})["flops"] / devices
    return Row(name, trees.count(shapes.params), shards, devices, flops, found)


def main(values: flags.FlagValues) -> None:
    """Compiles, counts and prints."""
    devices = sorted(int(number) for number in _DEVICES.value)
    jax.config.update("jax_num_cpu_devices", devices[-1])
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name in _MODELS.value:
        for shards in (1, HOST):
            rows = [compiled(name, n, shards) for n in devices if n % shards == 0]
            more = [rows[-1].on(n) for n in ASKED if n > devices[-1] > HOST]
            print("\n".join(row.text() for row in (*rows, *more)), flush=True)


if __name__ == "__main__":
    cli.run(main)
