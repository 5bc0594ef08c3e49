"""Imports run downward only, and the command line answers without JAX."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import regjax

PACKAGE = Path(regjax.__file__).parent
README = PACKAGE.parent / "README.md"

# DESIGN: a module imports from lower floors, and from its own floor where that is no cycle.
FLOORS = {
    0: {"compiling", "dtypes", "errors", "keys", "trees"},
    1: {
        "activations",
        "augment",
        "comparison",
        "convolution",
        "diagnostics",
        "dropout",
        "initializers",
        "losses",
        "metrics",
        "normalization",
        "optimizers",
        "penalties",
        "pooling",
        "schedules",
        "solvers",
        "stopping",
        "transforms",
        "by_patches",
        "depthwise",
        "grouped",
        "many_kernels",
        "winograd",
    },
    2: {"config", "data", "models", "strengths", "sweeps"},
    3: {
        "accumulation",
        "augmentation",
        "averaging",
        "batch",
        "network",
        "objective",
        "optimizer",
        "parallel",
        "program",
        "refit",
        "spread",
        "state",
        "step",
    },
    4: {
        "assembly",
        "checkpoint",
        "conflicts",
        "divergence",
        "feed",
        "workdir",
        "hosts",
        "together",
        "programs",
        "pace",
        "progress",
        "train",
        "evaluate",
        "inspect",
        "drawing",
        "show",
        "studies",
        "watch",
        "cli",
        "commands",
        "interrupts",
        "__main__",
    },
}
# On the floor of mathematics no module needs its neighbours, but for these.
NEIGHBOURS = {
    "convolution": {"by_patches", "depthwise", "grouped", "many_kernels", "winograd"},
    "depthwise": {"by_patches"},
    "diagnostics": {"metrics", "penalties"},  # bins and groups, of which there is one definition
    "grouped": {"by_patches"},
    "many_kernels": {"by_patches"},
    "winograd": {"by_patches"},
    "metrics": {"losses"},
    "optimizers": {"transforms"},
}
FLOOR = {module: floor for floor, modules in FLOORS.items() for module in modules}


def imported(path: Path) -> set[str]:
    """The regjax modules that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "regjax":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {parts[1] for parts in names if parts[0] == "regjax" and len(parts) > 1}
    return found & set(FLOOR)


def modules() -> list[tuple[str, Path]]:
    files = [
        path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" or path.parent != PACKAGE
    ]
    return [(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path) for path in files]


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda x: getattr(x, "stem", x))
def test_imports_run_downward(module: str, path: Path) -> None:
    assert module in FLOOR, f"{module} has no floor: add it to FLOORS"
    for other in imported(path) - {module}:
        assert FLOOR[other] <= FLOOR[module], f"{module} imports {other} from above"
        if FLOOR[module] == 1 and other not in NEIGHBOURS.get(module, ()):
            assert FLOOR[other] == 0, f"{module} imports its neighbour {other}"


def test_the_readme_shows_every_module_on_its_floor() -> None:
    rows = re.findall(r"^\| (\d) \w+ \| (.*?) \|", README.read_text(), re.M)
    shown = {int(floor): set(re.findall(r"`(\w+)`", modules)) for floor, modules in rows}
    assert shown == {floor: modules - {"__main__"} for floor, modules in FLOORS.items()}


def test_mathematics_knows_no_config_and_no_effects() -> None:
    for module, path in modules():
        if FLOOR[module] != 1:
            continue
        names = {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not names & {"os", "time", "pathlib", "logging", "json"}, path


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_command_line_imports_no_jax() -> None:
    assert run("import regjax.cli, sys; print('jax' in sys.modules)") == "False\n"


def test_no_tensorflow() -> None:
    code = "import regjax.train, regjax.data.tfds, sys; print('tensorflow' in sys.modules)"
    assert run(code) == "False\n"


BLOCKS = sorted(FLOORS[0] | FLOORS[1])


@pytest.mark.parametrize("module", BLOCKS)
def test_every_public_function_has_a_doctest(module: str) -> None:
    """Also the classes that are not a record of values or a layer, which their tests show."""
    imported_module = importlib.import_module(f"regjax.{module}")
    names = getattr(imported_module, "__all__", None) or vars(imported_module)
    for name in names:
        function = getattr(imported_module, name)
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        if function.__module__.startswith(f"regjax.{module}"):
            assert ">>>" in (inspect.getdoc(function) or ""), f"{module}.{name} has no doctest"
