"""`regjax inspect` on networks of every kind as they start, and on a trained run by its command."""

import io
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from regjax import inspect, models, state, step
from regjax.assembly import Assembled, assemble
from regjax.config import Config, DataConfig, ParallelConfig
from regjax.inspect import figures, layers, measures
from regjax.network import Network
from regjax.objective import example_losses

from .conftest import ROOT, slow_but
from .test_choices import RESNET, RNN, VIT, set_field
from .test_cli import good, here, refused
from .test_own import OWN

MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"model.widths": (4, 3), "model.norm": "batch", "model.activation": "tanh"},
    "cnn": {"model.name": "cnn", "image": (16, 16), "model.kernels": "spectral_norm"},
    "resnet": {**RESNET, "model.norm": "batch"},
    "rnn": RNN,
    "vit": {**VIT, "model.token_width": 8, "model.norm": "layer"},
    "pair": {"model.name": "file:mine.py:pair", "model.norm": "none"},
    "regression": {"data.task": "regression", "loss.name": "mean_squared", "model.widths": (4,)},
}
DEPTH = {
    "mlp": ["dense_0", "norm_0", "dense_1", "norm_1", "head"],
    "cnn": ["conv_0", "conv_1", "conv_2", "dense", "head"],
    "rnn": ["layer_0/input", "layer_0/recurrent", "head"],
    "pair": ["bias", "kernel"],
    "regression": ["dense_0", "head"],
}


def prepared(name: str, folder: Path) -> Assembled:
    """A network before its first update, on examples stored class by class."""
    options = dict(MODELS[name])
    regression = name == "regression"
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(60) % 3)
    images = rng.integers(0, 256, (60, *options.pop("image", (4, 4)))).astype(np.uint8)
    arrays = {"x": images, "y": labels.astype(np.float32) if regression else labels}
    np.savez(folder / "mine.npz", **arrays)
    data = DataConfig(f"npz:{folder / 'mine.npz'}", train=30, valid=20, select=5, test=5)
    config = Config(data=data, parallel=ParallelConfig("single"), batch_size=8)
    if regression:
        config.stopping.monitor, config.stopping.mode = "valid_r2", "max"
    for field, value in options.items():
        set_field(config, field, value)
    return assemble(config)


def started(name: str, folder: Path) -> tuple[Assembled, Any]:
    parts = prepared(name, folder)
    return parts, parts.program().init(*parts.start())


def printed(found: dict[str, Any]) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    inspect.show({"split": "valid", "epoch": 0, "refit": False, **found}, console)
    return console.export_text()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measures, "LANCZOS", 4)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)


@pytest.mark.parametrize("name", slow_but(MODELS, "mlp", "vit"))
def test_every_network_can_be_measured_in_order_of_depth(name: str, tmp_path: Path) -> None:
    """Traced and not compiled."""
    depth = []

    def inside() -> Any:
        parts = prepared(name, tmp_path)
        run = state.init(parts.general, parts.network, *parts.start())
        look = measures._look(parts, run, "valid")
        depth.extend(look.depth)
        return measures._inside(look)

    found = jax.eval_shape(inside)
    assert set(found["layers"]) == set(depth)
    if name in DEPTH:
        assert depth == DEPTH[name]
    elif name == "vit":
        assert depth[:3] == ["class_token", "position_embedding", "patches"]
        assert depth[-2:] == ["norm", "head"]
    else:
        assert (depth[0], depth[-1]) == ("stem", "head")
        assert depth.index("block_0_0/norm_0") == depth.index("block_0_0/conv_0") + 1


@pytest.mark.parametrize("name", slow_but(["mlp", "pair", "regression"], "regression"))
def test_what_is_measured_is_of_the_split(name: str, tmp_path: Path) -> None:
    parts, run = started(name, tmp_path)
    found = measures.measure(parts, run, "valid")
    assert (found["examples"], found["measured"]) == (20, 20)
    whole, predict = parts.whole("valid"), step.make_predict(parts.config, parts.network)
    outputs = jax.jit(predict)(run.train, whole)
    losses = np.asarray(example_losses(parts.config, outputs, whole.all_labels()), float)
    assert found["loss"]["mean"] == pytest.approx(losses.mean(), rel=1e-5)
    width = 1.96 * losses.std(ddof=1) / np.sqrt(20)
    assert found["loss"]["high"] - found["loss"]["mean"] == pytest.approx(width, rel=1e-4)
    assert found["smoothness"]["start"] == pytest.approx(losses.mean(), rel=1e-4)
    first, *rest = found["layers"].values()
    assert first["covariate_shift"]["distance"] == 0
    assert max(layer["covariate_shift"]["distance"] for layer in rest) > 0
    one, more = found["sharpness"]["sam"]["rise"]
    assert 0 < one <= more
    text = printed(found)
    assert ("left out, it is of classes" in text) == (name == "regression")
    assert ("calibration" in found) == (name != "regression")
    assert ("units: left out" in text) == (name == "pair")
    if name == "mlp":
        assert list(found["layers"]) == DEPTH[name]
        assert found["layers"]["head"]["saturated"] < 1
        assert "saturated" not in found["layers"]["dense_0"]


def test_examples_are_drawn_from_all_that_are_stored(tmp_path: Path) -> None:
    parts, _ = started("mlp", tmp_path)
    labels = [np.asarray(measures._some(parts, "valid", 6).labels) for _ in range(2)]
    assert len(np.unique(labels[0])) == 3
    np.testing.assert_array_equal(labels[0], labels[1])


def test_units_are_those_of_the_network(tmp_path: Path) -> None:
    parts, run = started("mlp", tmp_path)
    images = parts.whole("valid").take(jnp.arange(20), jnp.ones(20)).images
    found = layers.units(parts.network, run.train.params, run.train.statistics, images)
    seen = layers.seen(parts.network, run.train.params, run.train.statistics, images)
    logits, _ = parts.network.apply(run.train.params, run.train.statistics, images)
    np.testing.assert_allclose(seen.output["head"], logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.given["dense_0"], images.reshape(20, -1))
    hidden = np.tanh(np.asarray(seen.output["norm_1"]))
    np.testing.assert_allclose(seen.given["head"], hidden, rtol=1e-4, atol=1e-6)
    share = (np.abs(hidden) >= 0.97).mean()
    assert float(found["head"]["saturated"]) == pytest.approx(share)
    assert found["head"]["units"] == 3
    assert found["head"]["numerical_rank"] == np.linalg.matrix_rank(hidden)


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({**RNN, "model.cell": "elman", "model.activation": "sigmoid"}, {"head": (0, 1)}),
        ({**RNN, "model.cell": "elman", "model.activation": "relu"}, {}),
        ({**RNN, "model.cell": "gru", "model.activation": "relu"}, {"head": (-1, 1)}),
        (
            {**VIT, "model.norm": "none", "model.activation": "tanh"},
            {"block_0/dense_1": (-1, 1)},
        ),
    ],
)
def test_saturation_is_of_the_activation_before_a_layer(
    options: dict[str, Any], ends: dict[str, tuple[float, float]], tmp_path: Path
) -> None:
    config = Config()
    for field, value in {**options, "model.depth": 1, "model.bias": -2.5}.items():
        set_field(config, field, value)
    network = Network(config.model, models.build(config.model, (4, 4, 1), 3), 3)
    images = jax.random.normal(jax.random.key(0), (20, 4, 4, 1))
    params, statistics = network.init(jax.random.key(1), images)
    found = layers.units(network, params, statistics, images)
    seen = layers.seen(network, params, statistics, images)
    measured = {name: layer["saturated"] for name, layer in found.items() if "saturated" in layer}
    assert set(measured) == set(ends)
    for name, (low, high) in ends.items():
        given, near = np.asarray(seen.given[name]), layers.NEAR_AN_END * (high - low)
        share = ((given <= low + near) | (given >= high - near)).mean()
        assert float(measured[name]) == pytest.approx(share)


def test_the_likelihood_is_of_the_logits_where_a_probability_is_0() -> None:
    logits = np.array([[0.0, 120.0], [150.0, 0.0], [0.0, 30.0]], np.float32)
    found = measures._calibration(logits, np.array([0, 0, 1]))
    assert float(found["negative_log_likelihood"]) == pytest.approx(40)


@pytest.mark.slow
def test_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config = tmp_path / "run", f"--config={ROOT / 'configs' / 'digits.py'}"
    options = ["--config.epochs=1", "--config.model.widths=(4,)", "--config.data.select=0"]
    options += ["--config.penalty.name=l1", "--config.penalty.strength=0.1"]
    options += ["--config.penalty.mode=proximal", "--config.batch_size=500"]
    arguments = ["train", config, f"--workdir={run}", *options]
    good(*arguments, run=here)
    (run / "figures").mkdir()
    (run / "figures" / "own.png").write_bytes(b"\x89PNG")  # the user's, which stays
    shown = json.loads(good("inspect", f"--workdir={run}", "--json", run=here))
    assert shown == json.loads((run / "inspect.json").read_text())
    assert next(iter(shown["layers"])) == "dense_0"
    assert {path.stem for path in (run / "figures").iterdir()} == {*figures.NAMES, "own"}
    assert shown["sparsity"]["weights"] > 0
    for path in (run / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    with monkeypatch.context() as patched:  # measuring once is enough
        patched.setattr(inspect, "inspect", lambda path, split: shown)
        assert f"figures in {run / 'figures'}" in good("inspect", f"--workdir={run}", run=here)
    assert "is empty" in refused("inspect", f"--workdir={run}", "--split=select", run=here)
    assert "--split=tset" in refused("inspect", f"--workdir={run}", "--split=tset", run=here)
    assert "holds no run" in refused("inspect", f"--workdir={tmp_path}", run=here)
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.json").write_text((run / "config.json").read_text())
    assert "no checkpoint" in refused("inspect", f"--workdir={begun}", run=here)
    assert "--workdir is missing" in refused("inspect", run=here)


def test_numbers_as_words() -> None:
    from regjax.inspect.output import _number, _percent

    assert [_number(x) for x in (0.0, 1234.5, 1e-5, math.nan, None)] == [
        "0",
        "1.23e+03",
        "1.00e-05",
        "",
        "",
    ]
    assert [_percent(x) for x in (0.123, math.nan, None)] == ["12.3 %", "", ""]
