"""JAX's profiler over some epochs of a run."""

from pathlib import Path

import jax
from rich.console import Console

from regjax.progress import say


class Profile:
    """Traces the epochs of a range into a folder.

    Args:
      epochs: the first and the last; None: none.
      folder: where the trace goes.
      console: where to say so.
    """

    def __init__(self, epochs: tuple[int, int] | None, folder: Path, console: Console) -> None:
        self._start, self._stop = epochs or (0, -1)
        self._folder, self._console = folder, console
        self._on = self._traced = False

    def before(self, epoch: int) -> None:
        """An epoch is about to begin; of a run that goes on, the range may have begun already."""
        if not self._on and self._start <= epoch <= self._stop:
            jax.profiler.start_trace(self._folder)
            self._on, self._traced, self._start = True, True, epoch

    def after(self, epoch: int) -> None:
        """An epoch has ended."""
        if self._on and epoch == self._stop:
            self._end(epoch)

    def close(self, epoch: int) -> None:
        """The run has ended after an epoch or amid the next, maybe amid the range or before it."""
        if self._on:
            self._end(max(epoch, self._start))
        elif not self._traced and self._start > 0:
            why = "is past" if epoch >= self._stop else "went no further than"
            say(self._console, f"no profile: the run {why} epoch {min(epoch, self._stop)}")

    def _end(self, epoch: int) -> None:
        jax.profiler.stop_trace()
        self._on = False
        say(self._console, f"profile of epochs {self._start} to {epoch} in {self._folder}")
