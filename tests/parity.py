"""Comparison with the owner of a convention, on record: the source of the README's table.

`compare` asserts that two trees are equal up to a norm-wise relative error and notes the largest
error seen for each (block, owner, dtype). `pytest --parity-table=README.md` puts the table there.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

OPERATION = {"float32": 2e-6, "float64": 1e-12}  # one operation
TWENTY_STEPS = {"float32": 1e-5, "float64": 1e-12}  # an optimizer on one sequence of gradients

START, END = "<!-- parity -->", "<!-- /parity -->"

# (block, owner) -> dtype -> largest error
RECORD: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)


def compare(
    block: str,
    owner: str,
    ours: Any,
    theirs: Any,
    bars: dict[str, float] = OPERATION,
    scale: Callable[[np.ndarray], float] | None = None,
) -> None:
    """Asserts ‖ours − theirs‖ / ‖theirs‖ ≤ the bar of our dtype, for every leaf.

    Args:
      block: our public name, as "normalization.layer_norm".
      owner: whose convention it is, as "torch.nn.LayerNorm".
      ours, theirs: arrays or trees of arrays of the same shapes.
      bars: by dtype name.
      scale: what the error is relative to, given their leaf; by default its norm.
    """
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(ours) == len(theirs), (len(ours), len(theirs))
    for a, b in zip(map(np.asarray, ours), map(np.asarray, theirs), strict=True):
        assert a.shape == b.shape, (a.shape, b.shape)
        dtype = str(a.dtype)
        a, b = a.astype(np.float64), b.astype(np.float64)
        size = float(scale(b) if scale else np.linalg.norm(b))
        difference = float(np.linalg.norm(a - b))
        error = difference / size if size > 0 else difference
        assert error <= bars[dtype], f"{block} differs from {owner} by {error:.2e} in {dtype}"
        errors = RECORD[block, owner]
        errors[dtype] = max(errors.get(dtype, 0.0), error)


def merge(notes: list[tuple[str, str, str, float]]) -> None:
    """Adds another process's notes to this one's."""
    for block, owner, dtype, error in notes:
        errors = RECORD[block, owner]
        errors[dtype] = max(errors.get(dtype, 0.0), error)


def notes() -> list[tuple[str, str, str, float]]:
    """The record as plain values, which travel between processes."""
    return [
        (*key, dtype, error) for key, errors in RECORD.items() for dtype, error in errors.items()
    ]


def table() -> str:
    """The record as a table in Markdown."""
    lines = ["| block | equals | float32 | float64 |", "|---|---|---|---|"]
    for (block, owner), errors in sorted(RECORD.items()):
        cells = [f"{errors[d]:.0e}" if d in errors else "" for d in ("float32", "float64")]
        lines.append(f"| `{block}` | {owner} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def write_table(path: Path) -> None:
    """Writes the table between the two markers of a page."""
    before, after = path.read_text().split(START)[0], path.read_text().split(END)[1]
    path.write_text(f"{before}{START}\n{table()}\n{END}{after}")
