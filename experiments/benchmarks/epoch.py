"""How long an epoch takes, in regjax and in PyTorch, eager and compiled.

python -m experiments.benchmarks.epoch [--repeats=10] [--config=configs/mnist_1000.py]
    [--peers=eager,compiled,graphs] [--random_images=0]

Question: does an epoch of training and evaluation (of `configs/mnist_1000.py`: 1,000 images at
batch 32, 2,000 evaluated) take longer here than the same network, data, precision and optimizer in
PyTorch? `compiled` is `torch.compile`, `graphs` the same with mode="reduce-overhead" (CUDA graphs).
Method: a process for each; they run an epoch in turn (A B C A B C ...), the others idle, all on the
GPU where there is one, with the data there and TF32 allowed. The first epoch of each (compilation,
warm-up) is told apart. Reported: the median of each, images per second, the share of the device's
peak (by the operations that XLA counts, for all of them; where the peak is known), and the median
and range of the ratios of neighbours.
"""

import contextlib
import json
import multiprocessing
import platform
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from experiments.benchmarks.turns import compared, in_turn
from regjax import config as config_lib

_CONFIG = flags.DEFINE_string("config", "configs/mnist_1000.py", "a config of a cnn or resnet")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "where TFDS keeps the prepared set")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "original files, to prepare it from")
_RANDOM = flags.DEFINE_integer("random_images", 0, "so many of 32×32×3, in place of the data")
_PEERS = flags.DEFINE_list("peers", ["eager"], "of eager, compiled, graphs")
_REPEATS = flags.DEFINE_integer("repeats", 10, "epochs of each", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")


def regjax_epoch(config: config_lib.Config) -> Callable[[], dict[str, Any]]:
    """Returns a function that runs one epoch of training and evaluation."""
    import jax

    from regjax import assembly
    from regjax.watch import performance

    parts = assembly.assemble(config)
    data: Any = parts.arrays("train"), parts.arrays("valid")
    functions = parts.program()
    state = functions.init(*parts.start())
    device = jax.devices()[0].device_kind
    about = {
        "device": f"{device}, jax {jax.__version__}",
        "images": len(data[0]) + len(data[1]),
        "operations": performance.epoch_flops(parts),
        "peak": performance.peak(device),
    }

    def epoch() -> dict[str, Any]:
        nonlocal state
        state, _ = jax.block_until_ready(functions.run_epoch(parts.strengths, state, *data))
        return about

    return epoch


def torch_epoch(config: config_lib.Config, mode: str) -> Callable[[], dict[str, Any]]:
    """Returns the same for PyTorch, data in memory as NCHW tensors."""
    import jax
    import torch

    from regjax import assembly

    jax.config.update("jax_platforms", "cpu")  # draws the data; the GPU's memory is PyTorch's
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    layout = torch.channels_last if device == "cuda" else torch.contiguous_format
    data = assembly.assemble(config).data
    tensors = {}
    for name in ("train", "valid"):
        images, labels = data.splits[name]
        scaled = (images.astype(np.float32) - data.shift) * data.scale
        x = torch.tensor(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
        x = x.to(device, memory_format=layout)
        tensors[name] = x, torch.tensor(labels, dtype=torch.int64, device=device)
    network = _torch_network(config, data.input_shape[-1]).to(device, memory_format=layout)
    optimizer = _torch_optimizer(config, network)
    half = partial(torch.autocast, device, torch.bfloat16)
    precision = half if config.model.precision == "bfloat16" else contextlib.nullcontext
    loss = torch.nn.functional.cross_entropy
    forward: Any = network
    if mode != "eager":
        kind = "reduce-overhead" if mode == "graphs" else "default"
        forward = torch.compile(network, mode=kind, dynamic=False)

    def epoch() -> dict[str, Any]:
        network.train()
        x, y = tensors["train"]
        for rows in torch.randperm(len(y), device=device).split(config.batch_size):
            optimizer.zero_grad()
            with precision():
                value = loss(forward(x[rows]), y[rows])
            value.backward()
            optimizer.step()
        network.eval()
        x, y = tensors["valid"]
        batches = zip(x.split(config.eval_batch_size), y.split(config.eval_batch_size), strict=True)
        with torch.no_grad(), precision():
            hits = sum((forward(a).argmax(1) == b).sum() for a, b in batches)
        assert 0 <= float(hits) <= len(y)  # waits for the device
        return {"device": f"{device}, torch {torch.__version__}"}

    return epoch


def _torch_network(config: config_lib.Config, channels: int) -> Any:
    from experiments.benchmarks.torch_networks import TorchCNN, TorchResNet

    model = config.model
    if model.name == "cnn":
        return TorchCNN(model.norm)
    assert (model.name, model.norm, model.shortcut) == ("resnet", "batch", "projection"), model
    return TorchResNet(channels, model.channels, (model.depth - 2) // 2 // len(model.channels))


def _torch_optimizer(config: config_lib.Config, network: Any) -> Any:
    import torch

    chosen = config.optimizer
    if chosen.name == "adam":
        return torch.optim.Adam(network.parameters(), lr=chosen.learning_rate)
    assert chosen.name == "sgd", chosen
    decay = chosen.weight_decay or 0.0
    return torch.optim.SGD(
        network.parameters(), chosen.learning_rate, chosen.momentum, weight_decay=decay
    )


def random_images(count: int, folder: str) -> str:
    """Writes an npz file of them; its path."""
    rng = np.random.default_rng(0)
    path = Path(folder) / "random.npz"
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    np.savez(path, x=images, y=np.arange(count) % 10)
    return str(path)


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    config = config_lib.load(_CONFIG.value)
    config.data.data_dir, config.data.manual_dir = _DATA_DIR.value, _MANUAL_DIR.value
    makes: dict[str, Any] = {"regjax": regjax_epoch}
    makes |= {mode: partial(torch_epoch, mode=mode) for mode in _PEERS.value}
    with tempfile.TemporaryDirectory() as folder:
        if _RANDOM.value:
            config.data.name = f"npz:{random_images(_RANDOM.value, folder)}"
        turns = in_turn(makes, config_lib.check(config), _REPEATS.value)
    about = turns["regjax"].result
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
        "config": _CONFIG.value,
        **about,
    }
    for name, turn in turns.items():
        seconds = statistics.median(turn.seconds)
        figures[name] = {
            "first": turn.first,
            "seconds": seconds,
            "images/s": about["images"] / seconds,
        }
        if about["peak"] and about["operations"]:
            figures[name]["peak_share"] = about["operations"] / seconds / about["peak"]
        if name != "regjax":
            against = compared(turns, "regjax", name)
            figures[name] |= {key: against[key] for key in ("ratio", "ratio_range")}
            figures[name] |= turn.result
    print(json.dumps(figures, indent=2))
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
