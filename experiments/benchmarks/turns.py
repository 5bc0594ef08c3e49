"""Measures several programs in turn (A B A B ...), each in its own process, the others idle."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

# Before each turn: the last one's threads may still spin, waiting for more work.
_PAUSE = 0.3

# From a setting to a function that does the work once and may return something about it.
Make = Callable[[Any], Callable[[], Any]]


class Turns(NamedTuple):
    """What one program did: seconds of its first run (compilation, warm-up) and of the others."""

    first: float
    seconds: list[float]
    result: Any  # of the last run


def _worker(pipe: Connection, make: Make, setting: Any) -> None:
    run = make(setting)
    while True:
        started = time.perf_counter()
        result = run()
        pipe.send((time.perf_counter() - started, result))
        if not pipe.recv():
            return


def in_turn(makes: Mapping[str, Make], setting: Any, repeats: int) -> dict[str, Turns]:
    """Runs every program once uncounted, then all of them in turn.

    Args:
      makes: by name; functions of a module, which a new process imports.
      setting: what each is given.
      repeats: counted runs of each.
    """
    context = multiprocessing.get_context("spawn")
    pipes, turns = {}, {}
    for name, make in makes.items():
        pipes[name], end = context.Pipe()
        context.Process(target=_worker, args=(end, make, setting), daemon=True).start()
        end.close()  # so that a worker that dies is noticed
        first, result = pipes[name].recv()
        turns[name] = Turns(first, [], result)
    for _ in range(repeats):
        for name, pipe in pipes.items():
            time.sleep(_PAUSE)
            pipe.send(True)
            seconds, result = pipe.recv()
            turns[name] = Turns(turns[name].first, [*turns[name].seconds, seconds], result)
    for pipe in pipes.values():
        pipe.send(False)
    return turns


def compared(turns: Mapping[str, Turns], ours: str, theirs: str) -> dict[str, Any]:
    """The median seconds of each, and the median and range of the ratios of neighbours."""
    pairs = zip(turns[ours].seconds, turns[theirs].seconds, strict=True)
    ratios = [a / b for a, b in pairs]
    return {
        "seconds": {name: statistics.median(turn.seconds) for name, turn in turns.items()},
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "repeats": len(ratios),
    }
