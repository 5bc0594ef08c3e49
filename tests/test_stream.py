"""Data that are streamed: every example once an epoch, whoever reads it and from wherever on."""

import itertools
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from regjax import data
from regjax.config import Config, DataConfig
from regjax.data import stream, tfds_builders
from regjax.data.stream import Batches, Rounds, Streamed
from regjax.errors import InputError
from regjax.studies.shared import Shared

pytest.importorskip("grain")
COUNT, TEST = 203, 17


def prepare(folder: Path, count: int = COUNT, test: int = TEST, side: int = 4) -> Path:
    """A set whose examples carry their number, in their first two pixels; label: its remainder."""
    with tfds.core.registered.skip_registration():

        class Numbered(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self) -> Any:
                image = tfds.features.Image(shape=(side, side, 3))
                features = {"image": image, "label": tfds.features.ClassLabel(num_classes=5)}
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=("image", "label"),
                )

            def _split_generators(self, dl_manager: Any) -> Any:
                parts = {"train": range(count), "test": range(count, count + test)}
                return {name: self._generate_examples(rows) for name, rows in parts.items() if rows}

            def _generate_examples(self, rows: Any) -> Any:
                for i in rows:
                    image = np.full((side, side, 3), i % 7, np.uint8)
                    image[0, 0] = i % 256, i // 256 % 256, i // 65536
                    yield i, {"image": tfds_builders._png(image), "label": i % 5}

    Numbered(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("numbered"))


def settings(folder: Path, **changes: Any) -> DataConfig:
    chosen = {"stream": "always", "stratified": False, "workers": 0, **changes}
    return DataConfig("tfds:numbered", str(folder), **chosen)


def drawn(folder: Path, seed: int = 0, **changes: Any) -> data.Data:
    config = settings(folder, **changes)
    return data.draw(data.load(config), config, seed)


def numbers(split: Any) -> list[int]:
    """Which examples these are, their labels checked."""
    found = split.images[:, 0, 0].astype(int) @ np.array([1, 256, 65536])
    np.testing.assert_array_equal(split.labels, found % 5)
    return found.tolist()


def read(rounds: Rounds, start: int = 0, workers: int = 0) -> list[list[int]]:
    with stream.reading(rounds, workers, start) as batches:
        return [numbers(batch) for batch in batches]


def joined(parts: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(parts))


def everything(split: Streamed) -> list[int]:
    return joined(read(Rounds((Batches(split, 50),), 1)))


def test_splits_are_by_index_disjoint_and_complete(numbered: Path) -> None:
    made = drawn(numbered, valid=20, select=0.1, test=-1)
    parts = {name: everything(split) for name, split in made.splits.items()}
    assert {name: len(part) for name, part in parts.items()} == {
        "test": 17,
        "select": 20,
        "valid": 20,
        "train": 163,
    }
    assert sorted(parts.pop("test")) == list(range(COUNT, COUNT + TEST))
    assert sorted(joined(parts.values())) == list(range(COUNT))
    assert parts["train"] != sorted(parts["train"])
    assert everything(drawn(numbered, 1).splits["train"]) != parts["train"]
    assert everything(drawn(numbered, 1, split_seed=0).splits["valid"]) == parts["valid"]
    assert made.input_shape == (4, 4, 3)


def test_every_example_once_an_epoch_and_from_anywhere_on(numbered: Path) -> None:
    made = drawn(numbered)
    train, valid = (made.splits[name] for name in ("train", "valid"))
    rounds = Rounds((Batches(train, 32, seed=5), Batches(valid, 8)), 3)
    batches, a_round = read(rounds), sum(map(len, rounds.parts))
    assert len(batches) == len(rounds) == 3 * a_round
    orders = []
    for epoch in range(3):
        of_epoch = batches[epoch * a_round :][:a_round]
        met = joined(of_epoch[: len(rounds.parts[0])])
        assert sorted(met) == sorted(everything(train))
        assert joined(of_epoch[len(rounds.parts[0]) :]) == everything(valid)
        orders.append(met)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert read(Rounds((Batches(train, 32, seed=6),), 1)) != batches[: len(rounds.parts[0])]
    for start in (1, 7, a_round - 1, a_round, 2 * a_round + 3, len(rounds)):
        assert read(rounds, start) == batches[start:]


@pytest.mark.slow
def test_worker_processes_read_the_same(numbered: Path) -> None:
    rounds = Rounds((Batches(drawn(numbered).splits["train"], 32, seed=5),), 2)
    assert read(rounds, 3, workers=2) == read(rounds, 3)


@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 7, 32, 500])
def test_shards_of_a_batch_are_the_batch(
    numbered: Path, size: int, count: int, multiple: int
) -> None:
    train = drawn(numbered).splits["train"]
    whole = Batches(train, size, seed=3)
    shards = [Batches(train, size, 3, (index, count), multiple) for index in range(count)]
    assert {len(shard) for shard in shards} == {len(whole)}
    for number in {0, len(whole) // 2, len(whole) - 1}:
        parts = [numbers(shard.read(1, number)) for shard in shards]
        assert joined(parts) == numbers(whole.read(1, number))
        assert max(map(len, parts)) <= shards[0].held
    assert shards[0].held % multiple == 0
    assert 0 <= shards[0].held - size / count < multiple


def test_fingerprint(numbered: Path, tmp_path: Path) -> None:
    """Of other splits or files; the same for copies, whatever their place and time."""
    first = drawn(numbered).fingerprint
    copy = shutil.copytree(numbered, tmp_path / "copy")
    for file in copy.rglob("*.array_record*"):
        os.utime(file, (0, 0))
    assert drawn(copy).fingerprint == first
    others = {drawn(numbered, 1).fingerprint, drawn(numbered, valid=30).fingerprint}
    others.add(drawn(prepare(tmp_path / "other", COUNT - 1, TEST + 1)).fingerprint)
    assert len(others | {first}) == 4


def test_standardized_by_the_training_split(numbered: Path) -> None:
    made = drawn(numbered, scaling="standardize")
    train = made.splits["train"].read(range(made.splits["train"].examples)).images
    np.testing.assert_allclose(made.shift, train.mean((0, 1, 2), keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(1 / made.scale, train.std((0, 1, 2), keepdims=True), rtol=1e-6)
    again = drawn(numbered, scaling="standardize")
    np.testing.assert_array_equal(again.shift, made.shift)


def test_scaled_by_the_range_of_its_kind(numbered: Path) -> None:
    for scaling in ("unit", "symmetric", "none"):
        config = settings(numbered, stream="never", scaling=scaling)
        memory, disk = data.draw(data.load(config), config, 0), drawn(numbered, scaling=scaling)
        assert (memory.shift, memory.scale) == (disk.shift, disk.scale)


def test_chosen_by_size(numbered: Path) -> None:
    bytes_ = (COUNT + TEST) * 48
    for memory, kind in (((bytes_ - 1), data.Stored), (bytes_, data.Pool)):
        config = settings(numbered, stream="auto", memory=memory / 2**30)
        assert isinstance(data.load(config), kind)


def test_what_cannot_be_streamed(numbered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"set data\.stratified to False"):
        drawn(numbered, stratified=True)
    with pytest.raises(InputError, match=r"set data\.stream to auto"):
        data.load(DataConfig("digits", stream="always"))
    with pytest.raises(InputError, match=r"valid 300.* has 203; make them smaller"):
        drawn(numbered, valid=300)
    with pytest.raises(InputError, match="a study keeps its data in memory"):
        Shared().assemble(Config(data=settings(numbered)))
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(InputError, match=r"pip install 'regjax\[stream\]'"):
        drawn(numbered)


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_records_are_one_line(numbered: Path, tmp_path: Path, workers: int) -> None:
    copy = shutil.copytree(numbered, tmp_path / "copy")
    made = drawn(copy)
    file = next(copy.rglob("*train.array_record*"))
    content = bytearray(file.read_bytes())
    content[200:-65536] = bytes(len(content[200:-65536]))
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"tfds:numbered: split 'train' in .* cannot be read \("):
        read(Rounds((Batches(made.splits["train"], 32, seed=5),), 2), workers=workers)
