"""One run, from a config to a result on disk. The order of the lines is the story of the run."""

import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console

import regjax
from regjax import (
    augmentation,
    models,
    optimizer,
    parallel,
    program,
    state,
    strengths,
    together,
    trees,
)
from regjax import data as data_lib
from regjax.batch import Arrays
from regjax.checkpoint import Checkpoints
from regjax.config import Config, check, score_name
from regjax.data import Data
from regjax.errors import InputError
from regjax.network import Network
from regjax.parallel import ALONE, Parallel
from regjax.program import Program
from regjax.progress import EpochBar, say
from regjax.state import RunState, TrainState
from regjax.strengths import Strengths
from regjax.workdir import Workdir


class Assembled(NamedTuple):
    """A config made into values: what `train`, `evaluate` and `show` all start from.

    Attributes:
      config: the run.
      general: the config of the program that runs it, see `program.generalized`.
      data, network, strengths: what these make of it.
      parallel: its devices.
    """

    config: Config
    general: Config
    data: Data
    network: Network
    strengths: Strengths
    parallel: Parallel = ALONE

    def program(self) -> Program:
        """Its functions, to be compiled."""
        return program.make_program(self.general, self.network, self.shapes(), self.parallel)

    def start(self) -> tuple[Strengths, jax.Array, jax.Array]:
        """What `Program.init` is given: strengths, first inputs, key."""
        train = self.arrays("train")
        assert train is not None
        rows = jnp.arange(self._start_examples())
        inputs = train.take(rows, jnp.ones(len(rows))).images
        return self.strengths, inputs, jax.random.key(self.config.seed)

    def shapes(self) -> RunState:
        """The run's structure and where it lies, without computing it."""
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
        part = self.data.splits[split]
        if not len(part.labels):
            return None
        arrays = Arrays(*map(jnp.asarray, (*part, self.data.shift, self.data.scale)))
        return self.parallel.put(arrays.replace(**self.target_scaling()))

    def target_scaling(self) -> dict[str, jax.Array]:
        """What `Arrays` is given where numbers are predicted."""
        shift, scale = self.data.target_shift, self.data.target_scale
        if shift is None or scale is None:
            return {}
        return {"target_shift": jnp.asarray(shift), "target_scale": jnp.asarray(scale)}

    def _start_examples(self) -> int:
        """How many training examples the network starts with: LSUV looks at a batch of them."""
        return min(len(self.data.splits["train"].labels), self.config.eval_batch_size)


def assemble(config: Config) -> Assembled:
    """Checks a config, loads and divides its data, and builds its network.

    Raises:
      InputError: a config or data that cannot be trained on.
    """
    config = check(config)
    pool = data_lib.load(config.data)
    drawn = data_lib.draw(pool, config.data, config.seed)
    parts = put_together(config, drawn, parallel.on_devices(config.parallel))
    for conflict in (_data_conflict, _batch_conflict, _parts_conflict, _mask_conflict):
        if message := conflict(parts):
            raise InputError(message)
    return parts


def put_together(config: Config, data: Data, devices: Parallel = ALONE) -> Assembled:
    """What `assemble` returns, of a config that was checked, data drawn, and devices found."""
    examples = len(data.splits["train"].labels)
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


def _data_conflict(parts: Assembled) -> str | None:
    config, data = parts.config, parts.data
    if config.stopping.monitor.startswith("valid") and not len(data.splits["valid"].labels):
        return (
            f"data.valid is empty but stopping.monitor is '{config.stopping.monitor}'; give "
            "data.valid a size, or monitor train_loss"
        )
    if augmentation.changes_images(config.augment) and len(data.input_shape) != 3:
        return (
            f"augment is for images, but the examples of {config.data.name} have the shape "
            f"{data.input_shape}; of the augmentations they can have augment.mix=mixup alone"
        )
    return None


def _batch_conflict(parts: Assembled) -> str | None:
    config, examples = parts.config, len(parts.data.splits["train"].labels)
    norm, groups = config.model.norm, config.model.norm_groups
    size = min(config.batch_size, examples)
    last = examples % size or size
    if norm == "ghost_batch" and size % groups:
        return (
            f"model.norm_groups is {groups}, which does not divide the batch of {size}; change "
            "model.norm_groups or batch_size"
        )
    part = size // groups if norm == "ghost_batch" else size
    if norm in models.BATCH_NORMS and (part == 1 or last % part == 1):
        return (
            f"batch_size is {config.batch_size} and data.train {examples}, so the last batch, or "
            "a group of it, has one example, which has no batch statistics; change either by one, "
            "or model.norm"
        )
    return None


def _parts_conflict(parts: Assembled) -> str | None:
    """What the norms by a batch cannot do of a batch in parts."""
    config, spread = parts.config, parts.parallel.spread
    norm, examples = config.model.norm, len(parts.data.splits["train"].labels)
    if spread.axis_name and norm in ("ghost_batch", "batch_renorm"):
        return f"parallel.mode is 'pmap', which has no model.norm '{norm}'; set it to jit"
    size = min(config.batch_size, examples)
    if norm == "ghost_batch" and size % spread.parts:  # padding would move its groups
        return (
            f"model.norm is 'ghost_batch', whose groups need a batch that {spread.parts} devices "
            f"divide evenly, but it has {size}; change batch_size, or set parallel.mode to single"
        )
    if config.parallel.sync_norm or norm != "batch" or spread.parts == 1:
        return None
    part = -(-size // spread.parts)
    if any(part == 1 or batch % part == 1 for batch in (size, examples % size)):
        return (
            f"batch_size is {config.batch_size} and data.train {examples}, which leaves one of "
            f"{spread.parts} devices a single example, without statistics of its own; change "
            "either, or set parallel.sync_norm"
        )
    return None


def _mask_conflict(parts: Assembled) -> str | None:
    rules = optimizer.rules(parts.config)
    params = parts.shapes().train.params if rules else {}
    for name, rule in rules.items():
        if not trees.names(params, rule):
            return f"{name} is '{rule}', which matches no parameter; they are " + ", ".join(
                trees.names(params)
            )
    return None


def train(config: Config, path: str | Path, console: Console | None = None) -> dict[str, Any]:
    """Trains a config to its end in a folder, or goes on with what was begun there.

    The folder then holds `config.json`, `metrics.jsonl`, `checkpoints/` and `result.json`. A run
    that was killed and started again ends as one that never was.

    Args:
      config: the run.
      path: its folder.
      console: where to report; by default to standard output.

    Returns:
      What `result.json` says.

    Raises:
      InputError: input that cannot be used, or a network that diverged at once.
    """
    console, workdir, config = together.console(console), together.folder(path), check(config)
    together.agree_on_config(config)
    workdir.check(config)
    if workdir.config.exists() and (result := workdir.read_result()):
        say(console, f"'{path}' holds this run's result already; nothing to do")
        return result
    run_parts = assemble(config)
    together.agree("the data", {"fingerprint": run_parts.data.fingerprint})
    with workdir.claim(config), Checkpoints(workdir.checkpoints) as checkpoints:
        return _train(run_parts, workdir, checkpoints, console)


def _train(
    parts: Assembled, workdir: Workdir, checkpoints: Checkpoints, console: Console
) -> dict[str, Any]:
    config, about = parts.config, {"data": parts.data.fingerprint}
    done = checkpoints.latest()
    functions = parts.program()
    if done is None:
        run = functions.init(*parts.start())
    else:
        if checkpoints.about(done)["data"] != parts.data.fingerprint:
            raise InputError(
                f"the checkpoints in '{workdir.path}' were trained on other data than "
                f"{config.data.name} gives now; give another --workdir"
            )
        run = checkpoints.restore(done, parts.shapes())
        say(console, f"resuming '{workdir.path}' after epoch {done}")
    kept = workdir.keep_metrics(done or 0)
    if kept != list(range(1, (done or 0) + 1)):
        say(console, f"{workdir.metrics.name} lacks epochs of the past; the run goes on without")
    arrays = parts.arrays("train"), parts.arrays("valid")

    compiling = time.perf_counter()
    compiled = functions.run_epoch.lower(parts.strengths, run, *arrays).compile()
    compile_seconds = time.perf_counter() - compiling

    with EpochBar(config.epochs, int(run.epoch), console) as show:
        for after, line in epochs(parts, compiled, run, arrays):
            run = after
            workdir.add_metrics(line)
            if _worth_saving(config, run, bool(line["improved"])):
                checkpoints.save(run, about)
            show(line)
    checkpoints.wait()
    result = _result(parts, functions, run, workdir, checkpoints, compile_seconds)
    workdir.write_result(result)
    return result


def epochs(
    parts: Assembled, run_epoch: Callable[..., Any], run: RunState, arrays: Sequence[Arrays | None]
) -> Iterator[tuple[RunState, dict[str, Any]]]:
    """Yields the run after each epoch until it ends, and the epoch's metrics as numbers.

    The run that was yielded is donated to the next epoch: copy what is to be kept.
    """
    while int(run.epoch) < parts.config.epochs and not bool(run.stopping.stopped):
        started = time.perf_counter()
        run, measured = jax.block_until_ready(run_epoch(parts.strengths, run, *arrays))
        seconds = time.perf_counter() - started
        line = {"epoch": int(run.epoch)} | {k: v.item() for k, v in measured.items()}
        yield run, line | {"seconds": seconds}


def _worth_saving(config: Config, run: RunState, improved: bool) -> bool:
    last = int(run.epoch) == config.epochs or bool(run.stopping.stopped)
    return improved or last or int(run.epoch) % config.checkpoint_every == 0


def _result(
    parts: Assembled,
    functions: Program,
    run: RunState,
    workdir: Workdir,
    checkpoints: Checkpoints,
    compile_seconds: float,
) -> dict[str, Any]:
    """The best epoch's weights on every split, and how the run went."""
    best = int(run.stopping.best_epoch)
    if best == 0:
        raise InputError(
            f"the network diverged: no epoch of {int(run.epoch)} had a finite loss; lower "
            "optimizer.learning_rate, or set optimizer.clip to norm, in another --workdir"
        )
    best_run = checkpoints.restore(best, run)
    scores = measure(parts, functions, best_run.train, ("test", "select", "valid"))
    return scores | {
        "best_epoch": best,
        "epochs": int(run.epoch),
        "stopped_because": stopped_because(run),
        "parameters": trees.count(run.train.params),
        "seconds": sum(line["seconds"] for line in workdir.read_metrics()),
        "compile_seconds": compile_seconds,
        "seed": parts.config.seed,
        "device": devices(),
        "versions": versions(),
    }


def measure(
    parts: Assembled, functions: Program, train_state: TrainState, splits: Sequence[str]
) -> dict[str, float | None]:
    """`SPLIT_loss`, and `SPLIT_accuracy` or `SPLIT_r2`, for each split; None where it is empty."""
    scores: dict[str, float | None] = {}
    names = (score_name(parts.config), "loss")
    for split in splits:
        arrays = parts.arrays(split)
        measured = functions.evaluate(train_state, arrays) if arrays else {}
        for name in names:
            scores[f"{split}_{name}"] = measured[name].item() if measured else None
    return scores


def stopped_because(run: RunState) -> str:
    """Why a run ended: `patience` (whatever the criterion), `nan` or `epochs`."""
    if not run.stopping.stopped:
        return "epochs"
    return "nan" if run.stopping.saw_nan else "patience"


def devices() -> str:
    """How many devices there are, of which kind.

    >>> "×" in devices()
    True
    """
    return f"{jax.device_count()} × {jax.devices()[0].device_kind}"


def versions() -> dict[str, str]:
    """The versions that a number may depend on.

    >>> "jax" in versions()
    True
    """
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "regjax": regjax.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
