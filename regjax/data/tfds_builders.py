"""TFDS builders that need no TensorFlow, for the five small image sets.

TFDS's own builders of MNIST, Fashion-MNIST, KMNIST and CIFAR download, extract and encode with
TensorFlow. These write the same records (same name, version, features, keys, order and shards) with
gzip, tarfile, NumPy and Pillow. Downloads and checksums stay TFDS's.
"""

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from regjax.errors import InputError

TRAIN_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST_FILES = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
Records = Iterator[tuple[int, dict[str, Any]]]


def read_idx(path: str | Path) -> np.ndarray:
    """Reads a gzipped IDX file of unsigned bytes, the format of MNIST and its relatives.

    Raises:
      InputError: not such a file.
    """
    try:
        data = gzip.decompress(Path(path).read_bytes())
        dimensions = data[3] if data[:3] == b"\x00\x00\x08" else 0
        shape = np.frombuffer(data, ">u4", count=dimensions, offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise InputError(f"'{path}' is not a gzipped IDX file of bytes: {error}") from error


_core: Any = tfds.core  # its modules are loaded lazily, which type checkers do not see

with _core.registered.skip_registration():

    class _IdxBuilder(tfds.core.GeneratorBasedBuilder):
        """Images and labels in four gzipped IDX files."""

        VERSION = tfds.core.Version("3.0.1")
        URL = ""
        NAMES: list[str] | None = None

        def _info(self) -> tfds.core.DatasetInfo:
            label = (
                tfds.features.ClassLabel(names=self.NAMES)
                if self.NAMES
                else tfds.features.ClassLabel(num_classes=10)
            )
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {"image": tfds.features.Image(shape=(28, 28, 1)), "label": label}
                ),
                supervised_keys=("image", "label"),
            )

        @classmethod
        def urls(cls) -> dict[str, str]:
            """What to download: file name to address."""
            return {name: cls.URL + name for name in (*TRAIN_FILES, *TEST_FILES)}

        def _split_generators(self, dl_manager: Any) -> dict[str, Records]:
            files = dl_manager.download(self.urls())
            return {
                "train": self._generate_examples(*(files[name] for name in TRAIN_FILES)),
                "test": self._generate_examples(*(files[name] for name in TEST_FILES)),
            }

        def _generate_examples(self, images: Any, labels: Any) -> Records:
            pairs = zip(read_idx(images)[..., None], read_idx(labels), strict=True)
            for index, (image, label) in enumerate(pairs):
                yield index, {"image": _png(image), "label": int(label)}

    class Mnist(_IdxBuilder):
        """LeCun et al. (1998)."""

        URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"

    class FashionMnist(_IdxBuilder):
        """Xiao et al. (2017)."""

        URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
        NAMES = [  # noqa: RUF012 - TFDS wants a list
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ]

    class Kmnist(_IdxBuilder):
        """Clanuwat et al. (2018)."""

        URL = "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"
        NAMES = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]  # noqa: RUF012

    class _CifarBuilder(tfds.core.GeneratorBasedBuilder):
        """Krizhevsky (2009): label bytes, then 3,072 bytes of a 3×32×32 image, in a tar file."""

        VERSION = tfds.core.Version("3.0.2")
        URL = ""
        FOLDER = ""
        TRAIN: tuple[str, ...] = ()
        TEST: tuple[str, ...] = ()
        LABELS: dict[str, tuple[str, int]] = {}  # noqa: RUF012 - key: (names file, classes)

        def _info(self) -> tfds.core.DatasetInfo:
            labels = {
                key: tfds.features.ClassLabel(num_classes=classes)
                for key, (_, classes) in self.LABELS.items()
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "id": tfds.features.Text(),
                        "image": tfds.features.Image(shape=(32, 32, 3)),
                        **labels,
                    }
                ),
                supervised_keys=("image", "label"),
            )

        @classmethod
        def urls(cls) -> dict[str, str]:
            """What to download: file name to address."""
            return {cls.URL.rsplit("/", 1)[-1]: cls.URL}

        def _split_generators(self, dl_manager: Any) -> dict[str, Records]:
            archive = Path(dl_manager.download(self.URL))
            for key, (file, _) in self.LABELS.items():
                names = _read_member(archive, self.FOLDER + file).decode().split("\n")
                features: Any = self.info.features
                features[key].names = [name for name in names if name]
            return {
                "train": self._generate_examples(archive, "train_", self.TRAIN),
                "test": self._generate_examples(archive, "test_", self.TEST),
            }

        def _generate_examples(self, archive: Path, prefix: str, files: tuple[str, ...]) -> Records:
            keys, index = list(self.LABELS), 0
            for file in files:
                rows = np.frombuffer(_read_member(archive, self.FOLDER + file), np.uint8)
                for row in rows.reshape(-1, len(keys) + 3072):
                    labels = {key: int(value) for key, value in zip(keys, row, strict=False)}
                    image = row[len(keys) :].reshape(3, 32, 32).transpose(1, 2, 0)
                    yield index, {"id": f"{prefix}{index:05d}", "image": _png(image), **labels}
                    index += 1

    class Cifar10(_CifarBuilder):
        """10 classes."""

        URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
        FOLDER = "cifar-10-batches-bin/"
        TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
        TEST = ("test_batch.bin",)
        LABELS = {"label": ("batches.meta.txt", 10)}  # noqa: RUF012

    class Cifar100(_CifarBuilder):
        """100 classes in 20 superclasses."""

        URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
        FOLDER = "cifar-100-binary/"
        TRAIN = ("train.bin",)
        TEST = ("test.bin",)
        LABELS = {  # noqa: RUF012 - in the order of the bytes
            "coarse_label": ("coarse_label_names.txt", 20),
            "label": ("fine_label_names.txt", 100),
        }


def _png(image: np.ndarray) -> bytes:
    """Encodes with Pillow; given an array, TFDS would encode it with TensorFlow."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG")
    return file.getvalue()


def _read_member(archive: Path, name: str) -> bytes:
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile(name)
            if member is None:
                raise KeyError(name)
            return member.read()
    except (tarfile.TarError, KeyError, OSError, EOFError) as error:
        raise InputError(f"'{archive}' is not the archive expected: {error}") from error


BUILDERS: dict[str, type[_IdxBuilder] | type[_CifarBuilder]] = {
    "mnist": Mnist,
    "fashion_mnist": FashionMnist,
    "kmnist": Kmnist,
    "cifar10": Cifar10,
    "cifar100": Cifar100,
}
