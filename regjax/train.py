"""One run, from a config to a result on disk. The order of the lines is the story of the run."""

import contextlib
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
import numpy as np
from rich.console import Console

import regjax
from regjax import (
    augmentation,
    divergence,
    feed,
    models,
    optimizer,
    parallel,
    program,
    refit,
    state,
    strengths,
    together,
    trees,
)
from regjax import data as data_lib
from regjax import watch as watch_lib
from regjax.averaging import STATISTICS
from regjax.batch import Arrays, Part
from regjax.checkpoint import Checkpoints
from regjax.config import Config, check, score_name
from regjax.data import Data
from regjax.divergence import Divergence
from regjax.errors import InputError, Interrupted
from regjax.feed import Resident, Streaming, feeding
from regjax.network import Network
from regjax.pace import Pace
from regjax.parallel import ALONE, Parallel
from regjax.program import Program
from regjax.progress import EpochBar, say
from regjax.state import RunState, TrainState
from regjax.strengths import Strengths
from regjax.watch import Watch
from regjax.workdir import Workdir

SCORED = ("test", "select", "valid")  # the splits whose scores a result has


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
        return self.placed(*part) if part.examples else None

    def first(self, split: str, count: int) -> Arrays:
        """The first examples of a split on the devices."""
        return self.placed(*self.data.splits[split].first(count))

    def placed(self, images: Any, labels: Any, part: Part | None = None) -> Arrays:
        """Examples as stored, on the devices."""
        stored = [jnp.asarray(x) for x in (images, labels, self.data.shift, self.data.scale)]
        arrays = Arrays(*stored, part=part, **self.target_scaling())
        return self.parallel.put(arrays)

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
    parts = put_together(config, drawn, parallel.on_devices(config.parallel))
    conflicts = (
        _data_conflict,
        _stream_conflict,
        _batch_conflict,
        _accumulate_conflict,
        _parts_conflict,
        _mask_conflict,
    )
    for conflict in conflicts:
        if message := conflict(parts):
            raise InputError(message)
    if config.stopping.refit != "none":
        again = refitted(parts)
        if message := _batch_conflict(again) or _parts_conflict(again):
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


def _data_conflict(parts: Assembled) -> str | None:
    config, data = parts.config, parts.data
    if config.stopping.refit != "none" and not data.splits["valid"].examples:
        return (
            f"data.valid is empty but stopping.refit is '{config.stopping.refit}', which trains on "
            "train + valid; give data.valid a size, or set stopping.refit to none"
        )
    if config.stopping.monitor.startswith("valid") and not data.splits["valid"].examples:
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


def _stream_conflict(parts: Assembled) -> str | None:
    config = parts.config
    if not parts.data.streamed:
        return None
    if together.many():
        return (
            f"{config.data.name} is streamed, which a run on many hosts cannot do yet; set "
            "data.stream to never where each host has room for it, or train on one host"
        )
    if config.optimizer.average == "none":
        return None
    if STATISTICS not in parts.shapes().train.statistics:
        return None
    return (
        f"optimizer.average is '{config.optimizer.average}', whose batch statistics take a pass "
        f"over the training set after each epoch, but {config.data.name} is streamed; set "
        "optimizer.average to none, or model.norm to one without them"
    )


def _batch_conflict(parts: Assembled) -> str | None:
    config, examples = parts.config, parts.data.splits["train"].examples
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


def _accumulate_conflict(parts: Assembled) -> str | None:
    """What the norms by a batch cannot do of micro-batches."""
    config, spread, count = parts.config, parts.parallel.spread, parts.config.accumulate
    norm, examples = config.model.norm, parts.data.splits["train"].examples
    if count == 1 or norm not in models.BATCH_NORMS:
        return None
    size = min(config.batch_size, examples)
    last, held = examples % size or size, -(-size // spread.parts)
    if spread.axis_name and held % count:  # its examples would be in other micro-batches
        return (
            f"accumulate is {count}, which does not divide the {held} examples of a batch that "
            f"each of {spread.parts} devices has; change it or batch_size, or set parallel.mode to "
            "jit"
        )
    own = not config.parallel.sync_norm and norm == "batch"
    groups = config.model.norm_groups if norm == "ghost_batch" else spread.parts if own else 1
    if groups > 1 and (size % (count * spread.parts) or size // count % groups):
        return (
            f"accumulate is {count}, but micro-batches of a batch of {size} are not divided evenly "
            f"by {spread.parts} devices and {groups} groups of model.norm; change any"
        )
    rows = -(-size // (count * groups))
    # Under pmap a device that normalizes by itself has a full part or what is left.
    batches = {held, size % held, last % held} if own and spread.axis_name else {size, last}
    micro = {n for batch in batches for n in (batch // count, -(-batch // count))}
    if rows == 1 or any(n % rows == 1 for n in micro):
        return (
            f"accumulate is {count}, which of a batch of {size}, or of the last of {last}, leaves "
            "a micro-batch, or a group of it, with one example, which has no batch statistics; "
            "change accumulate, batch_size or model.norm"
        )
    return None


def _parts_conflict(parts: Assembled) -> str | None:
    """What the norms by a batch cannot do of a batch in parts."""
    config, spread = parts.config, parts.parallel.spread
    norm, examples = config.model.norm, parts.data.splits["train"].examples
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


Listening = Callable[[], contextlib.AbstractContextManager[Callable[[], bool]]]


class _Host(NamedTuple):
    """Where a run goes on.

    Attributes:
      workdir: its folder.
      console: where it reports.
      watch: who else is told each epoch.
      listening: gives, while it trains, what says whether to save and end.
    """

    workdir: Workdir
    console: Console
    watch: Watch
    listening: Listening


def train(
    config: Config,
    path: str | Path,
    console: Console | None = None,
    watch: Watch = watch_lib.OFF,
    listening: Listening = lambda: contextlib.nullcontext(lambda: False),
) -> dict[str, Any]:
    """Trains a config to its end in a folder, or goes on with what was begun there.

    The folder then holds `config.json`, `metrics.jsonl`, `checkpoints/` and `result.json`; with
    `stopping.refit` also `checkpoints_refit/`, and the scores are those of the refitted weights. A
    run that was killed or interrupted and started again ends as one that never was.

    Args:
      config: the run.
      path: its folder.
      console: where to report; by default to standard output.
      watch: who else is told each epoch; changes none of the run's numbers.
      listening: a context that is entered while updates are done; it gives a function, which is
        asked about once a second, between two updates, whether to save and end.

    Returns:
      What `result.json` says.

    Raises:
      InputError: input that cannot be used, or a network that diverged at once.
      Interrupted: it was.
    """
    console, workdir, config = together.console(console), together.folder(path), check(config)
    together.agree_on_config(config)
    together.agree("--watch", {"names": watch.writers})
    workdir.check(config)
    if workdir.config.exists() and (result := workdir.read_result()):
        say(console, f"'{path}' holds this run's result already; nothing to do")
        return result
    run_parts, host = assemble(config), _Host(workdir, console, watch, listening)
    together.agree("the data", {"fingerprint": run_parts.data.fingerprint})
    with workdir.claim(config), Checkpoints(workdir.checkpoints) as checkpoints:
        return _train(run_parts, host, checkpoints)


def _train(parts: Assembled, host: _Host, checkpoints: Checkpoints) -> dict[str, Any]:
    functions, workdir = parts.program(), host.workdir
    run = _resumed(parts, host, checkpoints)
    run = functions.init(*parts.start()) if run is None else run
    run, seconds = _advance(parts, functions, run, host, checkpoints)
    diverged = _diverged(parts, functions, run, checkpoints)
    result = _result(parts, functions, run, checkpoints, diverged)
    if diverged:
        say(
            host.console,
            f"the network diverged in {diverged}; epoch {result['best_epoch']}, the best, is kept",
        )
        result["diverged"] = divergence.fields(diverged, workdir.read_metrics())
    if parts.config.stopping.refit != "none":
        best = checkpoints.restore(checkpoints.best(), parts.shapes())
        result, more = _refit(parts, functions, best, result, host)
        seconds += more
    result |= {
        "seconds": sum(line["seconds"] for line in workdir.read_metrics()),
        "compile_seconds": seconds,
        "seed": parts.config.seed,
        "device": devices(),
        "versions": versions(),
    }
    workdir.write_result(result)
    return result


def _resumed(
    parts: Assembled, host: _Host, checkpoints: Checkpoints, first: int = 0, phase: str = ""
) -> RunState | None:
    """The run as its last checkpoint has it, or None before the first; `metrics.jsonl` likewise.

    `first` is the epoch that the phase began after.
    """
    done, workdir = checkpoints.latest(), host.workdir
    run, reached = None, first
    if done is not None:
        if checkpoints.about(done)["data"] != parts.data.fingerprint:
            raise InputError(
                f"the checkpoints in '{workdir.path}' were trained on other data than "
                f"{parts.config.data.name} gives now; give another --workdir"
            )
        run = checkpoints.restore(done, parts.shapes())
        reached = int(run.epoch)
        say(host.console, f"resuming '{workdir.path}' after {_where(run, phase)}")
    if workdir.keep_metrics(reached, phase) != list(range(first + 1, reached + 1)):
        lacks = f"{workdir.metrics.name} lacks epochs of the past; the run goes on without"
        say(host.console, lacks)
    return run


def _about(parts: Assembled, checkpoints: Checkpoints) -> dict[str, Any]:
    """What a checkpoint says of its run beside the state: data, and seconds of an epoch begun."""
    latest = checkpoints.latest()
    if latest is not None:
        return checkpoints.about(latest)
    return {"data": parts.data.fingerprint, "seconds": 0.0}


def _where(run: RunState, phase: str) -> str:
    """How far a run has come, in words."""
    updates = int(run.progress.position)
    within = f" and {updates} update{'s' * (updates > 1)}" if updates else ""
    return f"{f'{phase} ' * bool(phase)}epoch {int(run.epoch)}{within}"


def _advance(
    parts: Assembled,
    functions: Program,
    run: RunState,
    host: _Host,
    checkpoints: Checkpoints,
    phase: str = "",
    updates: int | None = None,
) -> tuple[RunState, float]:
    """Trains a run to its end; returns it and the seconds of compiling.

    Raises:
      Interrupted: it was, and is saved.
    """
    config = parts.config
    if _ended(config, run):
        return run, 0.0
    about = _about(parts, checkpoints)
    done, console = int(run.epoch), host.console
    watching = watch_lib.watching(host.watch, parts, host.workdir.path, done, console)
    bar = EpochBar(config.epochs, done, console)
    with feeding(parts, run) as fed, watching as tell, bar as show, host.listening() as interrupted:
        compiling = time.perf_counter()
        compiled = fed.compiled(functions, parts.strengths, run)
        compile_seconds = time.perf_counter() - compiling
        given = (run, fed, interrupted, updates, about["seconds"])
        for after, line in epochs(parts, compiled, *given):
            run, about = after, about | {"seconds": 0.0}
            if "epoch" not in line:
                checkpoints.save(run, about | line)
                checkpoints.wait()
                where = _where(run, phase)
                raise Interrupted(f"saved after {where}; the same command goes on from here")
            if phase:  # no epoch of a refit is chosen: there is no best
                line = {"phase": phase, **line, "improved": False}
            host.workdir.add_metrics(line)
            if _worth_saving(config, run, bool(line["improved"])):
                checkpoints.save(run, about)
            show(line)
            tell(line, run)
        checkpoints.wait()
    return run, compile_seconds


def _refit(
    parts: Assembled, functions: Program, best: RunState, result: dict[str, Any], host: _Host
) -> tuple[dict[str, Any], float]:
    """The second phase, from the best epoch's run and the result of the first.

    Returns the result with the refitted weights' scores, and the seconds of compiling.
    """
    config, goes_on = parts.config, parts.config.stopping.refit == "continue"
    target = _train_loss(parts, functions, best) if goes_on else refit.NO_TARGET
    again, host = refitted(parts, target), host._replace(watch=watch_lib.OFF)
    first, updates = (int(best.epoch), int(best.train.step)) if goes_on else (0, 0)
    counts = [phase.data.splits["train"].examples for phase in (parts, again)]
    say(host.console, f"refit ({config.stopping.refit}) on train + valid, {counts[1]} examples")
    limit = refit.limit(config, int(result["best_epoch"]), *counts)
    again = again._replace(config=dataclasses.replace(again.config, epochs=limit.epochs))
    with Checkpoints(host.workdir.refit) as checkpoints:
        run = _resumed(again, host, checkpoints, first, phase="refit")
        if run is None:
            run = _refit_start(parts, again, best, result["valid_loss"])
            checkpoints.save(run, _about(parts, checkpoints))  # it may be the end already
            checkpoints.wait()
        told = (host, checkpoints, "refit", limit.updates)
        run, seconds = _advance(again, again.program(), run, *told)
    if int(run.stopping.best_epoch) < int(run.epoch):
        raise InputError(
            f"the refit diverged: epoch {int(run.epoch)} had no finite loss; set stopping.refit to "
            "none, or lower optimizer.learning_rate, in another --workdir"
        )
    scores = measure(again, functions, run.train, SCORED)
    about = {
        "how": config.stopping.refit,
        "examples": counts[1],
        "epochs": int(run.epoch) - first,
        "updates": int(run.train.step) - updates,
        "ended_by": refit.ended_by(config, bool(run.stopping.stopped)),
        "target_loss": target if goes_on else None,
        "before": {name: result[name] for name in scores},
    }
    say(host.console, refit.summary(about))
    return result | scores | {"refit": about}, seconds


def _train_loss(parts: Assembled, functions: Program, run: RunState) -> float:
    loss = measure(parts, functions, run.train, ("train",))["train_loss"]
    assert loss is not None
    return loss


def _refit_start(parts: Assembled, again: Assembled, best: RunState, valid_loss: float) -> RunState:
    """The run before a refit: the first phase's start again, or its best epoch."""
    if parts.config.stopping.refit == "restart":  # what LSUV looks at to start is what it was
        return again.program().init(again.strengths, *parts.start()[1:])
    stopping = state.make_stopping(again.config.stopping, again.strengths)
    stopping = stopping.update(best.epoch, valid_loss)
    return best.replace(stopping=parts.parallel.put(stopping))


def epochs(
    parts: Assembled,
    functions: Program,
    run: RunState,
    fed: Resident | Streaming,
    interrupted: Callable[[], bool] = lambda: False,
    updates: int | None = None,
    seconds: float = 0.0,
) -> Iterator[tuple[RunState, dict[str, Any]]]:
    """Yields the run after each epoch until it ends, and the epoch's metrics as numbers.

    When it is interrupted, the run as it is and nothing but `seconds`, how long its epoch has
    taken; that is the last. The run that was yielded is donated to the next epoch: copy what is to
    be kept.

    Args:
      parts, functions: of the run.
      run: where it begins, between any two updates.
      fed: what it trains and is evaluated on.
      interrupted: asked about once a second.
      updates: of the whole run, where its last epoch ends before its examples do; None: not.
      seconds: that the epoch it begins in has taken before.
    """
    pace, position = Pace(), int(run.progress.position)
    while not _ended(parts.config, run):
        started, measured = time.perf_counter() - seconds, {}
        left = fed.steps if updates is None else position + updates - int(run.train.step)
        last = min(fed.steps, left)
        for train, end in fed.train(position, last):
            while position < end:
                asked, steps = together.soonest(interrupted(), pace.steps)
                if asked:
                    yield run, {"seconds": time.perf_counter() - started}
                    return
                stop = min(end, position + steps)
                bounds = np.int32(position), np.int32(stop)
                with pace.timing(stop - position):
                    run = functions.train_steps(parts.strengths, run, train, *bounds)
                    if stop == last:  # without a pause before
                        valid = fed.valid(functions.scores, run.train)
                        run, measured = functions.end_epoch(parts.strengths, run, fed.whole, valid)
                    jax.block_until_ready((run, measured))
                position = stop
        taken, seconds, position = time.perf_counter() - started, 0.0, 0
        line = {"epoch": int(run.epoch)} | {k: v.item() for k, v in measured.items()}
        yield run, line | {"seconds": taken}


def _worth_saving(config: Config, run: RunState, improved: bool) -> bool:
    return improved or _ended(config, run) or int(run.epoch) % config.checkpoint_every == 0


def _ended(config: Config, run: RunState) -> bool:
    return int(run.epoch) >= config.epochs or bool(run.stopping.stopped)


def _diverged(
    parts: Assembled,
    functions: Program,
    run: RunState,
    checkpoints: Checkpoints,
) -> Divergence | None:
    """Where a run that a NaN has ended went wrong, from the best checkpoint or the start on."""
    best = int(run.stopping.best_epoch)
    if parts.data.streamed or (best and stopped_because(run) != "nan"):
        return None
    start = functions.init(*parts.start())
    if best:
        start = checkpoints.restore(checkpoints.best(), start)
    arrays = parts.arrays("train"), parts.arrays("valid")
    return divergence.find(parts, functions.run_epoch, start, arrays)


def _result(
    parts: Assembled,
    functions: Program,
    run: RunState,
    checkpoints: Checkpoints,
    diverged: Divergence | None,
) -> dict[str, Any]:
    """The best epoch's weights on every split, and how the run went."""
    best = int(run.stopping.best_epoch)
    if best == 0:
        where = f" in {diverged}" if diverged else ""
        raise InputError(
            f"the network diverged{where}: no epoch of {int(run.epoch)} had a finite loss; lower "
            "optimizer.learning_rate, or set optimizer.clip to norm, in another --workdir"
        )
    best_run = checkpoints.restore(checkpoints.best(), run)
    scores = measure(parts, functions, best_run.train, SCORED)
    return scores | {
        "best_epoch": best,
        "epochs": int(run.epoch),
        "stopped_because": stopped_because(run),
        "parameters": trees.count(run.train.params),
    }


def measure(
    parts: Assembled, functions: Program, train_state: TrainState, splits: Sequence[str]
) -> dict[str, float | None]:
    """`SPLIT_loss`, and `SPLIT_accuracy` or `SPLIT_r2`, for each split; None where it is empty."""
    found = feed.measured(functions.scores, train_state, parts, splits)
    return {
        f"{split}_{name}": found[split][name].item() if split in found else None
        for split in splits
        for name in (score_name(parts.config), "loss")
    }


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
