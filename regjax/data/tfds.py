"""Image-classification sets of TensorFlow Datasets, read and prepared without TensorFlow."""

import contextlib
import dataclasses
import hashlib
import io
import logging
import math
import os
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import absl.logging
import filelock
import numpy as np
import tensorflow_datasets as tfds

from regjax.data import cache
from regjax.data.pool import Pool
from regjax.data.splits import Split
from regjax.data.stream import Stored
from regjax.data.tfds_builders import BUILDERS
from regjax.errors import InputError, did_you_mean, one_line

_core: Any = tfds.core  # its modules are loaded lazily, which type checkers do not see
CHUNK = 1000  # records decoded at once: fifteen times faster than one by one


def load(
    name: str, data_dir: str = "", manual_dir: str = "", most: float = math.inf
) -> Pool | Stored:
    """Loads a set, preparing it first if it is one of the five that need no TensorFlow.

    The pool is the `train` split (with the whole of any other but `test` left aside); the test
    split is `test`, or `validation` where there is no `test`.

    Args:
      name: TFDS name, with configuration and version if wanted: `mnist`, `emnist/letters:3.1.0`.
      data_dir: where prepared sets are; "" for `TFDS_DATA_DIR`, else TFDS's default.
      manual_dir: folder with the original files, for preparing without network.
      most: bytes; a set that takes more is left on disk.

    Raises:
      InputError: unknown set, not prepared and not preparable here, or not image classification.
    """
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or _core.constants.DATA_DIR
    with _quiet():
        builder = _prepared(name, data_dir)
        if builder is None:
            _prepare(name, data_dir, manual_dir)
            builder = _prepared(name, data_dir)
    if builder is None:
        raise InputError(f"tfds:{name} was prepared but cannot be found in '{data_dir}'")
    image, label = _features(builder, name)
    splits = [split for split in ("train", "test", "validation") if split in builder.info.splits]
    if "train" not in splits:
        has = ", ".join(builder.info.splits) or "none"
        raise InputError(f"tfds:{name} has no split 'train' (it has {has}); choose another set")
    classes = tuple(builder.info.features[label].names)
    records = [_Records.of(builder, split, image, label, name) for split in splits[:2]]
    if sum(part.bytes for part in records) > most:
        value_range = _range(records[0].dtype)
        return Stored(f"tfds:{name}", records[0], (*records, None)[1], classes, value_range)
    pool, test = (_arrays(builder, part) for part in (*records, None)[:2])
    images, labels = pool["images"], pool["labels"]
    return Pool(
        f"tfds:{name}",
        images,
        labels,
        test.get("images"),
        test.get("labels"),
        classes,
        _range(images.dtype),
    )


def _range(dtype: np.dtype) -> tuple[float, float] | None:
    return (0.0, float(np.iinfo(dtype).max)) if dtype.kind == "u" else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS and urllib3 print and warn of things that are told here in one line."""
    before = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl.logging.set_verbosity(before)


def _prepared(name: str, data_dir: str) -> Any:
    """The builder of a set that is prepared in `data_dir`, or None."""
    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except _core.registered.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        raise InputError(
            f"data.name is 'tfds:{name}': TFDS has no such set{did_you_mean(name, known)} and "
            f"none of that name is prepared in '{data_dir}'"
        ) from error
    except (AssertionError, ValueError, ImportError, OSError, KeyError) as error:
        raise InputError(f"tfds:{name} cannot be opened: {one_line(error)}") from error
    if not (Path(builder.data_dir) / "dataset_info.json").is_file():
        return None
    file_format = builder.info.file_format
    if file_format != _core.file_adapters.FileFormat.ARRAY_RECORD:
        found = getattr(file_format, "value", "unknown")
        raise InputError(
            f"tfds:{name} in '{data_dir}' is prepared as {found}, which has no random access; "
            "prepare it in another data_dir with file_format='array_record'"
        )
    return builder


def _prepare(name: str, data_dir: str, manual_dir: str) -> None:
    """Writes the records of one of our five sets, once, whole or not at all."""
    plain = name.split(":")[0]
    if plain not in BUILDERS:
        raise InputError(
            f"tfds:{name} is not prepared in '{data_dir}', and its TFDS builder needs TensorFlow "
            'once; install tensorflow-cpu in any environment and run there: python -c "import '
            f"tensorflow_datasets as tfds; tfds.builder('{name}', data_dir='{data_dir}', "
            "file_format='array_record').download_and_prepare()\""
        )
    try:
        Path(data_dir).mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(Path(data_dir) / f".regjax-{plain}.lock"):
            builder = BUILDERS[plain](data_dir=data_dir, file_format="array_record")
            _check_sources(builder, manual_dir)
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual_dir or None,
                    try_download_gcs=False,
                    force_checksums_validation=True,
                )
            )
    except InputError:
        raise
    except Exception as error:  # whatever TFDS, requests or the disk say, the user hears one line
        raise InputError(f"tfds:{name} could not be prepared: {one_line(error)}") from error


def _check_sources(builder: Any, manual_dir: str) -> None:
    """Says at once what TFDS would find out after minutes of retries."""
    files = builder.urls()  # the same names that TFDS has registered
    wanted = ", ".join(files)
    if manual_dir:
        for file in files:
            if not (Path(manual_dir) / file).is_file():
                raise InputError(
                    f"data.manual_dir '{manual_dir}' has no file '{file}'; "
                    f"{builder.name} needs {wanted}"
                )
        return
    host = urllib.parse.urlsplit(next(iter(files.values()))).hostname
    try:
        if not urllib.request.getproxies():  # a proxy looks names up by itself
            socket.getaddrinfo(host, None)
    except OSError as error:
        raise InputError(
            f"tfds:{builder.name} is not prepared and '{host}' cannot be reached; put the original "
            f"files ({wanted}) into a folder and give it as data.manual_dir"
        ) from error


def _features(builder: Any, name: str) -> tuple[str, str]:
    """The names of the image and the label, of one shape each."""
    features = builder.info.features
    keys = builder.info.supervised_keys
    if keys is None or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise InputError(
            f"tfds:{name} names no input and label; choose an image-classification set"
        )
    image, label = keys
    if not isinstance(features[image], tfds.features.Image) or not isinstance(
        features[label], tfds.features.ClassLabel
    ):
        kinds = f"{type(features[image]).__name__} to {type(features[label]).__name__}"
        raise InputError(f"tfds:{name} maps {kinds}; expected Image to ClassLabel")
    if None in features[image].shape:
        raise InputError(
            f"tfds:{name} has images of different sizes, {features[image].shape}; "
            "choose a set with one size"
        )
    return image, label


@dataclasses.dataclass(frozen=True)
class _Records:
    """One split of a prepared set, see `stream.Records`."""

    name: str
    split: str
    source: Any
    image: str
    label: str
    shape: tuple[int, ...]
    dtype: np.dtype
    stamp: str

    @classmethod
    def of(cls, builder: Any, split: str, image: str, label: str, name: str) -> "_Records":
        where = f"tfds:{name}: split '{split}' in '{builder.data_dir}'"
        try:
            source, stamp = builder.as_data_source(split=split), _stamp(builder, split)
        except Exception as error:
            raise _unreadable(where, error) from error
        feature = builder.info.features[image]
        shape, dtype = tuple(feature.shape), np.dtype(feature.np_dtype)
        return cls(where, split, source, image, label, shape, dtype, stamp)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def bytes(self) -> int:
        """Of all images, decoded."""
        return len(self) * math.prod(self.shape) * self.dtype.itemsize

    def read(self, rows: Sequence[int]) -> Split:
        absl.logging.set_verbosity(absl.logging.FATAL)  # else TFDS advises OpenCV
        records = self.source.__getitems__(list(rows))
        images = np.empty((len(rows), *self.shape), self.dtype)
        for place, record in enumerate(records):
            images[place] = record[self.image]
        return Split(images, np.array([record[self.label] for record in records], np.int32))


def _arrays(builder: Any, records: _Records | None) -> dict[str, np.ndarray]:
    """A whole split as arrays `images` and `labels`, from the cache if it is there; None: none."""
    if records is None:
        return {}

    def decode() -> dict[str, np.ndarray]:
        images = np.empty((len(records), *records.shape), records.dtype)
        labels = np.empty(len(records), np.int32)
        for start in range(0, len(records), CHUNK):
            rows = slice(start, min(start + CHUNK, len(records)))
            images[rows], labels[rows] = records.read(range(rows.start, rows.stop))
        return {"images": images, "labels": labels}

    place = Path(builder.data_dir).resolve()
    times = [file.stat().st_mtime_ns for file in _files(builder, records.split)]
    key = hashlib.blake2b(f"{place} {times} {records.stamp}".encode(), digest_size=8).hexdigest()
    try:
        return cache.arrays(f"tfds-{builder.name}-{records.split}-{key}", decode)
    except Exception as error:
        raise _unreadable(records.name, error) from error


def _unreadable(name: str, error: Exception) -> InputError:
    reason = f"{name} cannot be read ({one_line(error)})"
    return InputError(f"{reason}; delete that folder to prepare it again")


def _files(builder: Any, split: str) -> list[Path]:
    return sorted(Path(builder.data_dir).glob(f"*-{split}.*"))


def _stamp(builder: Any, split: str) -> str:
    """Changes when the prepared files do: their names, sizes and description."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update((Path(builder.data_dir) / "dataset_info.json").read_bytes())
    for file in _files(builder, split):
        digest.update(f"{file.name} {file.stat().st_size}".encode())
    return digest.hexdigest()
