"""Whether reading overlaps training, and whether memory stays flat, where data are streamed.

python -m experiments.benchmarks.stream [--repeats=5] [--memory=8] [--workers=2] [--model=mlp]

Question: does an epoch on data twenty times larger than the limit `data.memory` take as long as its
work needs, and no more memory at its end than at its beginning?
Method: a set of PNG images is generated as array_record. Measured in turn, an epoch of each, again
and again, so that a machine that changes its pace does so for all (the first turn is not counted):
reading alone (all batches on the device, none trained on), training alone (as many updates on one
chunk), and both together, by `regjax train`'s own loop. CPU seconds are of the process and its
workers. Reported: medians; and over the turns, the median of together's seconds as a share of the
larger of the two alone (the least, where a device of its own trains), and of what both need, their
CPU seconds / cores (the least, where they share the cores); the resident memory of the process and
of its workers over together's epochs, from /proc (Linux only).
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds
from absl import flags

from experiments import cli
from regjax import assembly, feed, train
from regjax.config import Config, DataConfig, ModelConfig, ParallelConfig, StoppingConfig
from regjax.data.tfds_builders import _png

_REPEATS = flags.DEFINE_integer("repeats", 5, "epochs of each", lower_bound=1)
_MEMORY = flags.DEFINE_float("memory", 8.0, "data.memory, in MiB")
_SIDE = flags.DEFINE_integer("side", 32, "of an image, in pixels")
_MODEL = flags.DEFINE_enum("model", "mlp", ["mlp", "cnn"], "what is trained")
_WORKERS = flags.DEFINE_integer("workers", 2, "data.workers")
_FOLDER = flags.DEFINE_string("folder", "", "where the set is made, or was before; default: a new")
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")
TICKS = os.sysconf("SC_CLK_TCK")


def prepare(folder: str, examples: int, side: int) -> None:
    """Writes a set of images as array_record, unless it is there."""
    core: Any = tfds.core  # its modules are loaded lazily, which type checkers do not see
    with core.registered.skip_registration():

        class StreamBenchmark(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self) -> Any:
                image = tfds.features.Image(shape=(side, side, 3))
                features = {"image": image, "label": tfds.features.ClassLabel(num_classes=10)}
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=("image", "label"),
                )

            def _split_generators(self, dl_manager: Any) -> Any:
                return {"train": self._generate_examples()}

            def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
                rng = np.random.default_rng(0)
                for i in range(examples):
                    label = int(rng.integers(10))
                    image = rng.normal(25 * label, 8, (side, side, 3)).clip(0, 255)
                    yield i, {"image": _png(image.astype(np.uint8)), "label": label}

    StreamBenchmark(data_dir=folder, file_format="array_record").download_and_prepare()


def settings(folder: str) -> Config:
    """The run."""
    data = DataConfig("tfds:stream_benchmark", folder, stream="always", stratified=False)
    data.memory, data.workers = _MEMORY.value / 1024, _WORKERS.value
    data.valid, data.select, data.test = 0, 0, 0
    return Config(
        epochs=_REPEATS.value + 2,  # one more than is measured: at a run's end its readers do
        batch_size=128,
        data=data,
        model=ModelConfig(_MODEL.value, widths=(512,)),
        stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
        parallel=ParallelConfig("single"),
    )


def processes() -> list[int]:
    """This one and its workers."""
    return [os.getpid(), *(child.pid or 0 for child in multiprocessing.active_children())]


def cpu_seconds() -> float:
    """Of all of them, so far."""
    fields = [Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split() for p in processes()]
    return sum(int(f[11]) + int(f[12]) for f in fields) / TICKS


def resident() -> list[int]:
    """MiB of the process, and of all its workers."""
    sizes = []
    for process in processes():
        status = Path(f"/proc/{process}/status").read_text().splitlines()
        sizes.append(sum(int(x.split()[1]) for x in status if x.startswith("RssAnon")) // 1024)
    return [sizes[0], sum(sizes[1:])]


def timed(epoch: Callable[[], Any]) -> tuple[float, float]:
    """Seconds and CPU seconds."""
    started, used = time.perf_counter(), cpu_seconds()
    epoch()
    return time.perf_counter() - started, cpu_seconds() - used


def reading(parts: Any, run: Any) -> Iterator[tuple[float, float]]:
    """Seconds and CPU seconds of one epoch after another."""

    def epoch() -> None:
        for arrays, _ in fed.train(0, fed.steps):
            jax.block_until_ready(arrays)

    with feed.feeding(parts, run) as fed:
        while True:
            yield timed(epoch)


def training(parts: Any, run: Any) -> Iterator[tuple[float, float]]:
    """Seconds and CPU seconds of one epoch after another."""
    with feed.feeding(parts, run) as fed:
        functions = fed.compiled(parts.program(), parts.strengths, run)
        arrays, stop = next(fed.train(0, fed.steps))
        steps = fed.steps

    def epoch() -> None:
        nonlocal run
        for start in range(0, steps, stop):
            bounds = np.int32(0), np.int32(min(stop, steps - start))
            run = functions.train_steps(parts.strengths, run, arrays, *bounds)
        jax.block_until_ready(run)

    while True:
        yield timed(epoch)


def together(parts: Any, run: Any, sizes: list[list[int]]) -> Iterator[tuple[float, float]]:
    """Seconds and CPU seconds of one epoch after another; what resides, every 50 ms, in `sizes`."""
    with feed.feeding(parts, run) as fed:
        functions = fed.compiled(parts.program(), parts.strengths, run)
        epochs = train.epochs(parts, functions, run, fed)
        while True:
            with sampling(sizes):
                found = timed(lambda: next(epochs))
            yield found


@contextlib.contextmanager
def sampling(sizes: list[list[int]]) -> Iterator[None]:
    """Adds what resides, every 50 ms."""
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.05):
            sizes.append(resident())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield
    finally:
        ended.set()
        sampler.join()


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    side, limit = _SIDE.value, _MEMORY.value * 2**20
    examples = int(20 * limit / (3 * side**2)) + 1
    sizes: list[list[int]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = _FOLDER.value or temporary
        prepare(folder, examples, side)
        parts = assembly.assemble(settings(folder))
        runs = (parts.program().init(*parts.start()) for _ in range(3))
        kinds = reading(parts, next(runs)), training(parts, next(runs))
        measured = zip(*kinds, together(parts, next(runs), sizes), strict=False)
        turns = list(itertools.islice(measured, 1, _REPEATS.value + 1))
    cores = len(os.sched_getaffinity(0))
    device = jax.devices()[0].device_kind
    figures: dict[str, Any] = {"examples": examples, "device": device, "cores": cores}
    figures["load"] = os.getloadavg()[0]
    for name, found in zip(
        ("reading", "training", "together"), zip(*turns, strict=True), strict=True
    ):
        seconds, used = (statistics.median(column) for column in zip(*found, strict=True))
        figures[name] = {"seconds": seconds, "cpu_seconds": used}
    needed = [both[0] * cores / (read[1] + trained[1]) for read, trained, both in turns]
    figures["together_of_needed"] = statistics.median(needed)
    larger = [both[0] / max(read[0], trained[0]) for read, trained, both in turns]
    figures["together_of_larger"] = statistics.median(larger)
    figures["turns"] = turns
    for name, column in zip(("process", "workers"), zip(*sizes, strict=True), strict=True):
        middle = statistics.median(column)
        figures[f"{name}_MiB"] = {"median": middle, "min": min(column), "max": max(column)}
    text = json.dumps(figures, indent=2)
    print(text)
    if _OUT.value:
        Path(_OUT.value).write_text(text + "\n")


if __name__ == "__main__":
    cli.run(main)
