"""Every test runs strict: 8 virtual CPU devices, rank promotion raises, warnings are errors."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).parent.parent
# Original files of public data sets; the README says where to get them.
REAL_DATA = Path(os.environ.get("REGJAX_TEST_DATA", ROOT.parent / "shared" / "data"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("parity"):
        pytest.importorskip("torch", reason="the oracle torch is not installed (extra 'parity')")
    if item.get_closest_marker("realdata") and not REAL_DATA.is_dir():
        pytest.skip(f"no original data files in {REAL_DATA} (set REGJAX_TEST_DATA)")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded arrays go to a folder of this test session, also in subprocesses."""
    os.environ["REGJAX_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def mnist_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data_dir with MNIST, prepared by our builder from the original files."""
    from regjax import data

    prepared = tmp_path_factory.mktemp("tfds")
    data.load("tfds:mnist", str(prepared), str(REAL_DATA / "mnist"))
    return prepared
