"""regjax: which regularization helps, and how much, answered in JAX.

Import the part you need (`from regjax import penalties, normalization`); importing `regjax` itself
loads nothing else, so that the command line can answer before JAX is up.
"""

from typing import Any

__version__ = "0.1.0"


def study(config: Any, workdir: str, storage: str = "") -> Any:
    """Runs a study as `regjax study` does, or goes on with it.

    Args:
      config: a `regjax.config.StudyConfig`.
      workdir: its folder.
      storage: where trials are recorded; by default in a file there.

    Returns:
      A `regjax.studies.result.StudyResult`; its `table`, `trials` and `confirmation` are pandas
      DataFrames.

    Raises:
      regjax.errors.InputError: a study that cannot work.

    >>> from regjax.config import StudyConfig
    >>> study(StudyConfig(seed=-1), "nowhere")
    Traceback (most recent call last):
    ...
    regjax.errors.InputError: seed is -1, expected a number in [0, 2147483647]
    """
    from regjax.studies import coordinator

    return coordinator.run(config, workdir, storage)
