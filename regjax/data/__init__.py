"""Data sets: loaded as a `Pool`, divided into named splits, handed on as arrays."""

import math

from regjax.config import DataConfig
from regjax.data import splits, stream
from regjax.data.pool import Pool
from regjax.data.splits import Data
from regjax.data.stream import Stored
from regjax.errors import InputError, did_you_mean

__all__ = ["Data", "Pool", "Stored", "draw", "load"]


def draw(pool: Pool | Stored, config: DataConfig, seed: int) -> Data:
    """Divides a data set into four splits; see `splits.draw` and `stream.draw`."""
    if isinstance(pool, Stored):
        return stream.draw(pool, config, seed)
    return splits.draw(pool, config, seed)


def load(config: DataConfig) -> Pool | Stored:
    """Loads a data set, or opens one that is to be streamed.

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
    if config.stream == "always" and source != "tfds":
        raise InputError(
            f"data.stream is 'always', but {name} is read into memory; only tfds:NAME is streamed, "
            "so set data.stream to auto"
        )
    if source == "digits" and not rest:
        from regjax.data import digits

        return digits.load()
    if source == "npz" and rest:
        from regjax.data import npz

        return npz.load(rest, regression)
    if source == "tfds" and rest:
        from regjax.data import tfds

        most = {"always": -1.0, "never": math.inf, "auto": config.memory * 2**30}[config.stream]
        return tfds.load(rest, config.data_dir, config.manual_dir, most)
    if source == "csv" and rest:
        from regjax.data import csv

        return csv.load(rest, config.target, config.missing, regression)
    hint = did_you_mean(name, ("digits", "tfds:mnist", "npz:", "csv:"))
    raise InputError(
        f"data.name is '{name}', expected digits, tfds:NAME (a TFDS set, such as tfds:mnist), "
        f"npz:PATH (a file with arrays x and y) or csv:PATH (a table){hint}"
    )
