"""How a run shows itself while it goes on: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def summary(line: dict[str, Any]) -> str:
    """One epoch's metrics in one line of text.

    >>> summary({"epoch": 3, "train_loss": 0.12345, "valid_accuracy": 0.9, "seconds": 0.251})
    'train loss 0.1235  valid accuracy 0.9000  0.25 s'
    """
    shown = ("train_loss", "penalty", "valid_loss", "valid_accuracy", "valid_r2", "gradient_norm")
    parts = [
        f"{name.replace('_', ' ')} {line[name]:.4f}"
        for name in shown
        if line.get(name) is not None and (name != "penalty" or line[name])
    ]
    star = "  *" if line.get("improved") else ""
    return "  ".join([*parts, f"{line['seconds']:.2f} s"]) + star


class EpochBar:
    """Shows epochs as they finish. Use as a context manager.

    Args:
      epochs: how many at most.
      done: how many before this process.
      console: where to; a terminal gets a bar, all else a line an epoch.
    """

    def __init__(self, epochs: int, done: int, console: Console) -> None:
        self._console = console
        self._epochs = epochs
        self._bar = None
        if console.is_terminal:
            columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(20))
            self._bar = Progress(
                *columns, TimeRemainingColumn(), TextColumn("{task.description}"), console=console
            )
            self._task = self._bar.add_task("compiling", total=epochs, completed=done)

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        if self._bar:
            self._bar.start()
        return self._show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def _show(self, line: dict[str, Any]) -> None:
        if self._bar:
            self._bar.update(self._task, completed=line["epoch"], description=summary(line))
        else:
            say(self._console, f"epoch {line['epoch']}/{self._epochs}  {summary(line)}")


def say(console: Console, text: str) -> None:
    """Prints one line as it is, without markup, wrapping or colours."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
