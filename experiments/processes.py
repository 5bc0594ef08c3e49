"""Commands side by side, each a process of its own."""

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
      number: which of the commands it was.
      code: its exit code.
      output: its stdout, and its stderr if it failed.
      seconds: how long it ran.
    """

    number: int
    code: int
    output: str
    seconds: float


def side_by_side(commands: Sequence[Sequence[str]], jobs: int) -> Iterator[Ended]:
    """Runs commands, `jobs` of them at a time; yields each as it ends.

    They are ended when what they are run for is, by an error or a signal: SIGTERM is Ctrl-C here.
    """
    running: list[subprocess.Popen[str]] = []

    def one(number: int) -> Ended:
        started = time.perf_counter()
        process = subprocess.Popen(
            commands[number], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        output, errors = process.communicate()
        output += errors if process.returncode else ""
        return Ended(number, process.returncode, output, time.perf_counter() - started)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    with ThreadPoolExecutor(jobs) as threads:
        try:
            ended = as_completed([threads.submit(one, number) for number in range(len(commands))])
            yield from (future.result() for future in ended)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
