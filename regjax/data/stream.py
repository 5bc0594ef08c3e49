"""Data that stay on disk: splits by index, and their batches, read ahead while others are used.

A split is a stretch of one random order of a set's records; an epoch is a random order of that
stretch. Both orders are permutations computed index by index (`index_shuffle` of grain), so nothing
here grows with the data, and what a batch holds follows from its number alone: a stream has no
state, and a run that knows its epoch and its position in it goes on exactly.
"""

import contextlib
import dataclasses
import gc
import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from regjax import keys
from regjax.config import DataConfig
from regjax.data import cache
from regjax.data.splits import NAMES, Data, Split, of_range, resolve
from regjax.errors import InputError, one_line

AHEAD = 4  # batches that each worker has ready
NICE = 10  # of the workers: how much less they ask of a core than what trains
MOST_WORKERS = 8
STATISTICS_BATCH = 64


class Records(Protocol):
    """Examples on disk, by index; it is sent to worker processes.

    Attributes:
      name: of the set and its part, for messages.
      shape, dtype: of one example's input.
      stamp: changes when the records do.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype: ...  # noqa: D102
    @property
    def stamp(self) -> str: ...  # noqa: D102

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int]) -> Split:
        """The examples of some rows, in their order."""
        ...


class Stored(NamedTuple):
    """A data set that stays on disk; what `Pool` is to one in memory.

    Attributes:
      name: as given in the config.
      records: all examples but those of the set's own test split.
      test_records: these; None where it has none.
      classes: the K names.
      value_range: the smallest and largest value that an input can take, or None if unknown.
    """

    name: str
    records: Records
    test_records: Records | None
    classes: tuple[str, ...]
    value_range: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A split on disk: a stretch of a random order of records.

    Attributes:
      records: the whole.
      seed: of the order.
      start, stop: the stretch.
    """

    records: Records
    seed: int
    start: int
    stop: int

    @property
    def examples(self) -> int:
        """How many there are."""
        return self.stop - self.start

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.records.shape

    def empty(self, examples: int) -> Split:
        """So many zeros in place of examples."""
        images = np.zeros((examples, *self.shape), self.records.dtype)
        return Split(images, np.zeros(examples, np.int32))

    def first(self, count: int) -> Split:
        """The first few of them, read now."""
        return self.read(range(min(count, self.examples)))

    def read(self, positions: Sequence[int]) -> Split:
        """The examples at some positions of the split."""
        whole = len(self.records)
        return self.records.read([_shuffled(self.start + p, whole, self.seed) for p in positions])


def _shuffled(position: int, length: int, seed: int) -> int:
    """What is at a position of a random order of `length`."""
    shuffle = grain().experimental.index_shuffle
    return shuffle(position, max_index=length - 1, seed=seed, rounds=4)


def grain() -> Any:
    """The library that orders and reads ahead.

    Raises:
      InputError: it is not installed.
    """
    try:
        import grain
    except ImportError as error:
        raise InputError(
            "data that are streamed need the package grain; install regjax with the extra stream "
            "(pip install 'regjax[stream]'), or set data.stream to never"
        ) from error
    return grain


def draw(pool: Stored, config: DataConfig, seed: int) -> Data:
    """Divides a set into the four splits without reading it; see `splits.draw`.

    With `standardize` the mean and deviation are those of one pass over the training split, kept in
    the cache.

    Raises:
      InputError: sizes that the set cannot give, or what would need all labels or values first.
    """
    if config.stratified:
        raise InputError(
            f"data.stratified is set, but {pool.name} is streamed, whose labels are not known "
            "beforehand; set data.stratified to False, or data.stream to never"
        )
    root = seed if config.split_seed < 0 else config.split_seed
    sizes: dict[str, float] = {name: getattr(config, name) for name in NAMES}
    splits: dict[str, Streamed] = {}
    source = pool.name
    if pool.test_records is not None:
        own, source = {"test": sizes.pop("test")}, f"the training pool of {pool.name}"
        of_test = f"the test split of {pool.name}"
        splits |= _cut(pool.test_records, own, seed_of(root, f"{keys.SPLIT}/test"), of_test)
    splits |= _cut(pool.records, sizes, seed_of(root, keys.SPLIT), source)
    train = splits["train"]
    if not train.examples:
        raise InputError(f"data.train is {config.train}: no examples left to train on")
    fingerprint = _fingerprint(splits)
    shift, scale = _scaling(pool, train, config, fingerprint)
    return Data(splits, {}, None, shift, scale, pool.classes, fingerprint)


def seed_of(seed: int, name: str) -> int:
    """The 32-bit seed of the stream `name`, for grain."""
    return int(keys.host_stream(seed, name).integers(2**32))


def _cut(records: Records, sizes: dict[str, float], seed: int, source: str) -> dict[str, Streamed]:
    counts = resolve(sizes, len(records), source)
    ends = np.cumsum(list(counts.values())).tolist()
    return {
        name: Streamed(records, seed, end - counts[name], end)
        for name, end in zip(counts, ends, strict=True)
    }


def _fingerprint(splits: dict[str, Streamed]) -> str:
    """Of the files, of which of their records are in each split, and of the first few of these."""
    digest = hashlib.blake2b(digest_size=16)
    for name in NAMES:
        part = splits[name]
        records = part.records
        about = (name, part.seed, part.start, part.stop, records.shape, str(records.dtype))
        digest.update(f"{about} {records.stamp}".encode())
        for array in part.first(8):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _scaling(
    pool: Stored, train: Streamed, config: DataConfig, fingerprint: str
) -> tuple[np.ndarray | np.float32, np.ndarray | np.float32]:
    """Shift and scale as `splits` has them."""
    if config.scaling == "none":
        return np.float32(0), np.float32(1)
    if config.scaling == "standardize":
        found = cache.arrays(f"stream-{fingerprint}", lambda: _statistics(train, config))
        std = np.sqrt(found["variance"])
        shape = (1,) * len(train.shape) + (-1,)
        shift, scale = found["mean"], 1 / np.where(std > 0, std, 1)
        return shift.astype(np.float32).reshape(shape), scale.astype(np.float32).reshape(shape)
    if pool.value_range is None:
        raise InputError(
            f"data.scaling is '{config.scaling}', but the range of {pool.name} is not known before "
            "it was read; set data.scaling to standardize"
        )
    return of_range(*pool.value_range, config.scaling)


def _statistics(train: Streamed, config: DataConfig) -> dict[str, np.ndarray]:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    batches = Rounds((Batches(train, STATISTICS_BATCH),), 1)
    with reading(batches, config.workers) as read:
        for batch in read:
            scaler.partial_fit(batch.images.reshape(-1, train.shape[-1]))
    return {"mean": np.asarray(scaler.mean_), "variance": np.asarray(scaler.var_)}


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a split, epoch after epoch: every example once in each.

    Attributes:
      split: whose.
      size: examples of a batch, over all shards.
      seed: of the first epoch's order; None: always the split's own order.
      shard: `(index, count)`: of each batch, which of so many parts is read here.
      multiple: what the examples of a part are to be a multiple of, when padded.
    """

    split: Streamed
    size: int
    seed: int | None = None
    shard: tuple[int, int] = (0, 1)
    multiple: int = 1

    def __len__(self) -> int:
        return -(-self.split.examples // self.size)

    @property
    def held(self) -> int:
        """Rows of a part: the examples that are read here, and padding where they are fewer."""
        return -(-self.size // (self.shard[1] * self.multiple)) * self.multiple

    def read(self, epoch: int, number: int) -> Split:
        """A batch of an epoch, both counted from 0."""
        examples, first = self.split.examples, number * self.size + self.shard[0] * self.held
        stop = min(first + self.held, (number + 1) * self.size, examples)
        rows: Sequence[int] = range(first, stop)
        if self.seed is not None:
            seed = (self.seed + epoch) % 2**32
            rows = [_shuffled(row, examples, seed) for row in rows]
        return self.split.read(rows)


@dataclasses.dataclass(frozen=True)
class Rounds:
    """The batches of some splits in turn, an epoch of each, again and again; by number, for grain.

    Attributes:
      parts: those of each split.
      rounds: how often.
    """

    parts: tuple[Batches, ...]
    rounds: int

    def __len__(self) -> int:
        return self.rounds * sum(map(len, self.parts))

    def __getitem__(self, number: int) -> Split:
        epoch, number = divmod(int(number), sum(map(len, self.parts)))
        for part in self.parts:
            if number < len(part):
                return part.read(epoch, number)
            number -= len(part)
        raise AssertionError("numbers end with the last part")


@contextlib.contextmanager
def reading(rounds: Rounds, workers: int, start: int = 0) -> Iterator[Iterator[Split]]:
    """Gives an iterator of batches, which are read and decoded ahead of their use.

    Args:
      rounds: what is read.
      workers: processes that do; 0: a thread of this one; -1: as many as there are cores, up to 8.
      start: number of the first batch.

    Raises:
      InputError: what cannot be read.
    """
    lib = grain()
    if start >= len(rounds):
        yield iter(())
        return
    by_number = lib.MapDataset.source(rounds)[start:]
    workers = min(os.cpu_count() or 1, MOST_WORKERS) if workers < 0 else workers
    if workers:
        _without_flags()
        options = lib.MultiprocessingOptions(workers, per_worker_buffer_size=AHEAD)
        plain = lib.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        dataset = by_number.to_iter_dataset(plain).mp_prefetch(options, worker_init_fn=_worker)
    else:
        dataset = by_number.to_iter_dataset(lib.ReadOptions(1, prefetch_buffer_size=AHEAD))
    batches = iter(dataset)
    try:
        yield _checked(batches, rounds.parts[0].split.records.name)
    finally:
        batches.close()
        del batches, dataset
        if workers:  # batches in shared memory are given back while those who do it are there
            gc.collect()


def _worker(index: int, count: int) -> None:
    """What each worker does first: it leaves signals to the run, and ends when that does.

    It gives way to what trains, where they share the cores: it reads ahead in the gaps.
    """
    del index, count
    if hasattr(os, "nice"):
        os.nice(NICE)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _without_flags() -> None:
    """grain looks at flags of absl's, which a notebook has not parsed."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _checked(batches: Iterator[Split], name: str) -> Iterator[Split]:
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except InputError:
            raise
        except Exception as error:  # of the files, the decoder, or a worker's end
            raise InputError(f"{name} cannot be read ({one_line(error)})") from error
        yield batch
