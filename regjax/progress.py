"""How a run shows itself while it goes on: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def bar(
    what: str, total: int, done: int, console: Console
) -> Iterator[Callable[[int, str], None] | None]:
    """Gives what moves a bar to how many are done, with a text beside it; None: no terminal."""
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn(what), MofNCompleteColumn(), BarColumn(20), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as shown:
        task = shown.add_task("compiling", total=total, completed=done)
        yield lambda done, text: shown.update(task, completed=done, description=text)


@contextlib.contextmanager
def showing(epochs: int, done: int, console: Console) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives what shows an epoch, given its metrics, as it ends: by a bar, or in a line.

    Args:
      epochs: how many at most.
      done: how many before this process.
      console: where to; a terminal gets a bar, all else a line an epoch.
    """
    with bar("epoch", epochs, done, console) as move:

        def show(line: dict[str, Any]) -> None:
            if move:
                move(line["epoch"], summary(line))
            else:
                say(console, f"epoch {line['epoch']}/{epochs}  {summary(line)}")

        yield show


class _Standard(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # as the reader's end is told elsewhere, not an exit code of rich's


def stdout() -> Console:
    """Standard output; in a pipe nothing is cut off."""
    return _Standard(width=None if sys.stdout.isatty() else 200)


def say(console: Console, text: str) -> None:
    """Prints one line as it is, without markup, wrapping or colours."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
