"""How long one epoch of the experiment takes, in regjax and in eager PyTorch.

python -m experiments.benchmarks.epoch [--repeats=10] [--config=configs/mnist_1000.py]

Question: does an epoch of `configs/mnist_1000.py` (1,000 images trained at batch 32, 2,000
evaluated) take longer here than the same network, data and optimizer in eager PyTorch?
Method: two processes hold one each; they run an epoch in turn (A B A B ...), the other one idle.
The first epoch of each (compilation, warm-up) is not counted. Reported: the median of each, and
the median and range of the ratios of neighbours.
"""

import json
import multiprocessing
import platform
from collections.abc import Callable

import numpy as np
from absl import app, flags

from experiments.benchmarks.turns import compared, in_turn
from regjax import config as config_lib

_CONFIG = flags.DEFINE_string("config", "configs/mnist_1000.py", "a config whose model is the cnn")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "where TFDS keeps the prepared set")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "original files, to prepare it from")
_REPEATS = flags.DEFINE_integer("repeats", 10, "epochs of each", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")


def regjax_epoch(config: config_lib.Config) -> Callable[[], None]:
    """Returns a function that runs one epoch of training and evaluation."""
    import jax

    from regjax import assembly

    parts = assembly.assemble(config)
    data = parts.arrays("train"), parts.arrays("valid")
    functions = parts.program()
    state = functions.init(*parts.start())

    def epoch() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(functions.run_epoch(parts.strengths, state, *data))  # pyright: ignore

    return epoch


def torch_epoch(config: config_lib.Config) -> Callable[[], None]:
    """Returns the same for eager PyTorch, data in memory as NCHW tensors."""
    import torch

    from experiments.benchmarks.torch_cnn import TorchCNN
    from regjax import assembly

    data = assembly.assemble(config).data
    tensors = {}
    for name in ("train", "valid"):
        images, labels = data.splits[name]
        scaled = (images.astype(np.float32) - data.shift) * data.scale
        x = torch.tensor(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
        tensors[name] = x, torch.tensor(labels, dtype=torch.int64)
    network = TorchCNN(config.model.norm)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.optimizer.learning_rate)
    loss = torch.nn.functional.cross_entropy

    def epoch() -> None:
        network.train()
        x, y = tensors["train"]
        for rows in torch.randperm(len(y)).split(config.batch_size):
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimizer.step()
        network.eval()
        x, y = tensors["valid"]
        batches = zip(x.split(config.eval_batch_size), y.split(config.eval_batch_size), strict=True)
        with torch.no_grad():
            hits = sum((network(a).argmax(1) == b).sum().item() for a, b in batches)
        assert 0 <= hits <= len(y)

    return epoch


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    config = config_lib.check(config_lib.load(_CONFIG.value))
    config.data.data_dir, config.data.manual_dir = _DATA_DIR.value, _MANUAL_DIR.value
    makes = {"regjax": regjax_epoch, "torch": torch_epoch}
    turns = in_turn(makes, config, _REPEATS.value)
    figures = {
        **compared(turns, "regjax", "torch"),
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
    }
    print(json.dumps(figures, indent=2))
    if _OUT.value:
        with open(_OUT.value, "w") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    app.run(main)
