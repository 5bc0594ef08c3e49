"""What a run's loop is fed with: splits that lie on the devices, or chunks of streamed ones.

Of splits on the devices those to be evaluated lie there in pieces of one shape, so that one program
evaluates them all.

A chunk is some batches of an epoch, in order, padded to one shape, so that one program trains on
all of them. The next is read and put on the devices while the one before is trained on. Of many
processes each reads of every batch the rows that its own devices have.
"""

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from regjax.assembly import Assembled
from regjax.batch import Arrays
from regjax.data import stream
from regjax.data.splits import Split
from regjax.data.stream import Batches, Rounds
from regjax.keys import SHUFFLE
from regjax.program import Program
from regjax.state import RunState, TrainState
from regjax.strengths import Strengths, steps_per_epoch

PIECE, LEAST = 1024, 128  # examples of a piece: not more, unless eval_batch_size is, and not less
SHARE, MOST = 1 / 64, 1 / 4  # of data.memory, that a chunk takes: three are there at a time
FEWEST = 8  # batches of a chunk, unless they take more than that


class Resident(NamedTuple):
    """Splits that lie on the devices.

    Attributes:
      whole: the training split.
      held_out: the validation split in pieces.
      steps: updates of an epoch.
    """

    whole: Arrays
    held_out: list[Arrays]
    steps: int

    def compiled(self, functions: Program, strengths: Strengths, run: RunState) -> Program:
        """The functions compiled for what they are to be given."""
        return functions.compiled(strengths, run, self.whole, self.held_out)

    def train(self, start: int, stop: int) -> Iterator[tuple[Arrays, int]]:
        """Arrays for the updates of an epoch from one to another, and to which each reaches."""
        yield self.whole, stop

    def valid(self) -> Iterable[Arrays]:
        """What is evaluated at the end of an epoch."""
        return self.held_out


class _Chunk(NamedTuple):
    """Batches of an epoch of a split, up to batch `stop`."""

    of: Batches
    stop: int
    arrays: Arrays


class Streaming:
    """Chunks of an endless sequence: an epoch of the training split, validation, an epoch, ...

    Args:
      chunks: from the next update of the run on.
      train, valid: the batches that they are of; `valid` may be empty.
    """

    whole = None

    def __init__(self, chunks: Iterator[_Chunk], train: Batches, valid: Batches) -> None:
        self._chunks, self._train, self._valid = _begun(chunks), train, valid
        self.steps = len(train)

    def compiled(self, functions: Program, strengths: Strengths, run: RunState) -> Program:
        """As `Resident.compiled`; evaluation is compiled when it is first called."""
        first, bounds = next(self._chunks), (np.int32(0), np.int32(1))
        self._chunks = itertools.chain([first], self._chunks)
        steps = functions.train_steps.lower(strengths, run, first.arrays, *bounds)
        return functions._replace(train_steps=steps.compile())

    def train(self, start: int, stop: int) -> Iterator[tuple[Arrays, int]]:
        """As `Resident.train`."""
        while start < stop:
            chunk = next(self._chunks)
            start = min(stop, chunk.stop)
            yield chunk.arrays, start

    def valid(self) -> Iterable[Arrays]:
        """As `Resident.valid`."""
        if not len(self._valid):
            return ()
        return _epoch(itertools.dropwhile(lambda chunk: chunk.of is self._train, self._chunks))


def _begun(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, once the first is there."""
    return itertools.chain([next(items)], items)


def _epoch(chunks: Iterator[_Chunk]) -> Iterator[Arrays]:
    """The arrays of the chunks to the end of an epoch."""
    for chunk in chunks:
        yield chunk.arrays
        if chunk.stop == len(chunk.of):
            return


def resident(parts: Assembled) -> Resident:
    """The splits `train` and `valid` of a run, put on the devices."""
    steps = steps_per_epoch(parts.data.splits["train"].examples, parts.config.batch_size)
    return Resident(parts.whole("train"), pieces(parts, "valid"), steps)


def pieces(parts: Assembled, split: str) -> list[Arrays]:
    """A split on the devices, in pieces of the same shape as all splits', the last one padded.

    Args:
      parts: of the run.
      split: its name.
    """
    sizes = {name: of.examples for name, of in parts.data.splits.items()}
    largest = max(sizes.values())
    often = sizes["valid"] or largest  # evaluated often: its pieces are even
    count = -(-often // max(PIECE, parts.config.eval_batch_size))
    size = max(-(-often // count), min(LEAST, largest))

    def piece(start: int) -> Arrays:
        arrays = parts.placed(*parts.data.splits[split].padded(start, size))
        return arrays.replace(count=parts.parallel.put(jnp.int32(min(size, sizes[split] - start))))

    return [piece(start) for start in range(0, sizes[split], size)]


@contextlib.contextmanager
def feeding(parts: Assembled, run: RunState) -> Iterator[Resident | Streaming]:
    """Gives what a run is fed with from where it is.

    Args:
      parts: of the run.
      run: its state.

    Raises:
      InputError: streamed data that cannot be read.
    """
    if not parts.data.streamed:
        yield resident(parts)
        return
    config = parts.config
    train = _batches(parts, "train", config.batch_size, stream.seed_of(config.seed, SHUFFLE))
    valid = _batches(parts, "valid", config.eval_batch_size)
    rounds = Rounds(tuple(part for part in (train, valid) if len(part)), config.epochs)
    position, a_round = int(run.progress.position), sum(map(len, rounds.parts))
    start = int(run.epoch) * a_round + position
    with (
        stream.reading(rounds, config.data.workers, start) as batches,
        contextlib.closing(_ahead(_chunks(parts, rounds, batches, position))) as chunks,
    ):
        yield Streaming(chunks, train, valid)


@contextlib.contextmanager
def once(
    parts: Assembled, splits: Sequence[str]
) -> Iterator[Iterator[tuple[str, Iterator[Arrays]]]]:
    """Gives each split that is not empty, and its arrays: pieces, or streamed, chunks.

    Each split's arrays are to be taken before the next split is.

    Args:
      parts: of the run.
      splits: their names.

    Raises:
      InputError: streamed data that cannot be read.
    """
    config, kept = parts.config, [name for name in splits if parts.data.splits[name].examples]
    if not parts.data.streamed:
        yield ((name, iter(pieces(parts, name))) for name in kept)
        return
    sizes = config.eval_batch_size
    rounds = Rounds(tuple(_batches(parts, name, sizes) for name in kept), 1)
    with (
        stream.reading(rounds, config.data.workers) as batches,
        contextlib.closing(_ahead(_chunks(parts, rounds, batches, 0))) as chunks,
    ):
        yield ((name, _epoch(chunks)) for name in kept)


def measured(
    functions: Program, state: TrainState, parts: Assembled, splits: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The scores, as numbers by name, of each split that is not empty."""
    with once(parts, splits) as given:
        totals = {name: functions.total(state, arrays) for name, arrays in given}
    return {
        split: {name: sums.compute() for name, sums in total.items()}
        for split, total in totals.items()
        if total is not None
    }


def batches_of_a_chunk(of: Batches, memory: float) -> int:
    """How many of a split's batches are put on the devices at once.

    A 64th of the memory, but 8 batches where that holds fewer and a quarter holds them: starting a
    program costs, on a CPU, the pages of all it works in, with each chunk anew.

    Args:
      of: the batches.
      memory: `data.memory`, in bytes.
    """
    size = of.held * int(np.prod(of.split.shape)) * of.split.records.dtype.itemsize
    fit = max(memory * SHARE // size, min(FEWEST, memory * MOST // size), 1)
    return min(int(fit), len(of))


def _batches(parts: Assembled, name: str, size: int, seed: int | None = None) -> Batches:
    """Those of a split, of each the rows that this process's devices have."""
    split, shard = parts.data.splits[name], (jax.process_index(), jax.process_count())
    size, devices = max(1, min(size, split.examples)), parts.parallel.spread.parts // shard[1]
    return Batches(split, size, seed, shard, devices)


def _chunks(
    parts: Assembled, rounds: Rounds, batches: Iterator[Split], first: int
) -> Iterator[_Chunk]:
    """All batches as chunks on the devices; `first` is the number of the first in its epoch."""
    for of in itertools.cycle(rounds.parts):
        length = batches_of_a_chunk(of, parts.config.data.memory * 2**30)
        while first < len(of):
            stop = min(first + length, len(of))
            rows = _gathered(itertools.islice(batches, stop - first), of, length)
            if rows is None:
                return
            yield _Chunk(of, stop, parts.chunk(*rows, first))
            first = stop
        first = 0


def _gathered(
    batches: Iterator[Split], of: Batches, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """So many batches one after the other, padded, and their mask; None: there are none left."""
    images, labels = (
        x.reshape(length, of.held, *x.shape[1:]) for x in of.split.empty(length * of.held)
    )
    mask, number = np.zeros((length, of.held), np.float32), 0
    for number, batch in enumerate(batches, start=1):  # one at a time: each keeps files open
        rows = number - 1, slice(batch.examples)
        images[rows], labels[rows] = batch
        mask[rows] = 1
    return (images, labels, mask) if number else None


def _ahead(items: Iterator[Any]) -> Generator[Any]:
    """The same items, each made while the one before is used."""
    end = object()
    with ThreadPoolExecutor(1) as executor:
        coming = executor.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = executor.submit(next, items, end)
            yield item
