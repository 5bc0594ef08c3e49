"""TFDS sets without TensorFlow: on MNIST's original files, and on small sets made here."""

import gzip
import io
import shutil
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from regjax import data
from regjax.config import DataConfig
from regjax.data import tfds_builders
from regjax.errors import InputError

from .conftest import REAL_DATA

MNIST = REAL_DATA / "mnist"


@pytest.mark.slow
@pytest.mark.realdata
def test_mnist_is_the_original_pixel_for_pixel(mnist_dir: Path) -> None:
    pool = data.load(DataConfig("tfds:mnist", str(mnist_dir)))
    assert pool.test_images is not None
    for name, images, labels in (
        ("train", pool.images, pool.labels),
        ("t10k", pool.test_images, pool.test_labels),
    ):
        assert labels is not None
        original = tfds_builders.read_idx(MNIST / f"{name}-images-idx3-ubyte.gz")
        label = tfds_builders.read_idx(MNIST / f"{name}-labels-idx1-ubyte.gz")
        # TFDS orders records by a hash of their key, so compare them sorted.
        ours = sorted((x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True))
        assert ours == sorted((x.tobytes(), int(y)) for x, y in zip(original, label, strict=True))
    assert "tensorflow" not in sys.modules


@pytest.mark.slow
@pytest.mark.realdata
def test_plain_tfds_reads_what_we_prepared(mnist_dir: Path) -> None:
    source = tfds.data_source("mnist", data_dir=mnist_dir, split="train", download=False)
    record = source[0]
    assert len(source) == 60_000
    assert record["image"].shape == (28, 28, 1)
    # The first training record of the stock mnist 3.0.1, whoever prepared it, is a 4.
    assert record["label"] == 4


@pytest.mark.slow
@pytest.mark.realdata
def test_the_second_start_reads_the_cache(mnist_dir: Path) -> None:
    data.load(DataConfig("tfds:mnist", str(mnist_dir)))
    started = time.perf_counter()
    again = data.load(DataConfig("tfds:mnist", str(mnist_dir)))
    assert len(again.images) == 60_000
    assert time.perf_counter() - started < 2  # decoding takes longer on any machine


@pytest.mark.realdata
def test_a_damaged_original_is_refused_by_its_checksum(tmp_path: Path) -> None:
    files = shutil.copytree(MNIST, tmp_path / "files")
    (files / "t10k-labels-idx1-ubyte.gz").chmod(0o644)
    with (files / "t10k-labels-idx1-ubyte.gz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="wrong checksum"):
        data.load(DataConfig("tfds:mnist", str(tmp_path / "tfds"), str(files)))
    with pytest.raises(InputError):  # and nothing half-prepared is taken for the set
        data.load(DataConfig("tfds:mnist", str(tmp_path / "tfds"), str(tmp_path)))


@pytest.mark.parametrize("name", tfds_builders.BUILDERS)
def test_builders_describe_the_stock_sets(name: str, tmp_path: Path) -> None:
    """Name, version and features as the stock builder says; addresses that TFDS has sums for."""
    ours = tfds_builders.BUILDERS[name](data_dir=str(tmp_path))
    stock = tfds.builder_cls(name)
    assert ours.name == name
    assert str(ours.version) == str(stock.VERSION)
    registered = tfds.core.download.checksums.get_all_url_infos()
    for file, url in ours.urls().items():
        assert registered[url].filename == file


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(head + array.astype(np.uint8).tobytes())


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def prepare(name: str, files: dict[str, bytes], tmp_path: Path, monkeypatch: Any) -> data.Pool:
    """Prepares a set from small stand-ins, whose checksums TFDS is told."""
    manual = tmp_path / "manual"
    manual.mkdir()
    registered = dict(tfds.core.download.checksums.get_all_url_infos())
    for file, url in tfds_builders.BUILDERS[name](data_dir=str(tmp_path)).urls().items():
        (manual / file).write_bytes(files[file])
        registered[url] = tfds.core.download.checksums.UrlInfo(
            size=tfds.core.utils.Size(len(files[file])),
            checksum=tfds.core.download.checksums.compute_url_info(manual / file).checksum,
            filename=file,
        )
    monkeypatch.setattr(tfds.core.download.checksums, "get_all_url_infos", lambda: registered)
    return data.load(DataConfig(f"tfds:{name}", str(tmp_path / "tfds"), str(manual)))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_idx_sets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    files, originals = {}, {}
    for part, rows in (("train", 20), ("t10k", 10)):
        images, labels = rng.integers(0, 256, (rows, 28, 28)), rng.integers(0, 10, rows)
        originals[part] = images.astype(np.uint8), labels
        files[f"{part}-images-idx3-ubyte.gz"] = idx(images)
        files[f"{part}-labels-idx1-ubyte.gz"] = idx(labels)
    pool = prepare(name, files, tmp_path, monkeypatch)
    for (images, labels), (ours, our_labels) in zip(
        originals.values(),
        ((pool.images, pool.labels), (pool.test_images, pool.test_labels)),
        strict=True,
    ):
        pairs = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
        assert ours is not None
        assert our_labels is not None
        assert pairs == {(i.tobytes(), int(y)) for i, y in zip(ours, our_labels, strict=True)}
    assert len(pool.classes) == 10


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_sets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder, rng = tfds_builders.BUILDERS[name], np.random.default_rng(0)
    members, expected = {}, set()
    for file in (*builder.TRAIN, *builder.TEST):
        pixels = rng.integers(0, 256, (6, 3, 32, 32)).astype(np.uint8)
        labels = rng.integers(0, 10, (6, len(builder.LABELS))).astype(np.uint8)
        rows = np.concatenate([labels, pixels.reshape(6, -1)], axis=1)
        members[builder.FOLDER + file] = rows.tobytes()
        if file in builder.TRAIN:
            channels_last = pixels.transpose(0, 2, 3, 1)
            expected |= {
                (np.ascontiguousarray(p).tobytes(), int(label[-1]))
                for p, label in zip(channels_last, labels, strict=True)
            }
    for file, classes in builder.LABELS.values():
        members[builder.FOLDER + file] = "\n".join(f"class {i}" for i in range(classes)).encode()
    archive = next(iter(builder.urls()))
    pool = prepare(name, {archive: tar(members)}, tmp_path, monkeypatch)
    assert expected == {
        (i.tobytes(), int(y)) for i, y in zip(pool.images, pool.labels, strict=True)
    }
    assert pool.classes[1] == "class 1"
    assert len(pool.classes) == (10 if name == "cifar10" else 100)


def test_any_ones_prepared_set_is_read(tmp_path: Path) -> None:
    """A builder that regjax knows nothing of, prepared by its owner."""
    with tfds.core.registered.skip_registration():

        class Stripes(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self) -> Any:
                features = {
                    "picture": tfds.features.Image(shape=(4, 6, 3)),
                    "kind": tfds.features.ClassLabel(names=["left", "right"]),
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=("picture", "kind"),
                )

            def _split_generators(self, dl_manager: Any) -> Any:
                return {"train": self._generate_examples()}

            def _generate_examples(self) -> Any:
                for i in range(12):
                    image = np.full((4, 6, 3), 20 * i, np.uint8)
                    yield i, {"picture": tfds_builders._png(image), "kind": i % 2}

    Stripes(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    pool = data.load(DataConfig("tfds:stripes", str(tmp_path)))
    assert pool.images.shape == (12, 4, 6, 3)
    assert (pool.test_images, pool.classes) == (None, ("left", "right"))
    np.testing.assert_array_equal(pool.labels, pool.images[:, 0, 0, 0] // 20 % 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", r"did you mean 'mnist'\?"),
        ("cats_vs_dogs", "needs TensorFlow once; install tensorflow-cpu"),
        ("mnist:9.9.9", "cannot be opened"),
        ("not/a:name", "not/a:name"),
        ("../x", "x"),
    ],
)
def test_sets_that_cannot_be_had(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        data.load(DataConfig(f"tfds:{name}", str(tmp_path)))


def test_missing_original_files_are_named_before_any_network(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no file 'cifar-10-binary\.tar\.gz'"):
        data.load(DataConfig("tfds:cifar10", str(tmp_path / "tfds"), str(tmp_path)))


def test_broken_idx_file(tmp_path: Path) -> None:
    for content in (b"", b"no gzip", gzip.compress(b"\x00\x00\x09\x01"), idx(np.ones(9))[:-4]):
        (tmp_path / "x.gz").write_bytes(content)
        with pytest.raises(InputError, match="not a gzipped IDX file"):
            tfds_builders.read_idx(tmp_path / "x.gz")
