"""Every test runs strict: 8 virtual CPU devices, rank promotion raises, warnings are errors."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # the oracle Keras, before anything imports it
# Tests spend their time compiling: random bits take over a second at the default level, kernels
# emitted through MLIR twice as long as those through LLVM alone, and a program divided for many
# compiling threads a fifth longer in all. What one process compiled the others of this session
# load, the command line's among them.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("REGJAX_TESTS", os.path.join(tempfile.gettempdir(), f"regjax-{os.getpid()}"))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.environ["REGJAX_TESTS"])
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import filelock
import hypothesis
import jax
import pytest

from . import parity

# Examples mostly cost a compilation each: few by default, many with --hypothesis-profile=thorough.
for name, examples in (("quick", 6), ("thorough", 60)):
    hypothesis.settings.register_profile(
        name, max_examples=examples, deadline=None, derandomize=True
    )
hypothesis.settings.load_profile("quick")

gc.set_threshold(50_000)  # tracing makes objects by the thousand, few of them in cycles

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).parent.parent
# Original files of public data sets; the README says where to get them.
REAL_DATA = Path(os.environ.get("REGJAX_TEST_DATA", ROOT.parent / "shared" / "data"))


def slow_but(names: Iterable[str], *quick: str) -> list[Any]:
    """The names as parameters of a test, all but some marked slow."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity-table", help="write what was compared with whom into this page")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Workers of pytest-xdist get files one after the other, whose runs share programs."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist tells the controller
        session.config.workeroutput["parity"] = parity.notes()
    elif path := session.config.getoption("--parity-table"):
        parity.write_table(Path(path))


def pytest_unconfigure() -> None:
    if os.environ["REGJAX_TESTS"].endswith(f"-{os.getpid()}"):  # the first process, the last to go
        shutil.rmtree(os.environ["REGJAX_TESTS"], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    if output := getattr(node, "workeroutput", None):
        parity.merge(output["parity"])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("parity"):
        pytest.importorskip("torch", reason="the oracle torch is not installed (extra 'parity')")
    if item.get_closest_marker("realdata") and not REAL_DATA.is_dir():
        pytest.skip(f"no original data files in {REAL_DATA} (set REGJAX_TEST_DATA)")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded arrays go to a folder of this test session, also in subprocesses."""
    os.environ["REGJAX_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="session")
def programs_are_shared() -> Iterator[None]:
    """Runs of all tests share what is traced and compiled, as those of a study do."""
    from regjax.assembly import Assembled
    from regjax.studies.shared import Shared

    made, key, make = {}, Shared().program_key, Assembled.program

    def program(parts: Assembled) -> Any:
        if parts.config.model.name.startswith("file:"):  # which may have changed
            return make(parts)
        one = f"{key(parts)} {parts.parallel}"
        made[one] = made.pop(one, None) or make(parts)
        if len(made) > 16:  # the one asked for longest ago
            del made[next(iter(made))]
        return made[one]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Assembled, "program", program)
        yield


@pytest.fixture(scope="session")
def mnist_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data_dir with MNIST, prepared by our builder from the original files.

    Half a minute's work, so all workers of pytest-xdist read what the first of them prepared.
    """
    from regjax import data
    from regjax.config import DataConfig

    shared = tmp_path_factory.getbasetemp()
    prepared = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "mnist"
    with filelock.FileLock(f"{prepared}.lock"):
        data.load(DataConfig("tfds:mnist", str(prepared), str(REAL_DATA / "mnist")))
    return prepared
