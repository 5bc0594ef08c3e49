"""The folder of a study, made its own by its config."""

from pathlib import Path

import filelock

from regjax import config as config_lib
from regjax.config import StudyConfig
from regjax.errors import InputError
from regjax.studies.storage import JOURNAL, file_of, without_password
from regjax.workdir import CONFIG, read_config, write

STORAGE = "storage.txt"  # where its trials are, if not in the folder


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


def claim(workdir: Path, study: StudyConfig, storage: str = "") -> None:
    """Makes a folder this study's own, with its `config.json` in it.

    Raises:
      InputError: another study's or run's folder, one whose trials are in another storage, no
        folder, or one that cannot be written.
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
            _check_storage(workdir, storage)
        (workdir / "workers").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--workdir '{workdir}' cannot be written: {error.strerror or error}"
        ) from error


def _check_storage(workdir: Path, given: str) -> None:
    """Finds a storage forgotten, or given too late: all that was trained would be trained again."""
    path, journal = workdir / STORAGE, workdir / JOURNAL
    file = file_of(given, workdir)
    elsewhere = file is None or file.resolve() != journal.resolve()
    if elsewhere and journal.exists():
        raise InputError(
            f"--workdir '{workdir}' has its trials in '{JOURNAL}', not in --storage "
            f"'{without_password(given)}'; leave --storage out, or give another --workdir"
        )
    if not elsewhere and path.exists():
        raise InputError(
            f"--workdir '{workdir}' has its trials in --storage '{path.read_text().strip()}'; "
            "give it again, or another --workdir"
        )
    if elsewhere:
        write(path, without_password(given) + "\n")
