"""Named splits: drawn by seed, stratified on request, never overlapping."""

import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from regjax import keys
from regjax.config import DataConfig
from regjax.data.pool import Pool
from regjax.errors import InputError

NAMES = ("test", "select", "valid", "train")  # the order in which they are drawn


class Split(NamedTuple):
    """Examples of one split: inputs and labels as stored."""

    images: np.ndarray
    labels: np.ndarray

    @property
    def examples(self) -> int:
        """How many there are."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.images.shape[1:]

    def first(self, count: int) -> "Split":
        """The first few of them."""
        return Split(self.images[:count], self.labels[:count])

    def padded(self, start: int, size: int) -> "Split":
        """So many of them from one on, zeros where there are no more."""
        images, labels = self.images[start : start + size], self.labels[start : start + size]
        short = size - len(labels)
        pad = [np.pad(x, [(0, short)] + [(0, 0)] * (x.ndim - 1)) for x in (images, labels)]
        return Split(*pad)

    def read(self, positions: Sequence[int]) -> "Split":
        """The examples at some positions of the split."""
        chosen = np.asarray(positions)
        return Split(self.images[chosen], self.labels[chosen])


class Rows(NamedTuple):
    """Which examples of a pool a split has: of its test split, or of the rest."""

    of_test: bool
    indices: np.ndarray


class Data(NamedTuple):
    """A data set ready to train on.

    The network sees (images − shift) · scale, so that compact dtypes stay compact on the device.

    Attributes:
      splits: `train`, `valid`, `select`, `test` by name, each a `Split`, or a `stream.Streamed`; a
        split may be empty.
      rows: where each split's examples are in the pool; none where data are streamed.
      fill: `(1, F)`, what the pool's missing features became; None: it has none.
      shift, scale: scalars, or `(1, ..., C)` with one value a feature or channel.
      classes: class names; none in regression.
      target_shift, target_scale: in regression the loss sees (y − shift) · scale, standardized on
        the training split; else None.
      fingerprint: a hash of what was drawn, to tell whether a resumed run sees the same data.
    """

    splits: dict[str, Any]
    rows: dict[str, Rows]
    fill: np.ndarray | None
    shift: np.ndarray | np.float32
    scale: np.ndarray | np.float32
    classes: tuple[str, ...]
    fingerprint: str
    target_shift: np.float32 | None = None
    target_scale: np.float32 | None = None

    @property
    def outputs(self) -> int:
        """How many numbers the network puts out for an example."""
        return len(self.classes) or 1

    @property
    def streamed(self) -> bool:
        """Whether the splits stay on disk."""
        return not isinstance(self.splits["train"], Split)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.splits["train"].shape


def draw(pool: Pool, config: DataConfig, seed: int) -> Data:
    """Divides a pool into the four splits.

    Args:
      pool: the data set.
      config: sizes, stratification, scaling.
      seed: the run's seed, used unless `config.split_seed` is given.

    Raises:
      InputError: sizes that the pool cannot give.

    >>> from regjax.data import digits
    >>> data = draw(digits.load(), DataConfig(), seed=0)
    >>> {name: len(split.labels) for name, split in data.splits.items()}
    {'test': 359, 'select': 180, 'valid': 180, 'train': 1078}
    """
    seed = seed if config.split_seed < 0 else config.split_seed
    sizes = {name: getattr(config, name) for name in NAMES}
    rows: dict[str, Rows] = {}
    own_test = pool.test_labels is not None
    if pool.test_labels is not None:
        rng = keys.host_stream(seed, f"{keys.SPLIT}/test")
        own_sizes, source = {"test": sizes.pop("test")}, f"the test split of {pool.name}"
        cut = _cut(pool.test_labels, own_sizes, rng, config.stratified, source)
        rows |= {name: Rows(True, indices) for name, indices in cut.items()}
    source = f"the training pool of {pool.name}" if own_test else pool.name
    rng = keys.host_stream(seed, keys.SPLIT)
    cut = _cut(pool.labels, sizes, rng, config.stratified, source)
    rows |= {name: Rows(False, indices) for name, indices in cut.items()}
    if not len(rows["train"].indices):
        raise InputError(f"data.train is {config.train}: no examples left to train on")
    splits = {name: _taken(pool, *rows[name]) for name in rows}
    fill = _fill(splits)
    if fill is not None:
        splits = {
            name: Split(np.where(np.isnan(split.images), fill, split.images), split.labels)
            for name, split in splits.items()
        }
    shift, scale = _scaling(pool, splits["train"].images, config.scaling)
    targets = () if pool.classes else _target_scaling(splits["train"].labels)
    return Data(splits, rows, fill, shift, scale, pool.classes, _fingerprint(splits), *targets)


def _cut(
    labels: np.ndarray,
    sizes: dict[str, float],
    rng: np.random.Generator,
    stratified: bool,
    source: str,
) -> dict[str, np.ndarray]:
    """Each split's indices, in ascending order."""
    counts = resolve(sizes, len(labels), source)
    order = _order(labels, rng, stratified)
    ends = np.cumsum([counts[name] for name in counts])
    return {
        name: np.sort(order[end - counts[name] : end])
        for name, end in zip(counts, ends, strict=True)
    }


def _taken(pool: Pool, of_test: bool, indices: np.ndarray) -> Split:
    if of_test:
        assert pool.test_images is not None and pool.test_labels is not None
        return Split(pool.test_images[indices], pool.test_labels[indices])
    return Split(pool.images[indices], pool.labels[indices])


def resolve(sizes: dict[str, float], available: int, source: str) -> dict[str, int]:
    """Turns sizes (counts, shares, -1 for the rest) into counts.

    Shares that add up to 1 are rounded at their borders, so that all examples are used.

    Raises:
      InputError: more than there is, a fraction of an example, or more than one "rest".

    >>> resolve({"test": 0.2, "valid": 10, "train": -1}, 100, "digits")
    {'test': 20, 'valid': 10, 'train': 70}
    >>> resolve({"test": 0.25, "valid": 0.25, "train": 0.5}, 10, "digits")
    {'test': 2, 'valid': 3, 'train': 5}
    """
    counts: dict[str, int] = {}
    for name, size in sizes.items():
        if size < 0 and size != -1:
            raise InputError(f"data.{name} is {size}, expected a count, a share below 1, or -1")
        if size > 1 and size != int(size):
            raise InputError(f"data.{name} is {size}, expected a whole number of examples")
        counts[name] = round(size * available) if 0 < size < 1 else int(size)
    if all(0 <= size < 1 for size in sizes.values()) and math.isclose(sum(sizes.values()), 1):
        borders = [round(share * available) for share in itertools.accumulate(sizes.values())]
        counts = {
            n: b - a for n, (a, b) in zip(sizes, itertools.pairwise([0, *borders]), strict=True)
        }
    rest = [name for name, count in counts.items() if count == -1]
    if len(rest) > 1:
        raise InputError(f"data.{rest[0]} and data.{rest[1]} are both -1 (the rest); give one size")
    wanted = sum(count for count in counts.values() if count > 0)
    if wanted > available:
        asked = ", ".join(f"{name} {count}" for name, count in counts.items() if count > 0)
        raise InputError(
            f"the splits ask for {wanted} examples ({asked}) but {source} has {available}; "
            "make them smaller"
        )
    return counts | dict.fromkeys(rest, available - wanted)


def _order(labels: np.ndarray, rng: np.random.Generator, stratified: bool) -> np.ndarray:
    """A random order; if stratified, each stretch of it holds the classes in proportion.

    Numbers count as ten classes, cut at the deciles. Every example gets a random place within its
    class, as a share of the class; sorted by that share, the classes are dealt out evenly, whatever
    their sizes and wherever one cuts.
    """
    ranks = rng.random(len(labels))
    if labels.dtype.kind == "f" and stratified:
        labels = np.searchsorted(np.quantile(labels, np.arange(0.1, 1, 0.1)), labels)
    if stratified:
        for label in np.unique(labels):
            members = labels == label
            place = np.argsort(np.argsort(ranks[members]))
            ranks[members] = (place + rng.random()) / members.sum()
    return np.argsort(ranks, kind="stable")


def _fill(splits: dict[str, Split]) -> np.ndarray | None:
    """What stands for missing features: the training split's median; 0 where that has none."""
    if not any(s.images.dtype.kind == "f" and np.isnan(s.images).any() for s in splits.values()):
        return None
    train = np.ma.masked_invalid(splits["train"].images)
    return np.ma.median(train, axis=0).filled(0).astype(np.float32)[None]


def _scaling(
    pool: Pool, train: np.ndarray, scaling: str
) -> tuple[np.ndarray | np.float32, np.ndarray | np.float32]:
    """Shift and scale such that (x − shift) · scale is in [−1, 1], in [0, 1] or standardized."""
    if scaling == "none":
        return np.float32(0), np.float32(1)
    if scaling == "standardize":
        axes = tuple(range(train.ndim - 1))
        mean = train.mean(axes, dtype=np.float64, keepdims=True)
        std = train.std(axes, dtype=np.float64, keepdims=True)
        return mean.astype(np.float32), (1 / np.where(std > 0, std, 1)).astype(np.float32)
    if pool.value_range is None and train.ndim == 2:  # a table's columns have their own ranges
        low, high = (end(train, 0, keepdims=True).astype(np.float32) for end in (np.min, np.max))
        width = np.where(high > low, high - low, 1)
        return (low, 1 / width) if scaling == "unit" else ((low + high) / 2, 2 / width)
    return of_range(*(pool.value_range or (float(train.min()), float(train.max()))), scaling)


def of_range(low: float, high: float, scaling: str) -> tuple[np.float32, np.float32]:
    """Shift and scale that take a range to [0, 1], or to [−1, 1]."""
    width = (high - low) or 1.0
    if scaling == "unit":
        return np.float32(low), np.float32(1 / width)
    return np.float32((low + high) / 2), np.float32(2 / width)


def _target_scaling(train: np.ndarray) -> tuple[np.float32, np.float32]:
    mean, std = train.mean(dtype=np.float64), train.std(dtype=np.float64)
    if std == 0:
        raise InputError(
            f"all {len(train)} training examples have the target {train[0]:g}, so there is nothing "
            "to learn; give data.train a larger size, or another data.target"
        )
    return np.float32(mean), np.float32(1 / std)


def _fingerprint(splits: dict[str, Split]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in NAMES:
        digest.update(f"{name} {splits[name].images.shape} {splits[name].images.dtype}".encode())
        for array in splits[name]:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
