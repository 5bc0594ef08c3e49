"""Where trials are recorded: Optuna's journal file, a database, or a gRPC proxy before one.

Together with `ledger`, the only module that knows of Optuna's storages.
"""

import contextlib
import os
import random
import time
import warnings
from pathlib import Path
from typing import Any

import filelock
import optuna
from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend

from regjax.errors import InputError, one_line

JOURNAL = "journal.log"
ATTEMPTS = 5  # to open a database


class _JournalLock:
    """A lock that a killed process gives back at once, and that mends what it left half-written.

    (Optuna's own are files that stay behind for half a minute; a torn line would make the whole
    journal unreadable once another follows it.)
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = filelock.FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        with contextlib.suppress(FileNotFoundError), self._path.open("rb+") as file:
            _cut_torn_line(file)
        return True

    def release(self) -> None:
        self._lock.release()


def _cut_torn_line(file: Any) -> None:
    size = file.seek(0, os.SEEK_END)
    end = size
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        block = file.read(end - start)
        if (found := block.rfind(b"\n")) >= 0:
            end = start + found + 1
            break
        end = start
    if end != size:
        file.truncate(end)


def open_storage(url: str, workdir: Path, new: bool = True) -> BaseStorage:
    """Opens a study's storage.

    Args:
      url: "" for the journal file of the workdir, `journal:PATH`, a database's URL as SQLAlchemy
        has it (`sqlite:///PATH`, `postgresql+psycopg://...`), or Optuna's proxy `grpc://HOST:PORT`.
      workdir: the study's folder.
      new: whether a file that is not there is made.

    Raises:
      InputError: a URL of another kind, or a storage that cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kind, _, rest = url.partition(":")
    given = f"--storage '{without_password(url)}'" if url else f"'{workdir / JOURNAL}'"
    file = file_of(url, workdir)
    if file and file.name in ("", ":memory:"):
        raise InputError(f"{given} is in the memory of one process; give a file, sqlite:///PATH")
    if not new and file and not file.exists():
        raise InputError(
            f"'{file}' does not exist, so there are no trials; give the --storage of the study"
        )
    try:
        if file and kind in ("", "journal"):
            lock: Any = _JournalLock(file)  # in the form of Optuna's, whose base is private
            backend = JournalFileBackend(str(file), lock_obj=lock)
            return optuna.storages.JournalStorage(backend)
        if kind == "grpc":
            host, _, port = rest.removeprefix("//").partition(":")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # experimental, says Optuna
                proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port or 13000))
                proxy.wait_server_ready(timeout=20)
            return proxy
        if "://" in url:
            return _database(url)
    except Exception as error:  # each database's driver has its own
        check = "check that it is a whole journal of Optuna's, and that it may be written"
        if kind not in ("", "journal"):
            check = "check that it is there, that it may be written, and that its driver is "
            check += "installed (extra 'storages')"
        raise InputError(f"{given} cannot be used ({one_line(error)}); {check}") from error
    raise InputError(
        f"--storage '{url}' is of no known kind, expected journal:PATH, sqlite:///PATH, "
        "postgresql+psycopg://USER@HOST/NAME, grpc://HOST:PORT, or nothing for a file in --workdir"
    )


def file_of(url: str, workdir: Path) -> Path | None:
    """The file that a storage is, without a name if it is in memory; None: it is no file.

    >>> str(file_of("", Path("runs/study"))), file_of("grpc://host:13000", Path("runs/study"))
    ('runs/study/journal.log', None)
    """
    kind, _, rest = url.partition(":")
    if kind in ("", "journal"):
        return Path(rest).expanduser() if rest else workdir / JOURNAL
    if kind.partition("+")[0] == "sqlite":  # a driver may follow
        return Path(rest.partition("?")[0].removeprefix("//").removeprefix("/"))
    return None


def _database(url: str) -> BaseStorage:
    """Opens a database; where several make its tables at once, all but one fail at first."""
    import sqlalchemy.exc

    made_by_another = (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError)
    for _ in range(ATTEMPTS):
        with contextlib.suppress(*made_by_another):
            return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        time.sleep(random.uniform(0.2, 1.0))
    return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})


def without_password(url: str) -> str:
    """A URL as it may be shown.

    >>> without_password("postgresql://me:secret@host/db")
    'postgresql://me@host/db'
    """
    scheme, mark, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{user.partition(':')[0]}{at}{host}"
