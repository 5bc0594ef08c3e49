"""One run, from a config to a result on disk. The order of the lines is the story of the run."""

import contextlib
import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

import regjax
from regjax import divergence, feed, refit, state, together, trees
from regjax import watch as watch_lib
from regjax.assembly import Assembled, assemble, refitted
from regjax.checkpoint import Checkpoints
from regjax.config import Config, check, score_name
from regjax.divergence import Divergence
from regjax.errors import InputError, Interrupted
from regjax.feed import Resident, Streaming, feeding
from regjax.pace import Pace
from regjax.program import Program
from regjax.progress import say, showing
from regjax.state import RunState, TrainState
from regjax.step import evaluated
from regjax.watch import Watch
from regjax.workdir import Workdir

SCORED = ("test", "select", "valid")  # the splits whose scores a result has


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
    bar = showing(config.epochs, done, console)
    with feeding(parts, run) as fed, watching as tell, bar as show, host.listening() as interrupted:
        compiling = time.perf_counter()
        compiled = fed.compiled(functions, parts.strengths, run)
        compile_seconds = time.perf_counter() - compiling
        left = epochs(parts, compiled, run, fed, interrupted, updates, about["seconds"])
        for after, line in left:
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
        run, seconds = _advance(
            again, again.program(), run, host, checkpoints, phase="refit", updates=limit.updates
        )
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
                        run, measured = functions.finish(
                            parts.strengths, run, fed.whole, fed.valid()
                        )
                    jax.block_until_ready((run, measured))
                position = stop
        taken, seconds, position = time.perf_counter() - started, 0.0, 0
        yield run, as_line(parts.config, int(run.epoch), measured) | {"seconds": taken}


def as_line(config: Config, epoch: int, measured: dict[str, Any]) -> dict[str, Any]:
    """An epoch's metrics as numbers, without those of a split that it was not evaluated on.

    >>> measured = {"train_loss": np.float32(0.5), "valid_loss": np.float32("nan")}
    >>> as_line(Config(evaluate_every=2), 3, measured)
    {'epoch': 3, 'train_loss': 0.5}
    """
    due = evaluated(config.evaluate_every, epoch)
    kept = {k: v.item() for k, v in measured.items() if due or not k.startswith("valid_")}
    return {"epoch": epoch} | kept


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
    if parts.data.streamed or (best and stopped_because(parts.config, run) != "nan"):
        return None
    start = functions.init(*parts.start())
    if best:
        start = checkpoints.restore(checkpoints.best(), start)
    fed = feed.resident(parts)
    return divergence.find(parts, functions.run_epoch, start, fed.whole, fed.held_out)


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
        "stopped_because": stopped_because(parts.config, run),
        "parameters": trees.count(run.train.params),
    }


def measure(
    parts: Assembled, functions: Program, train_state: TrainState, splits: Sequence[str]
) -> dict[str, float | None]:
    """`SPLIT_loss`, and `SPLIT_accuracy` or `SPLIT_r2`, for each split; None where it is empty."""
    found = feed.measured(functions, train_state, parts, splits)
    return {
        f"{split}_{name}": found[split][name].item() if split in found else None
        for split in splits
        for name in (score_name(parts.config), "loss")
    }


def stopped_because(config: Config, run: RunState) -> str:
    """Why a run ended: the criterion's name, such as `patience`; `nan` or `epochs`."""
    if not run.stopping.stopped:
        return "epochs"
    return "nan" if run.stopping.saw_nan else config.stopping.name


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
