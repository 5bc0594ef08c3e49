"""A user's own table: a CSV file with a header, one column of which is what to predict."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from regjax.data.narrowing import narrowed
from regjax.data.pool import Pool
from regjax.errors import InputError, did_you_mean, one_line

DELIMITERS = ",;\t|"
NO_TEXT = ("", "NaN", "nan")  # among numbers also NA, None, null and all else that pandas knows
MOST_CATEGORIES = 100  # in a column of text; more is a name or free text, not a category


def load(path: str, target: str, missing: str, regression: bool = False) -> Pool:
    """Reads a table.

    Numbers are features as they are. A column of text becomes one feature a category, 0 or 1, in
    alphabetical order; where values are missing in it, one more feature says so. An empty cell or
    NaN is missing; among numbers also what pandas takes for it (NA, None, null, ...), which among
    text is a category.

    Args:
      path: file with a header; the delimiter (comma, semicolon, tab, ...) is found out.
      target: the column to predict: classes, text or whole numbers.
      missing: `refuse` missing values, or `impute`: those in numbers stay NaN here, and are filled
        with the median of the training split when the table is divided.
      regression: whether the target is numbers in place of classes.

    Raises:
      InputError: no such file or column, no table, missing values that are refused, a target
        that is not of its kind, text with too many different values, or numbers that float32
        cannot tell apart.
    """
    table = _read(path)
    column = _target(table, target, path)
    labels, classes = (_numbers if regression else _classes)(column, path)
    columns = [_feature(table[name], missing, path) for name in table.columns if name != target]
    if not columns:
        raise InputError(
            f"csv file '{path}' has no column beside '{target}'; nothing to learn from"
        )
    features = np.concatenate(columns, axis=1).astype(np.float32)
    if np.isinf(features).any():
        raise InputError(f"csv file '{path}' has infinite values as float32; remove or clip them")
    return Pool(f"csv:{path}", features, labels, None, None, classes, None)


def _read(path: str) -> Any:
    import pandas as pd

    file = Path(path).expanduser()
    if not file.is_file():
        what = "is no file" if file.exists() else "does not exist"
        raise InputError(f"csv file '{path}' {what}; give the path of a table with a header")
    try:
        with file.open(encoding="utf-8-sig") as opened:
            head = opened.readline()
        delimiter = max(DELIMITERS, key=head.count)
        options: Any = {"sep": delimiter, "encoding": "utf-8-sig", "skipinitialspace": True}
        with warnings.catch_warnings():  # of rows longer than the header, which it would cut
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(file, index_col=False, **options)
            if text := [n for n in table if table[n].dtype.kind not in "iufb" and table[n].hasnans]:
                only = {"keep_default_na": False, "na_values": NO_TEXT, "dtype": str}
                table[text] = pd.read_csv(file, index_col=False, **options, **only)[text]
        names = pd.read_csv(file, header=None, nrows=1, dtype=str, **options).iloc[0].dropna()
    except (ValueError, OSError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InputError(
            f"csv file '{path}' cannot be read as a table: {one_line(error)}; save it as UTF-8 "
            "text, a header first, with as many fields in every row"
        ) from error
    if len(twice := names[names.duplicated()]):
        raise InputError(f"csv file '{path}' has two columns '{twice.iloc[0]}'; rename one")
    if not len(table):
        raise InputError(f"csv file '{path}' has no rows; there is nothing to train on")
    return table


def _target(table: Any, target: str, path: str) -> Any:
    names = [str(name) for name in table.columns]
    if target not in names:
        hint = did_you_mean(target, names) if target else ""
        given = f"data.target is '{target}'" if target else "data.target is missing"
        raise InputError(
            f"{given}, expected a column of csv file '{path}': {', '.join(names)}{hint}"
        )
    column = table[target]
    if column.isna().any():
        row = int(np.argmax(column.isna().to_numpy()))
        raise InputError(f"csv file '{path}': '{target}' has no value in row {row + 1}; remove it")
    return column


def _numbers(column: Any, path: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if column.dtype.kind not in "iuf":
        raise InputError(
            f"csv file '{path}': '{column.name}' holds text, such as {str(column.iloc[0])!r}; "
            "data.task 'regression' predicts numbers"
        )
    values = _narrowed(column, path)[:, 0]
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise InputError(
            f"csv file '{path}': '{column.name}' is infinite as float32 in row {row + 1}; remove it"
        )
    return values, ()


def _classes(column: Any, path: str) -> tuple[np.ndarray, tuple[str, ...]]:
    target = column.name
    if column.dtype.kind == "f" and (column % 1 != 0).any():
        first = column[column % 1 != 0].iloc[0]
        raise InputError(
            f"csv file '{path}': '{target}' has fractions, such as {first}, but classes are text "
            "or whole numbers; set data.task to regression to predict numbers"
        )
    if column.dtype.kind in "fu" and (beyond := column[column.abs() >= 2**63]).size:
        raise InputError(
            f"csv file '{path}': '{target}' has whole numbers beyond 64 bits, such as "
            f"{beyond.iloc[0]}; renumber the classes, or write them as text"
        )
    values, labels = np.unique(column.to_numpy().astype(_plain(column)), return_inverse=True)
    if len(values) < 2:
        raise InputError(f"csv file '{path}': '{target}' has one class only, {values[0]}")
    if len(values) > len(column) / 2:
        raise InputError(
            f"csv file '{path}': '{target}' has {len(values)} classes in {len(column)} rows; it is "
            "no class, set data.task to regression to predict a number"
        )
    return labels.astype(np.int32), tuple(str(value) for value in values)


def _plain(column: Any) -> Any:
    return {"f": np.int64, "i": np.int64, "u": np.int64}.get(column.dtype.kind, str)


def _feature(column: Any, missing: str, path: str) -> np.ndarray:
    """One column's features, `(N, 1)` for numbers, `(N, categories)` for text."""
    gone = column.isna().to_numpy()
    if gone.any() and missing == "refuse":
        raise InputError(
            f"csv file '{path}': '{column.name}' lacks {gone.sum()} values, the first in row "
            f"{int(np.argmax(gone)) + 1}; set data.missing to impute, or fill them"
        )
    if column.dtype.kind in "iufb":
        return _narrowed(column, path)
    text = np.where(gone, "", column.to_numpy().astype(str))
    categories = np.unique(text[~gone])
    if len(categories) > MOST_CATEGORIES:
        raise InputError(
            f"csv file '{path}': '{column.name}' has {len(categories)} different texts, more than "
            f"{MOST_CATEGORIES} categories; drop the column, or group them"
        )
    ones = text[:, None] == categories[None, :]
    return np.concatenate([ones, gone[:, None]] if gone.any() else [ones], axis=1)


def _narrowed(column: Any, path: str) -> np.ndarray:
    return narrowed(column.to_numpy()[:, None], lambda _: f"csv file '{path}': '{column.name}'")
