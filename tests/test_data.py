"""Splits never overlap and follow the seed; a user's npz is checked before it is used."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regjax import data as data_lib
from regjax.config import DataConfig
from regjax.data import npz, splits
from regjax.data.pool import Pool
from regjax.errors import InputError


def pool(labels: Any, test: int = 0) -> Pool:
    """A pool whose images are their own index."""
    labels = np.asarray(labels, np.int32)
    images = np.arange(len(labels), dtype=np.float32)[:, None]
    ours = (-1 - np.arange(test, dtype=np.float32)[:, None], np.zeros(test, np.int32))
    own = ours if test else (None, None)
    return Pool("set", images, labels, *own, ("a", "b"), None)


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    digits, theirs = data_lib.load(DataConfig("digits")), load_digits()
    np.testing.assert_array_equal(digits.images[..., 0], theirs.images)
    np.testing.assert_array_equal(digits.labels, theirs.target)


def drawn(data: data_lib.Data) -> dict[str, list[float]]:
    return {name: split.images.ravel().tolist() for name, split in data.splits.items()}


@settings(max_examples=50)
@given(
    labels=st.lists(st.integers(0, 3), min_size=10, max_size=80),
    valid=st.integers(0, 4),
    select=st.floats(0.0, 0.3),
    stratified=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_splits_partition_the_pool(
    labels: list[int], valid: int, select: float, stratified: bool, seed: int
) -> None:
    config = DataConfig(valid=valid, select=select, test=0.1, stratified=stratified)
    config.scaling = "none"
    data = data_lib.draw(pool(labels), config, seed)
    indices = [index for part in drawn(data).values() for index in part]
    assert sorted(indices) == list(range(len(labels)))
    assert len(data.splits["valid"].labels) == valid
    again = data_lib.draw(pool(labels), config, seed)
    assert again.fingerprint == data.fingerprint
    for split in data.splits.values():
        np.testing.assert_array_equal(
            split.labels, np.asarray(labels)[split.images.ravel().astype(int)]
        )


def test_stratified_splits_hold_every_class_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [500, 300, 20])
    data = data_lib.draw(pool(labels), DataConfig(valid=0.1, select=0.1, test=0.2), 3)
    for split in data.splits.values():
        share = len(split.labels) / len(labels)
        np.testing.assert_allclose(
            np.bincount(split.labels), np.array([500, 300, 20]) * share, atol=1
        )


def test_seed_and_split_seed() -> None:
    base = pool([0, 1] * 50)
    first, second = (data_lib.draw(base, DataConfig(), seed) for seed in (0, 1))
    assert drawn(first) != drawn(second)
    fixed = [data_lib.draw(base, DataConfig(split_seed=7), seed) for seed in (0, 1)]
    assert drawn(fixed[0]) == drawn(fixed[1])


def test_a_sets_own_test_split_stays_apart() -> None:
    data = data_lib.draw(pool([0, 1] * 20, test=10), DataConfig(test=-1, valid=5), 0)
    assert min(drawn(data)["train"] + drawn(data)["valid"]) >= 0
    assert sorted(drawn(data)["test"]) == list(range(-10, 0))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(train=90, valid=20), "splits ask for"),
        (DataConfig(train=-1, valid=-1), "data.valid and data.train are both -1"),
        (DataConfig(train=1.5), "data.train is 1.5, expected a whole number"),
        (DataConfig(train=-0.5), "data.train is -0.5, expected a count, a share below 1, or -1"),
        (DataConfig(train=0), "no examples left to train on"),
        (DataConfig(train=-1, test=0.5, valid=0.3, select=0.2), "no examples left to train on"),
    ],
)
def test_impossible_sizes(config: DataConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data_lib.draw(pool([0, 1] * 50), config, 0)


@pytest.mark.parametrize(
    ("scaling", "low", "high"), [("symmetric", -1, 1), ("unit", 0, 1), ("none", 0, 16)]
)
def test_scaling_maps_the_range(scaling: str, low: float, high: float) -> None:
    data = data_lib.draw(data_lib.load(DataConfig("digits")), DataConfig(scaling=scaling), 0)
    seen = (data.splits["train"].images - data.shift) * data.scale
    np.testing.assert_allclose([seen.min(), seen.max()], [low, high], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize(("scaling", "low"), [("symmetric", -1), ("unit", 0)])
def test_a_table_of_whole_numbers_is_scaled_by_column(
    tmp_path: Path, scaling: str, low: float, dtype: Any
) -> None:
    """Of uint8 too, where an image has 0 to 255; 200 + 250 does not fit into one."""
    x = np.stack([np.arange(40) % 2, 200 + np.arange(40) % 51, np.full(40, 7)], axis=1)
    config = DataConfig(f"npz:{tmp_path / 'd.npz'}", train=-1, scaling=scaling)
    np.savez(tmp_path / "d.npz", x=x.astype(dtype), y=np.arange(40) % 2)
    data = data_lib.draw(data_lib.load(config), config, 0)
    seen = (data.splits["train"].images - data.shift) * data.scale
    np.testing.assert_allclose(seen.min(0), [low, low, 0], atol=1e-6)
    np.testing.assert_allclose(seen.max(0), [1, 1, 0], atol=1e-6)
    assert seen.dtype == np.float32
    np.savez(tmp_path / "d.npz", x=x.reshape(40, 3, 1).astype(np.uint8), y=np.arange(40) % 2)
    data = data_lib.draw(data_lib.load(config), config, 0)
    assert (data.shift, data.scale) == splits.of_range(0, 255, scaling)


def test_standardizing_uses_the_training_split_alone() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal([1, 100], [2, 0.1], (500, 2)).astype(np.float32)
    made = Pool("x", x, rng.integers(0, 2, 500).astype(np.int32), None, None, ("a", "b"), None)
    data = data_lib.draw(made, DataConfig(scaling="standardize"), 0)
    seen = (data.splits["train"].images - data.shift) * data.scale
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-3)


X, Y = np.zeros((6, 4), np.float32), np.array([0, 1, 2, 0, 1, 2])
NAN, OBJECTS = X.copy(), np.array([{}] * 6, dtype=object)
NAN[3, 2] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "has no array 'y' (it has x)"),
        ({"x": OBJECTS, "y": Y}, "it holds Python objects"),
        ({"x": NAN, "y": Y}, "NaN or infinite values as float32, the first in row 3"),
        ({"x": X.astype(np.float64) + 1e300, "y": Y}, "NaN or infinite values as float32"),
        ({"x": X[:0], "y": Y[:0]}, "x has no rows"),
        ({"x": X[0], "y": Y}, "x has shape (4,), expected"),
        ({"x": X.astype(complex), "y": Y}, "dtype complex128, expected real numbers"),
        ({"x": X.astype(str), "y": Y}, "expected real numbers"),
        ({"x": X, "y": Y[:5]}, "y has shape (5,), expected (6,)"),
        ({"x": X, "y": Y[:, None]}, "y has shape (6, 1), expected (6,)"),
        ({"x": X, "y": Y.astype(float)}, "expected integer class labels"),
        ({"x": X, "y": Y - 1}, "labels out of range: 3 different values from -1 to 1"),
        ({"x": X, "y": Y * 10**9}, "labels out of range"),
        ({"x": X, "y": Y * 0}, "one class only"),
        ({"x": X, "y": np.arange(6)}, "6 classes in 6 rows"),
    ],
)
def test_npz_that_cannot_be_used(tmp_path: Path, arrays: dict, message: str) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, **arrays)
    with pytest.raises(InputError) as caught:
        npz.load(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


TIMES = 1_700_000_000 + 30 * np.arange(40)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.stack([np.arange(40), TIMES], 1)}, "column 1 of x"),
        ({"x": TIMES.reshape(10, 2, 2)}, "x"),
        ({"x": np.arange(40.0)[:, None], "y": TIMES / 1.0}, "y"),
    ],
)
def test_numbers_that_float32_cannot_tell_apart_are_refused(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    """Of times 30 seconds apart a quarter is left; an offset less, all of them."""
    message = f": {said} has values .* different ones are .*; subtract an offset, such as 17000000"
    labels = {"y": np.arange(len(arrays["x"])) % 2}
    np.savez(tmp_path / "d.npz", **labels | arrays)
    with pytest.raises(InputError, match=message):
        npz.load(str(tmp_path / "d.npz"), regression="y" in arrays)
    less = {
        name: np.where(array > 2**24, array - TIMES[0], array) for name, array in arrays.items()
    }
    np.savez(tmp_path / "d.npz", **labels | less)
    assert npz.load(str(tmp_path / "d.npz"), regression="y" in arrays)
    name = table(tmp_path / "t.csv", a=TIMES)
    with pytest.raises(InputError, match=r"'a' has .* 40 different ones are 10 as float32"):
        data_lib.load(DataConfig(name, target="label"))
    wide = table(tmp_path / "t.csv", a=np.append(TIMES[1:], 0))  # told apart where it matters
    assert data_lib.load(DataConfig(wide, target="label"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"not a zip", None])
def test_npz_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "data.npz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match="npz file"):
        npz.load(str(file))


def test_npz_torn_in_the_middle(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    np.savez_compressed(file, x=np.random.default_rng(0).normal(size=(60, 4)), y=np.tile(Y, 10))
    whole = file.read_bytes()
    for size in (len(whole) // 3, len(whole) // 2, len(whole) - 30):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError, match="npz file"):
            npz.load(str(file))
    broken = bytearray(whole)
    broken[len(whole) // 4] ^= 0xFF
    file.write_bytes(broken)
    with pytest.raises(InputError, match="npz file"):
        npz.load(str(file))


def test_a_single_array_is_not_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match="is not an npz file"):
        npz.load(str(tmp_path / "x.npy"))


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int16, bool])
def test_npz_that_can_be_used(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones(shape, dtype), y=Y.astype(np.uint8))
    loaded = data_lib.load(DataConfig(f"npz:{tmp_path / 'd.npz'}"))
    assert loaded.images.shape == (shape if len(shape) != 3 else (*shape, 1))
    assert loaded.classes == ("0", "1", "2")


@pytest.mark.parametrize("name", ["digit", "npz", "npz:", "tfds:", "digits:x", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(InputError, match="expected digits, tfds:NAME"):
        data_lib.load(DataConfig(name))


def test_resolve_counts_shares_and_rest() -> None:
    assert splits.resolve({"a": 0.25, "b": 1, "c": -1, "d": 0}, 8, "x") == {
        "a": 2,
        "b": 1,
        "c": 5,
        "d": 0,
    }


def test_shares_of_all_are_all() -> None:
    """Each rounded by itself, they would be too many of a quarter of these."""
    sizes = {"test": 0.3, "select": 0.1, "valid": 0.1, "train": 0.5}
    for available in range(20, 200):
        counts = splits.resolve(sizes, available, "x")
        assert sum(counts.values()) == available
        assert all(abs(counts[name] - sizes[name] * available) <= 1 for name in sizes)
    equal = dict.fromkeys(sizes, 0.25)
    assert list(splits.resolve(equal, 6, "x").values()) == [2, 1, 1, 2]


def table(path: Path, rows: int = 40, **columns: Any) -> str:
    import pandas as pd

    rng = np.random.default_rng(0)
    whole = {"a": rng.normal(size=rows), "kind": ["x", "y"] * (rows // 2), **columns}
    whole.setdefault("label", [0, 1] * (rows // 2))
    pd.DataFrame(whole).to_csv(path, index=False)
    return f"csv:{path}"


def test_csv_numbers_categories_and_classes(tmp_path: Path) -> None:
    label = ["no", "yes"] * 20
    name = table(tmp_path / "t.csv", label=label, kind=["x", None, "y", "x"] * 10)
    loaded = data_lib.load(DataConfig(name, target="label", missing="impute"))
    assert loaded.images.shape == (40, 4)  # a, x, y, missing
    assert loaded.images[:4, 1:].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert loaded.classes == ("no", "yes")
    assert loaded.labels[:4].tolist() == [0, 1, 0, 1]


def test_csv_words_for_missing_are_categories_among_text(tmp_path: Path) -> None:
    rows = ["1,None,NA", "NA,brick,b", "3,,NA", "4,nan,b"] * 2
    (tmp_path / "t.csv").write_text("a,alley,label\n" + "\n".join(rows))
    name = f"csv:{tmp_path / 't.csv'}"
    loaded = data_lib.load(DataConfig(name, target="label", missing="impute"))
    np.testing.assert_array_equal(loaded.images[:4, 0], [1, np.nan, 3, 4])
    # None, brick, missing
    assert loaded.images[:4, 1:].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert loaded.classes == ("NA", "b")


@pytest.mark.parametrize("label", [2**63 + 5, 1e19])
def test_csv_classes_beyond_64_bits_are_refused(tmp_path: Path, label: float) -> None:
    name = table(tmp_path / "t.csv", label=[0, label] * 20)
    with pytest.raises(InputError, match="'label' has whole numbers beyond 64 bits, such as"):
        data_lib.load(DataConfig(name, target="label"))


def test_csv_with_a_delimiter_at_the_end_of_each_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,label\n" + "1,2,0,\n3,4,1,\n" * 2)
    pool = data_lib.load(DataConfig(f"csv:{tmp_path / 't.csv'}", target="label"))
    np.testing.assert_array_equal(pool.images, [[1, 2], [3, 4]] * 2)
    np.testing.assert_array_equal(pool.labels, [0, 1] * 2)


def test_csv_is_filled_and_scaled_by_its_training_split_alone(tmp_path: Path) -> None:
    values = np.arange(40.0)
    values[::3] = np.nan
    name = table(tmp_path / "t.csv", a=values, kind=range(40))
    config = DataConfig(name, target="label", missing="impute", scaling="standardize")
    drawn = data_lib.draw(data_lib.load(config), config, 0)
    train = drawn.splits["train"].images
    known = set(train[:, 0].tolist()) & set(values.tolist())
    median = np.median([v for v in train[:, 0] if v in values])
    for split in drawn.splits.values():
        gone = [row[0] for row in split.images if row[1] % 3 == 0]
        assert set(gone) <= {median}
    assert len(known) > 5
    scaled = (train - drawn.shift) * drawn.scale
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(0), 1, rtol=1e-4)


@pytest.mark.parametrize("scaling", ["symmetric", "unit"])
def test_a_tables_columns_are_scaled_by_their_own_ranges(scaling: str, tmp_path: Path) -> None:
    name = table(tmp_path / "t.csv", a=np.arange(40) * 1e6, kind=np.arange(40) * 1e-6)
    config = DataConfig(name, target="label", scaling=scaling)
    drawn = data_lib.draw(data_lib.load(config), config, 0)
    scaled = (drawn.splits["train"].images - drawn.shift) * drawn.scale
    low = -1 if scaling == "symmetric" else 0
    np.testing.assert_allclose((scaled.min(0), scaled.max(0)), ([low] * 2, [1] * 2), atol=1e-6)


def test_a_number_is_drawn_by_its_deciles_and_standardized_on_train(tmp_path: Path) -> None:
    values = np.random.default_rng(0).lognormal(9, 1, 400)
    name = table(tmp_path / "t.csv", label=values, rows=400)
    config = DataConfig(name, task="regression", target="label", valid=0.25, test=0.25)
    drawn = data_lib.draw(data_lib.load(config), config, 0)
    deciles = np.quantile(values, np.arange(0.1, 1, 0.1))
    for split in drawn.splits.values():
        counts = np.bincount(np.searchsorted(deciles, split.labels), minlength=10)
        assert np.ptp(counts) <= 1
    assert drawn.outputs == 1 and drawn.target_shift is not None
    scaled = (drawn.splits["train"].labels - drawn.target_shift) * drawn.target_scale
    np.testing.assert_allclose((scaled.mean(), scaled.std()), (0, 1), atol=1e-5)


def test_an_npz_of_numbers(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((40, 3))
    np.savez(tmp_path / "a.npz", x=x, y=x.sum(1))
    config = DataConfig(f"npz:{tmp_path / 'a.npz'}", task="regression")
    assert data_lib.load(config).labels.dtype == np.float32
    with pytest.raises(InputError, match=r"set data\.task to regression"):
        data_lib.load(DataConfig(config.name))
    with pytest.raises(InputError, match="digits has classes"):
        data_lib.load(DataConfig("digits", task="regression"))
    np.savez(tmp_path / "a.npz", x=x, y=np.ones(40))
    with pytest.raises(InputError, match="all 24 training examples have the target 1"):
        data_lib.draw(data_lib.load(config), config, 0)
    np.savez(tmp_path / "a.npz", x=x, y=np.full(40, np.nan))
    with pytest.raises(InputError, match="y has NaN"):
        data_lib.load(config)


BAD_TABLES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no target": ({}, {"target": ""}, "data.target is missing, expected a column of csv"),
    "target": ({}, {"target": "lable"}, "did you mean 'label'"),
    "missing": ({"a": [None, *range(39)]}, {}, "'a' lacks 1 values, the first in row 1"),
    "missing text": ({"kind": ["x", None] * 20}, {}, "'kind' lacks 20 values"),
    "target gone": ({"label": [1, None] * 20}, {}, "'label' has no value in row 2"),
    "fractions": ({"label": [0.5, 1] * 20}, {}, "has fractions, such as 0.5"),
    "one class": ({"label": [1] * 40}, {}, "one class only, 1"),
    "names": ({"label": [str(i) for i in range(40)]}, {}, "has 40 classes in 40 rows"),
    "text": ({"kind": [f"t{i}" for i in range(120)], "rows": 120}, {}, "120 different texts"),
    "no number": ({"label": list("ab") * 20}, {"task": "regression"}, "holds text, such as 'a'"),
    "no finite": ({"label": [1e300] * 40}, {"task": "regression"}, "is infinite as float32 in row"),
    "infinite": ({"a": [1e300, *range(39)]}, {}, "infinite values"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_refused(case: str, tmp_path: Path) -> None:
    columns, fields, message = BAD_TABLES[case]
    name = table(tmp_path / "t.csv", **columns)
    with pytest.raises(InputError, match=re.escape(message)):
        data_lib.load(DataConfig(name, **{"target": "label", **fields}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "cannot be read as a table"),
        (b"a,label\n", "has no rows"),
        (b"label\n0\n1\n0\n1\n", "no column beside"),
        (bytes(range(256)), "cannot be read as a table"),
        (b"a,label\n1,2,0\n3,4,1\n", "cannot be read as a table: Length of header"),
        (b"a,label,label\n1,0,0\n3,1,1\n", "has two columns 'label'; rename one"),
    ],
)
def test_files_that_are_no_table_are_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        data_lib.load(DataConfig(f"csv:{tmp_path / 't.csv'}", target="label"))
