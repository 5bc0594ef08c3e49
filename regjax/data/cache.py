"""Decoded arrays kept on disk, so that a second start does not decode again."""

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs


def folder() -> Path:
    """The cache folder: `REGJAX_CACHE_DIR`, else the user's cache folder of the system."""
    return Path(os.environ.get("REGJAX_CACHE_DIR") or platformdirs.user_cache_dir("regjax"))


def arrays(key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the arrays cached under `key`, made and kept if they are not there.

    A damaged file is made again. A cache that cannot be written is done without.

    Args:
      key: file name without suffix; it must change when the source does.
      make: computes the arrays.
    """
    path = folder() / f"{key}.npz"
    unreadable = contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile)
    with unreadable, path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
    made = make()
    with contextlib.suppress(OSError):
        _write(path, made)
    return made


def _write(path: Path, made: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=".npz")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **made)  # pyright: ignore[reportArgumentType]
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
