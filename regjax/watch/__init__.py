"""Watching a run: what each epoch gave goes to TensorBoard, Weights & Biases or a file.

Off by default. It looks at the run between its epochs and changes none of its numbers, so it is
no part of the config: a run may be watched today and not tomorrow.
"""

from regjax.watch.options import OFF, Watch, parse
from regjax.watch.watching import watching

__all__ = ["OFF", "Watch", "parse", "watching"]
