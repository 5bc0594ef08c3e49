"""Checkpoints with orbax: best and latest, each one atomic save of all that a run needs.

The only module that imports orbax, whose API will change at its 1.0.
"""

import contextlib
import gc
import logging
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import absl.logging
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from regjax import trees
from regjax.errors import InputError, one_line
from regjax.state import RunState


class _BestAndLatest:
    """Keeps the checkpoint of the best epoch and the last one; deletes the others.

    The best is what early stopping says, not a metric's extreme: ties keep the earlier epoch and
    a NaN is never best. (orbax's own choice keeps the later, and evicts the best for a NaN.)
    """

    def __init__(self) -> None:
        self.best: int | None = None  # not known yet

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        del context
        last = checkpoints[-1].step if checkpoints else None
        return [info.step in (self.best, last) for info in checkpoints]


class Checkpoints:
    """The checkpoints of one run, numbered by its updates.

    Written in the background; a kill at any moment leaves the last one that was completed.
    Use as a context manager.

    Args:
      directory: where they are.
      read_only: only look; nothing is created or cleaned up.
    """

    def __init__(self, directory: str | Path, read_only: bool = False) -> None:
        absl.logging.set_verbosity(absl.logging.FATAL)  # orbax logs every step of its work
        self._directory = Path(directory).absolute()
        self._policy = _BestAndLatest()
        options = ocp.CheckpointManagerOptions(
            create=not read_only, read_only=read_only, preservation_policy=self._policy
        )
        if read_only and not self._directory.is_dir():
            raise InputError(f"'{directory}' does not exist; there is no checkpoint to read")
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(_quiet_aborts())
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: Any) -> None:
        with self._quiet:
            try:
                self._manager.close()
            except Exception:
                if kind is None:  # what already went wrong is the better message
                    raise

    def latest(self) -> int | None:
        """The number of the last complete checkpoint, or None."""
        return self._manager.latest_step()

    def best(self) -> int:
        """The number of the best epoch's checkpoint, 0 before there is one.

        Raises:
          InputError: the last checkpoint is damaged, or of an earlier version.
        """
        best, latest = self._policy.best, self.latest()
        if best is None:
            best = self._policy.best = self.about(latest)["best"] if latest else 0
        return best

    def save(self, run: RunState, about: dict[str, Any]) -> None:
        """Saves a run; returns once the values are copied, writing goes on in the background.

        Args:
          run: its state.
          about: JSON values that identify the run, checked when it is read again.

        Raises:
          InputError: this one or the one before cannot be written.
        """
        number, best = int(run.train.step), self.best()
        if number == self.latest():
            return
        if not run.progress.position and run.epoch == run.stopping.best_epoch:
            self._policy.best = best = number
        about = about | {"best": best, "structure": _structure(run), "checksum": _checksum(run)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(run),  # pyright: ignore[reportCallIssue]
            about=ocp.args.JsonSave(about),  # pyright: ignore[reportCallIssue]
        )
        self._write(lambda: self._manager.save(number, args=args, force=True))

    def wait(self) -> None:
        """Waits until all that was saved is on disk.

        Raises:
          InputError: it cannot be written.
        """
        self._write(self._manager.wait_until_finished)

    def about(self, number: int) -> dict[str, Any]:
        """What was said of the run in a checkpoint, with `best`, the number of the best then.

        Raises:
          InputError: the checkpoint is damaged, or of an earlier version.
        """
        args = ocp.args.Composite(about=ocp.args.JsonRestore())  # pyright: ignore[reportCallIssue]
        about = self._restore(number, args)["about"]
        if "best" not in about:
            raise InputError(
                f"checkpoint '{self._directory / str(number)}' is of an earlier version of regjax, "
                "which numbered them by epoch; start again in a new --workdir"
            )
        return about

    def restore(self, number: int, template: RunState) -> RunState:
        """Reads a run.

        Args:
          number: of the checkpoint.
          template: a run of the same structure, arrays or shapes.

        Raises:
          InputError: the checkpoint is missing, damaged, or of another structure.
        """
        if number not in self._manager.all_steps():
            raise InputError(
                f"'{self._directory}' has no checkpoint {number}, the best; start again in a new "
                "--workdir"
            )
        about = self.about(number)
        there, here = about["structure"], _structure(template)
        if there != here:
            name = min(n for n in there.keys() | here.keys() if there.get(n) != here.get(n))
            theirs, ours = there.get(name, "absent"), here.get(name, "absent")
            again = "start in a new --workdir"
            if "float64" in theirs and theirs.replace("float64", "float32") == ours:
                again = "it was trained in float64: set JAX_ENABLE_X64=1"
            raise InputError(
                f"checkpoint '{self._directory / str(number)}' is of another run: {name} is "
                f"{theirs} there, {ours} here; {again}"
            )
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(shapes)  # pyright: ignore[reportCallIssue]
        )
        run = self._restore(number, args)["state"]
        saved, found = about.get("checksum"), _checksum(run)
        if None not in (saved, found) and saved != found:
            raise self._damaged(number, "its values are not those that were saved")
        return run

    def _restore(self, number: int, args: Any) -> Any:
        restored, failure = _attempt(lambda: self._manager.restore(number, args=args))
        if failure:
            raise self._damaged(number, failure)
        return restored

    def _damaged(self, number: int, reason: str) -> InputError:
        return InputError(
            f"checkpoint '{self._directory / str(number)}' is damaged ({reason}); delete that "
            "folder to go on from an earlier one, or start in a new --workdir"
        )

    def _write(self, call: Callable[[], Any]) -> None:
        _, failure = _attempt(call)
        if failure:
            raise InputError(
                f"checkpoints cannot be written to '{self._directory}' ({failure}); make room "
                "there, then the same command goes on from the last complete one"
            )


def _attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """What a call returns, or why it failed in one line; waits for what else it had begun."""
    try:
        return call(), ""
    except Exception as error:  # orbax, tensorstore and JAX each raise their own
        reason = one_line(error)
    time.sleep(1.0)
    gc.collect()
    return None, reason


@contextlib.contextmanager
def _quiet_aborts() -> Iterator[None]:
    """Keeps off stderr what orbax's other reads and writes say when one of them has failed."""
    hook, asyncio_log = sys.unraisablehook, logging.getLogger("asyncio")

    def unraisable(args: Any) -> None:
        if "Event loop is closed" not in str(args.exc_value):
            hook(args)

    def wanted(record: logging.LogRecord) -> bool:
        return "exception was never retrieved" not in record.getMessage()

    try:
        sys.unraisablehook = unraisable
        asyncio_log.addFilter(wanted)
        yield
    finally:
        sys.unraisablehook = hook
        asyncio_log.removeFilter(wanted)


def _structure(run: RunState) -> dict[str, str]:
    """The path, shape and dtype of every array."""
    leaves = trees.named(run).items()
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in leaves}


def _checksum(run: RunState) -> int | None:
    """Of all values; None where a process has only some of them."""
    total = 0
    for leaf in jax.tree.leaves(run):
        if not leaf.is_fully_addressable:
            return None
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        plain = jax.random.key_data(leaf) if is_key else leaf
        total = zlib.crc32(np.asarray(plain).tobytes(), total)
    return total
