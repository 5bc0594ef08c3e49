"""The folder of a study, made its own by its config."""

from pathlib import Path

import filelock

from regjax import config as config_lib
from regjax.config import StudyConfig
from regjax.errors import InputError
from regjax.workdir import CONFIG, read_config, write


def place(path: str | Path) -> Path:
    """The folder that was given.

    Raises:
      InputError: no path.

    >>> place("")
    Traceback (most recent call last):
    ...
    regjax.errors.InputError: the workdir is '', expected the path of a folder
    """
    if not isinstance(path, (str, Path)) or not str(path).strip():
        raise InputError(f"the workdir is {path!r}, expected the path of a folder")
    return Path(path).expanduser()


def claim(workdir: Path, study: StudyConfig) -> None:
    """Makes a folder this study's own, with its `config.json` in it.

    Raises:
      InputError: another study's or run's folder, no folder, or one that cannot be written.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir '{workdir}' is a file; give a folder")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(workdir / ".lock"):  # others may come at the same time
            if not (workdir / CONFIG).exists():
                write(workdir / CONFIG, config_lib.to_json(study))
            elif differences := config_lib.differences(read_config(workdir, StudyConfig), study):
                raise InputError(
                    f"--workdir '{workdir}' holds a study with another config "
                    f"({'; '.join(differences)}); give another --workdir or the same config"
                )
        (workdir / "workers").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--workdir '{workdir}' cannot be written: {error.strerror or error}"
        ) from error
