"""Data sets: loaded as a `Pool`, divided into named splits, handed on as arrays."""

from regjax.data.pool import Pool
from regjax.data.splits import Data, draw
from regjax.errors import InputError, did_you_mean

__all__ = ["Data", "Pool", "draw", "load"]


def load(name: str, data_dir: str = "", manual_dir: str = "") -> Pool:
    """Loads a data set by name.

    Args:
      name: `digits`, `tfds:NAME` or `npz:PATH`.
      data_dir: for TFDS, where prepared sets are kept; "" for TFDS's own default.
      manual_dir: for TFDS, a folder with the original files.

    Raises:
      InputError: unknown name, or data that cannot be used.

    >>> load("digits").images.shape
    (1797, 8, 8, 1)
    """
    source, _, rest = name.partition(":")
    if source == "digits" and not rest:
        from regjax.data import digits

        return digits.load()
    if source == "npz" and rest:
        from regjax.data import npz

        return npz.load(rest)
    if source == "tfds" and rest:
        from regjax.data import tfds

        return tfds.load(rest, data_dir, manual_dir)
    hint = did_you_mean(name, ("digits", "tfds:mnist", "npz:"))
    raise InputError(
        f"data.name is '{name}', expected digits, tfds:NAME (a TFDS set, such as tfds:mnist) or "
        f"npz:PATH (a file with arrays x and y){hint}"
    )
