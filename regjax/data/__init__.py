"""Data sets: loaded as a `Pool`, divided into named splits, handed on as arrays."""

from regjax.config import DataConfig
from regjax.data.pool import Pool
from regjax.data.splits import Data, draw
from regjax.errors import InputError, did_you_mean

__all__ = ["Data", "Pool", "draw", "load"]


def load(config: DataConfig) -> Pool:
    """Loads a data set.

    Args:
      config: its name, `digits`, `tfds:NAME`, `npz:PATH` or `csv:PATH`, and what the source needs
        to find and read it.

    Raises:
      InputError: unknown name, or data that cannot be used.

    >>> load(DataConfig("digits")).images.shape
    (1797, 8, 8, 1)
    """
    name, regression = config.name, config.task == "regression"
    source, _, rest = name.partition(":")
    if regression and source in ("digits", "tfds"):
        raise InputError(
            f"data.task is 'regression', but {name} has classes; predict a number of "
            "your own data, csv:PATH or npz:PATH"
        )
    if source == "digits" and not rest:
        from regjax.data import digits

        return digits.load()
    if source == "npz" and rest:
        from regjax.data import npz

        return npz.load(rest, regression)
    if source == "tfds" and rest:
        from regjax.data import tfds

        return tfds.load(rest, config.data_dir, config.manual_dir)
    if source == "csv" and rest:
        from regjax.data import csv

        return csv.load(rest, config.target, config.missing, regression)
    hint = did_you_mean(name, ("digits", "tfds:mnist", "npz:", "csv:"))
    raise InputError(
        f"data.name is '{name}', expected digits, tfds:NAME (a TFDS set, such as tfds:mnist), "
        f"npz:PATH (a file with arrays x and y) or csv:PATH (a table){hint}"
    )
