"""One run, from a config to a result on disk. The order of the lines is the story of the run."""

import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console

import regjax
from regjax import augmentation, models, optimizer, state, step, strengths, trees
from regjax import data as data_lib
from regjax.batch import Arrays
from regjax.checkpoint import Checkpoints
from regjax.config import Config, check
from regjax.data import Data
from regjax.errors import InputError
from regjax.network import Network
from regjax.progress import EpochBar, say
from regjax.state import RunState
from regjax.strengths import Strengths
from regjax.workdir import Workdir


class Assembled(NamedTuple):
    """A config made into values: what `train`, `evaluate` and `show` all start from."""

    config: Config
    data: Data
    network: Network
    strengths: Strengths

    def initial(self) -> RunState:
        """The run before its first epoch."""
        train = self.arrays("train")
        assert train is not None
        rows = jnp.arange(self._start_examples())
        inputs = train.take(rows, jnp.ones(len(rows))).images
        # Compiled, for speed and so that no two leaves share a buffer: the run is donated.
        return jax.jit(self._init)(inputs)

    def shapes(self) -> RunState:
        """The run's structure, without computing it."""
        shape = (self._start_examples(), *self.data.input_shape)
        return jax.eval_shape(self._init, jax.ShapeDtypeStruct(shape, jnp.float32))

    def arrays(self, split: str) -> Arrays | None:
        """A split on the device, or None where it is empty."""
        part = self.data.splits[split]
        if not len(part.labels):
            return None
        return Arrays(*map(jnp.asarray, (*part, self.data.shift, self.data.scale)))

    def _init(self, inputs: jax.Array) -> RunState:
        return state.init(self.config, self.network, self.strengths, inputs)

    def _start_examples(self) -> int:
        """How many training examples the network starts with: LSUV looks at a batch of them."""
        return min(len(self.data.splits["train"].labels), self.config.eval_batch_size)


def assemble(config: Config) -> Assembled:
    """Checks a config, loads and divides its data, and builds its network.

    Raises:
      InputError: a config or data that cannot be trained on.
    """
    config = check(config)
    pool = data_lib.load(config.data.name, config.data.data_dir, config.data.manual_dir)
    data = data_lib.draw(pool, config.data, config.seed)
    classes, examples = len(data.classes), len(data.splits["train"].labels)
    module = models.build(config.model, data.input_shape, classes)
    parts = Assembled(
        config,
        data,
        Network(config.model, module, classes),
        strengths.from_config(config, examples),
    )
    for conflict in (_data_conflict, _batch_conflict, _mask_conflict):
        if message := conflict(parts):
            raise InputError(message)
    return parts


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
    console, workdir, config = console or Console(), Workdir(path), check(config)
    workdir.check(config)
    if workdir.config.exists() and (result := workdir.read_result()):
        say(console, f"'{path}' holds this run's result already; nothing to do")
        return result
    run_parts = assemble(config)
    with workdir.claim(config), Checkpoints(workdir.checkpoints) as checkpoints:
        return _train(run_parts, workdir, checkpoints, console)


def _train(
    parts: Assembled, workdir: Workdir, checkpoints: Checkpoints, console: Console
) -> dict[str, Any]:
    config, about = parts.config, {"data": parts.data.fingerprint}
    done = checkpoints.latest()
    if done is None:
        run = parts.initial()
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
    train_set, valid_set = parts.arrays("train"), parts.arrays("valid")

    compiling = time.perf_counter()
    run_epoch = jax.jit(step.make_run_epoch(config, parts.network), donate_argnums=1)
    compiled = run_epoch.lower(parts.strengths, run, train_set, valid_set).compile()
    compile_seconds = time.perf_counter() - compiling

    with EpochBar(config.epochs, int(run.epoch), console) as show:
        while int(run.epoch) < config.epochs and not bool(run.stopping.stopped):
            started = time.perf_counter()
            run, measured = jax.block_until_ready(
                compiled(parts.strengths, run, train_set, valid_set)
            )
            seconds = time.perf_counter() - started
            line = {"epoch": int(run.epoch)} | {k: v.item() for k, v in measured.items()}
            line["seconds"] = seconds
            workdir.add_metrics(line)
            if _worth_saving(config, run, bool(line["improved"])):
                checkpoints.save(run, about)
            show(line)
    checkpoints.wait()
    result = _result(parts, run, workdir, checkpoints, compile_seconds)
    workdir.write_result(result)
    return result


def _worth_saving(config: Config, run: RunState, improved: bool) -> bool:
    last = int(run.epoch) == config.epochs or bool(run.stopping.stopped)
    return improved or last or int(run.epoch) % config.checkpoint_every == 0


def _result(
    parts: Assembled,
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
    evaluate = jax.jit(step.make_evaluate(parts.config, parts.network))
    scores: dict[str, Any] = {}
    for split in ("test", "select", "valid"):
        arrays = parts.arrays(split)
        measured = evaluate(best_run.train, arrays) if arrays else {}
        for name in ("accuracy", "loss"):
            scores[f"{split}_{name}"] = measured[name].item() if measured else None
    ended = bool(run.stopping.stopped)
    return scores | {
        "best_epoch": best,
        "epochs": int(run.epoch),
        "stopped_because": ("nan" if run.stopping.saw_nan else "patience") if ended else "epochs",
        "parameters": trees.count(run.train.params),
        "seconds": sum(line["seconds"] for line in workdir.read_metrics()),
        "compile_seconds": compile_seconds,
        "seed": parts.config.seed,
        "device": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
        "versions": versions(),
    }


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
