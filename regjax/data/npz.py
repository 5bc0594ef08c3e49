"""A user's own data: a NumPy `.npz` file with arrays `x` and `y`."""

import zipfile
from pathlib import Path

import numpy as np

from regjax.data.narrowing import narrowed
from regjax.data.pool import Pool
from regjax.errors import InputError, one_line


def load(path: str, regression: bool = False) -> Pool:
    """Reads `x` and `y` from an npz file.

    Args:
      path: file with `x`, `(N, F)` features, `(N, H, W)` or `(N, H, W, C)` images, any real
        dtype; and `y`, `(N,)` integers 0 to K − 1, every class present. Images of uint8 are scaled
        from 0 to 255, whatever they hold, all else from what the training split holds. Nothing is
        unpickled.
      regression: whether `y` is numbers, of any real dtype, in place of classes.

    Raises:
      InputError: no such file, not npz, arrays that cannot be used, or numbers that float32 cannot
        tell apart.
    """
    arrays = _read(path)
    images = _inputs(arrays["x"], path)
    if arrays["y"].shape != (len(images),):
        raise InputError(
            f"npz file '{path}': y has shape {arrays['y'].shape}, expected ({len(images)},) as x"
        )
    labels, classes = (_numbers if regression else _classes)(arrays["y"], path)
    # Of images these are pixels; a table's columns may be small numbers that happen to fit.
    value_range = (0.0, 255.0) if images.dtype == np.uint8 and images.ndim > 2 else None
    return Pool(f"npz:{path}", images, labels, None, None, classes, value_range)


def _read(path: str) -> dict[str, np.ndarray]:
    file = Path(path).expanduser()
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"npz file '{path}' {what}; give the path of a file made by numpy.savez")
    if not zipfile.is_zipfile(file):
        raise InputError(
            f"'{path}' is not an npz file, or cut short; save it with numpy.savez(path, x=, y=)"
        )
    try:
        with file.open("rb") as opened:  # np.load leaves a file that it cannot read open
            archive = np.load(opened, allow_pickle=False)
            missing = [name for name in ("x", "y") if name not in archive.files]
            if missing:
                raise InputError(
                    f"npz file '{path}' has no array '{missing[0]}' (it has "
                    f"{', '.join(archive.files) or 'none'}); save it with numpy.savez(path, x=, y=)"
                )
            arrays = {name: archive[name] for name in ("x", "y")}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError("x or y is no array")
            return arrays
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            reason = "it holds Python objects; save plain numeric arrays"
        else:
            reason = f"it cannot be read as npz: {one_line(error)}"
        raise InputError(f"npz file '{path}': {reason}") from error
    except MemoryError as error:
        raise InputError(f"npz file '{path}' does not fit into memory") from error


def _inputs(x: np.ndarray, path: str) -> np.ndarray:
    if x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
        raise InputError(
            f"npz file '{path}': x has shape {x.shape}, expected (N, features), (N, H, W) or "
            "(N, H, W, C)"
        )
    if len(x) == 0:
        raise InputError(f"npz file '{path}': x has no rows; there is nothing to train on")
    if x.dtype.kind not in "buif":
        raise InputError(f"npz file '{path}': x has dtype {x.dtype}, expected real numbers")
    if x.dtype != np.uint8 and x.ndim > 2:
        x = narrowed(x.reshape(-1, 1), lambda _: f"npz file '{path}': x").reshape(x.shape)
    elif x.dtype != np.uint8:
        x = narrowed(x, lambda i: f"npz file '{path}': column {i} of x")
    if not np.isfinite(x).all():
        bad = int(np.argmin(np.isfinite(x.reshape(len(x), -1)).all(axis=1)))
        raise InputError(
            f"npz file '{path}': x has NaN or infinite values as float32, the first in row {bad}; "
            "remove or fill them"
        )
    return x[..., None] if x.ndim == 3 else x


def _numbers(y: np.ndarray, path: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if y.dtype.kind not in "uif":
        raise InputError(f"npz file '{path}': y has dtype {y.dtype}, expected real numbers")
    y = narrowed(y[:, None], lambda _: f"npz file '{path}': y")[:, 0]
    if not np.isfinite(y).all():
        raise InputError(
            f"npz file '{path}': y has NaN or infinite values as float32, the first in row "
            f"{int(np.argmin(np.isfinite(y)))}; remove these rows"
        )
    return y, ()


def _classes(y: np.ndarray, path: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if y.dtype.kind not in "ui":
        hint = "; set data.task to regression to predict numbers" if y.dtype.kind == "f" else ""
        raise InputError(
            f"npz file '{path}': y has dtype {y.dtype}, expected integer class labels{hint}"
        )
    classes = np.unique(y)
    if len(classes) < 2:
        raise InputError(f"npz file '{path}': y has one class only, {classes[0]}; expected two")
    if classes[0] != 0 or classes[-1] != len(classes) - 1:
        raise InputError(
            f"npz file '{path}': labels out of range: {len(classes)} different values from "
            f"{classes[0]} to {classes[-1]}, expected 0 to {len(classes) - 1}, each present; "
            "renumber them, e.g. with numpy.unique(y, return_inverse=True)"
        )
    if len(classes) > len(y) / 2:
        raise InputError(
            f"npz file '{path}': y has {len(classes)} classes in {len(y)} rows; it is no class, "
            "set data.task to regression to predict a number"
        )
    return y.astype(np.int32), tuple(map(str, classes))
