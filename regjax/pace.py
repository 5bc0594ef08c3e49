"""How many updates to ask of the device at once."""

import contextlib
import time
from collections.abc import Iterator


class Pace:
    """Chooses calls that last about a second: rarely enough to cost nothing, and to be heard.

    Attributes:
      steps: updates of the next call.

    >>> pace = Pace()
    >>> with pace.timing(1):
    ...     pass
    >>> pace.steps > 1
    True
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self.steps = 1
        self._seconds = seconds

    @contextlib.contextmanager
    def timing(self, steps: int) -> Iterator[None]:
        """Learns from a call of so many updates."""
        started = time.perf_counter()
        yield
        each = (time.perf_counter() - started) / steps
        self.steps = max(1, int(self._seconds / each))
