"""One run watched: the loop tells each epoch's line, this tells the writers and the profiler."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from regjax import keys, together, trees
from regjax.accumulation import make_gradient
from regjax.assembly import Assembled
from regjax.progress import say
from regjax.state import RunState
from regjax.step import evaluated
from regjax.watch.options import Watch, check
from regjax.watch.performance import Performance
from regjax.watch.profiling import Profile
from regjax.watch.writers import WRITERS, Writer

PyTree = Any
Tell = Callable[[dict[str, Any], RunState], None]


@contextlib.contextmanager
def watching(
    watch: Watch, parts: Assembled, folder: Path, done: int, console: Console
) -> Iterator[Tell]:
    """Gives a function `tell(line, run)` for the loop to call after each epoch.

    Of many processes each calls it, as they compute together what is told; the first alone has
    writers and the profiler.

    Args:
      watch: what is asked for; `OFF` costs nothing.
      parts: of the run.
      folder: the run's.
      done: epochs done before; what was written of later ones is void.
      console: where to report.

    Raises:
      InputError: a writer that is not installed.
    """
    with contextlib.ExitStack() as ends:
        names, first = check(watch).writers, together.primary()
        profile = Profile(watch.profile if first else None, folder / "profile", console)
        writers = [WRITERS[name](folder, parts.config, done) for name in names if first]
        for writer in writers:
            ends.callback(writer.close)
        report = _reporter(parts, writers, console) if names else None
        last = done
        profile.before(done + 1)

        def tell(line: dict[str, Any], run: RunState) -> None:
            nonlocal last
            last = line["epoch"]
            profile.after(last)
            if report:
                report(line, run)
            profile.before(last + 1)

        try:
            yield tell
        finally:
            profile.close(last)


def _reporter(parts: Assembled, writers: list[Writer], console: Console) -> Tell:
    performance, gradients = Performance(parts), _gradients(parts)
    if performance.missing:
        say(console, f"watch: no share of the device's peak, as {performance.missing}")

    def report(line: dict[str, Any], run: RunState) -> None:
        scalars = {name: value for name, value in line.items() if name != "epoch"}
        due = evaluated(parts.config.evaluate_every, line["epoch"])
        figures = performance.figures(line["seconds"], due)
        scalars |= {f"performance/{name}": value for name, value in figures.items()}
        arrays = {"parameters": run.train.params, "gradients": gradients(run)}
        drawn = {f"{k}/{name}": x for k, tree in arrays.items() for name, x in _finite(tree)}
        for writer in writers:
            writer.scalars(line["epoch"], scalars)
            writer.histograms(line["epoch"], drawn)

    return report


def _finite(tree: PyTree) -> Iterator[tuple[str, np.ndarray]]:
    """The finite values of each leaf, by its path; a leaf without any is left out."""
    for name, leaf in trees.named(tree).items():
        values = together.whole(leaf).astype(np.float32)
        if (values := values[np.isfinite(values)]).size:
            yield name, values


def _gradients(parts: Assembled) -> Callable[[RunState], PyTree]:
    """Returns the gradient of the objective on the first training examples, as a function of a run.

    The same batch after every epoch, not augmented, with the dropout of the step to come: nothing
    that the run itself computes, so that watching does not change its program.
    """
    config, spread = parts.general, parts.parallel.spread
    if spread.axis_name is not None:  # under pmap the network computes on parts of a batch only
        return lambda run: {}
    differentiate = make_gradient(config, parts.network, spread)
    arrays = parts.first("train", config.batch_size)
    indices, mask = spread.rows(jnp.arange(len(arrays)), len(arrays))

    @jax.jit
    def gradient(strengths: Any, run: RunState, arrays: Any) -> PyTree:
        batch = arrays.take(indices[0], mask[0])
        key = keys.stream(run.key, keys.DROPOUT, run.train.step)
        state = run.train
        return differentiate(state.params, strengths, state.statistics, batch, key)[0]

    return lambda run: gradient(parts.strengths, run, arrays)
