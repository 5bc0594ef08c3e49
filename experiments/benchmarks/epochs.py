"""An epoch of training and evaluation here, and in other libraries as their examples write it.

Each function takes a config and returns a function that runs one epoch and says on what.
"""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from regjax.config import Config
from regjax.data.splits import Data

Epoch = Callable[[], dict[str, Any]]


def drawn(config: Config) -> Data:
    """The splits of a run."""
    from regjax import assembly

    return assembly.assemble(config).data


def scaled(data: Data, split: str) -> tuple[np.ndarray, np.ndarray]:
    """A split as the network sees it, `(N, H, W, C)`, and its labels."""
    images, labels = data.splits[split]
    return (images.astype(np.float32) - data.shift) * data.scale, labels.astype(np.int32)


def torch_tensors(data: Data, split: str) -> tuple[Any, Any]:
    """The same for PyTorch, `(N, C, H, W)`."""
    import torch

    images, labels = scaled(data, split)
    x = torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return x, torch.tensor(labels, dtype=torch.int64)


def regjax_epoch(config: Config) -> Epoch:
    """regjax, data on the device, and what is known of the work."""
    import jax

    from regjax import assembly, feed
    from regjax.watch import performance

    parts = assembly.assemble(config)
    fed = feed.resident(parts)
    functions = parts.program()
    state = functions.init(*parts.start())
    device = jax.devices()[0].device_kind
    about = {
        "device": f"{device}, jax {jax.__version__}",
        "images": sum(parts.data.splits[name].examples for name in ("train", "valid")),
        "operations": performance.epoch_flops(parts),
        "peak": performance.peak(device),
    }

    def epoch() -> dict[str, Any]:
        nonlocal state
        done = functions.run_epoch(parts.strengths, state, fed.whole, fed.held_out)
        state, _ = jax.block_until_ready(done)
        return about

    return epoch


def torch_epoch(config: Config, mode: str) -> Epoch:
    """PyTorch, data on the device as NCHW tensors; `mode`: eager, compiled or graphs."""
    import jax
    import torch

    jax.config.update("jax_platforms", "cpu")  # draws the data; the GPU's memory is PyTorch's
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    layout = torch.channels_last if device == "cuda" else torch.contiguous_format
    data, tensors = drawn(config), {}
    for name in ("train", "valid"):
        x, y = torch_tensors(data, name)
        tensors[name] = x.to(device, memory_format=layout), y.to(device)
    network = _torch_network(config, x.shape[1]).to(device, memory_format=layout)
    optimizer = _torch_optimizer(config, network.parameters())
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


def ensemble_epoch(config: Config, width: int) -> Epoch:
    """`torch.func`: so many networks under `vmap`, each with a seed and a split of its own.

    Batch norm keeps no running statistics, as the library asks for: evaluation uses the batch's.
    """
    import torch
    from torch import func

    from experiments.lanes import over_seeds

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    of_lanes = [drawn(run) for run in over_seeds(config, range(width))]
    tensors = {}
    for name in ("train", "valid"):
        parts = zip(*(torch_tensors(data, name) for data in of_lanes), strict=True)
        tensors[name] = tuple(torch.stack(part).to(device) for part in parts)
    channels = tensors["train"][0].shape[2]
    networks = [_torch_network(config, channels).to(device) for _ in range(width)]
    for network in networks:
        func.replace_all_batch_norm_modules_(network)
    stacked, buffers = func.stack_module_state(networks)  # pyright: ignore[reportArgumentType]
    optimizer = _torch_optimizer(config, stacked.values())
    lane = torch.arange(width, device=device)[:, None]

    def forward(parameters: Any, buffers: Any, x: torch.Tensor) -> torch.Tensor:
        return func.functional_call(networks[0], (parameters, buffers), (x,))

    def loss(parameters: Any, buffers: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(forward(parameters, buffers, x), y)

    gradient, predict = torch.vmap(func.grad(loss)), torch.vmap(forward)

    def epoch() -> dict[str, Any]:
        x, y = tensors["train"]
        order = torch.stack([torch.randperm(y.shape[1], device=device) for _ in range(width)])
        for rows in order.split(config.batch_size, 1):
            made = gradient(stacked, buffers, x[lane, rows], y[lane, rows])
            for name, parameter in stacked.items():
                parameter.grad = made[name]
            optimizer.step()
        x, y = tensors["valid"]
        size = config.eval_batch_size
        with torch.no_grad():
            hits = sum(
                (predict(stacked, buffers, a).argmax(-1) == b).sum()
                for a, b in zip(x.split(size, 1), y.split(size, 1), strict=True)
            )
        assert 0 <= float(hits) <= y.numel()  # waits for the device
        return {"device": f"{device}, torch {torch.__version__}"}

    return epoch


def _torch_network(config: Config, channels: int) -> Any:
    from experiments.benchmarks.torch_networks import TorchCNN, TorchResNet

    model = config.model
    if model.name == "cnn":
        return TorchCNN(model.norm)
    assert (model.name, model.norm, model.shortcut) == ("resnet", "batch", "projection"), model
    return TorchResNet(channels, model.channels, (model.depth - 2) // 2 // len(model.channels))


def _torch_optimizer(config: Config, parameters: Any) -> Any:
    import torch

    chosen = config.optimizer
    if chosen.name == "adam":
        return torch.optim.Adam(parameters, lr=chosen.learning_rate)
    assert chosen.name == "sgd", chosen
    decay = chosen.weight_decay or 0.0
    return torch.optim.SGD(parameters, chosen.learning_rate, chosen.momentum, weight_decay=decay)


def flax_epoch(config: Config, scanned: bool) -> Epoch:
    """Flax Linen with optax, data on the device; `scanned`: an epoch is one `lax.scan`."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax.training.train_state import TrainState
    from jax import lax

    from experiments.benchmarks.flax_networks import FlaxCNN

    class State(TrainState):
        statistics: Any

    model = config.model
    assert model.name == "cnn", "in Flax there is the cnn only"
    network = FlaxCNN(model.norm, jnp.dtype(model.precision))
    data = drawn(config)
    (x, y), valid = (tuple(map(jnp.asarray, scaled(data, s))) for s in ("train", "valid"))
    chosen = config.optimizer
    tx = {"adam": optax.adam, "sgd": partial(optax.sgd, momentum=chosen.momentum)}[chosen.name]
    variables = network.init(jax.random.key(0), x[:1])
    state = State.create(
        apply_fn=network.apply,
        params=variables["params"],
        statistics=variables.get("batch_stats", {}),
        tx=tx(chosen.learning_rate),
    )

    def step(state: State, rows: jax.Array) -> State:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state.statistics}
            logits, changed = network.apply(variables, x[rows], train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y[rows])
            return losses.mean(), changed.get("batch_stats", {})

        gradients, statistics = jax.grad(loss, has_aux=True)(state.params)
        return state.apply_gradients(grads=gradients, statistics=statistics)

    @jax.jit
    def hits(state: State, images: jax.Array, labels: jax.Array) -> jax.Array:
        variables = {"params": state.params, "batch_stats": state.statistics}
        logits: Any = network.apply(variables, images)
        return (logits.argmax(-1) == labels).sum()

    steps, size = len(y) // config.batch_size, config.eval_batch_size
    one = jax.jit(step)
    whole = jax.jit(lambda state, rows: lax.scan(lambda s, r: (step(s, r), None), state, rows)[0])
    key = jax.random.key(1)

    def epoch() -> dict[str, Any]:
        nonlocal state, key
        key, now = jax.random.split(key)
        # As in Flax's examples, what does not fill a batch waits for another epoch.
        order = jax.random.permutation(now, len(y))[: steps * config.batch_size]
        rows = order.reshape(steps, config.batch_size)
        if scanned:
            state = whole(state, rows)
        else:
            for of_step in rows:
                state = one(state, of_step)
        parts = zip(*(np.split(a, range(size, len(a), size)) for a in valid), strict=True)
        float(sum(hits(state, *part) for part in parts))  # waits for the device
        return {"device": f"{jax.devices()[0].device_kind}, jax {jax.__version__}"}

    return epoch


def keras_epoch(config: Config) -> Epoch:
    """Keras 3 on JAX: `fit` and `evaluate`."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras
    from keras import layers

    assert config.model.name == "cnn", "in Keras there is the cnn only"
    norm = {
        "none": lambda: layers.Identity(),
        "batch": lambda: layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
        "layer": lambda: layers.GroupNormalization(groups=1, epsilon=1e-5),
    }[config.model.norm]
    if config.model.precision == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    data = drawn(config)
    (x, y), valid = (scaled(data, split) for split in ("train", "valid"))
    network: Any = keras.Sequential([layers.Input(x.shape[1:])])
    for channels, padding, pool in ((32, "same", 1), (64, "valid", 1), (64, "valid", 0)):
        network.add(layers.Conv2D(channels, 3, padding=padding))
        network.add(norm())
        network.add(layers.ReLU())
        if pool:
            network.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dense(64), norm(), layers.Activation("sigmoid")):
        network.add(layer)
    network.add(layers.Dense(10, dtype="float32"))
    chosen = config.optimizer
    optimizers = {
        "adam": keras.optimizers.Adam,
        "sgd": partial(keras.optimizers.SGD, momentum=chosen.momentum),
    }
    network.compile(
        optimizer=optimizers[chosen.name](chosen.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def epoch() -> dict[str, Any]:
        network.fit(x, y, batch_size=config.batch_size, epochs=1, verbose=0)
        network.evaluate(*valid, batch_size=config.eval_batch_size, verbose=0)
        device = jax.devices()[0].device_kind
        return {"device": f"{device}, keras {keras.__version__}, jax {jax.__version__}"}

    return epoch


def random_images(count: int, folder: str) -> str:
    """Writes an npz file of them; its path."""
    rng = np.random.default_rng(0)
    path = Path(folder) / "random.npz"
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    np.savez(path, x=images, y=np.arange(count) % 10)
    return str(path)


PEERS: dict[str, Callable[[Config], Epoch]] = {
    "eager": partial(torch_epoch, mode="eager"),
    "compiled": partial(torch_epoch, mode="compiled"),
    "graphs": partial(torch_epoch, mode="graphs"),
    "flax": partial(flax_epoch, scanned=False),
    "flax_scan": partial(flax_epoch, scanned=True),
    "keras": keras_epoch,
}
