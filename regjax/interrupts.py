"""SIGINT and SIGTERM: the process ends at once, or saves first."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from regjax.errors import Interrupted

ENDS = (signal.SIGINT, signal.SIGTERM)
SAME = 0.3  # seconds within which two signals are one, sent to a process and to its parent


def end_at_once(number: int, frame: Any) -> None:
    """Ends the process at once, which whatever is on disk survives as it survives a kill.

    A KeyboardInterrupt may be swallowed by a callback from C++, or end in a crash of its threads.
    """
    del frame
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # the progress bar hides it
    line = f"{show_cursor}regjax: interrupted; the same command goes on from here\n"
    os.write(2, line.encode())
    os._exit(128 + number)


@contextlib.contextmanager
def listening() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGINT or SIGTERM has come; a second ends the process.

    Raises:
      Interrupted: one came, whether or not the function was asked; with its exit code.
    """
    asked: list[int] = []
    first = 0.0

    def ask(number: int, frame: Any) -> None:
        nonlocal first
        if not asked:
            first = time.monotonic()
        elif time.monotonic() - first > SAME:
            end_at_once(number, frame)
        asked.append(number)
        if sys.stderr.isatty():
            os.write(2, b"regjax: saving after this update; once more ends it at once\n")

    before = {number: signal.signal(number, ask) for number in ENDS}
    end = None
    try:
        yield lambda: bool(asked)
    except Interrupted as saved:  # of many processes, maybe as another was asked
        end = saved
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        end = end or Interrupted("the same command goes on from here")
        end.code = 128 + asked[0]
    if end:
        raise end
