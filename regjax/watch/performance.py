"""How well a run uses its device: examples a second, share of the peak, memory."""

import dataclasses
import sys
from typing import Any

import jax

from regjax import step
from regjax.assembly import Assembled
from regjax.batch import Arrays
from regjax.strengths import steps_per_epoch

# Dense matrix products in bfloat16 (float16 where there is no bfloat16), operations a second of one
# JAX device, as their makers' data sheets have them. A TPU v2 or v3 chip is two devices.
PEAKS = {
    "A100": 312e12,
    "H100": 989e12,
    "H100 PCIe": 756e12,
    "H200": 989e12,
    "L4": 121e12,
    "T4": 65e12,
    "V100": 125e12,
    "TPU v2": 23e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v6 lite": 918e12,
}


def peak(device_kind: str) -> float | None:
    """Operations a second that a device can do, or None where it is not known, as of any CPU.

    >>> peak("NVIDIA H100 80GB HBM3"), peak("cpu")
    (989000000000000.0, None)
    """
    words = f" {device_kind.replace('-', ' ')} "
    known = [name for name in PEAKS if f" {name} " in words]
    return PEAKS[max(known, key=len)] if known else None


def epoch_flops(parts: Assembled, evaluated: bool = True) -> float | None:
    """Floating-point operations of an epoch: training steps, and the forward pass on `valid`.

    XLA counts the body of a loop once, however often it runs. So one update is counted and
    multiplied; a loop within the step (an `rnn` over time) is still counted once, so that its
    number would be too low, and None is returned.

    Args:
      parts: of the run.
      evaluated: whether the epoch is.
    """
    config, examples = parts.general, parts.data.splits["train"].examples
    if config.model.name == "rnn" or config.model.name.startswith("file:"):
        return None
    alone = parts.alone()  # what all devices do together is the same
    network, run = alone.network, alone.shapes()
    size = min(config.batch_size, examples)
    whole = dataclasses.replace(config, accumulate=1)  # micro-batches are a loop too
    train_steps = step.make_train_steps(whole, network)
    update = jax.jit(lambda strengths, run, train: train_steps(strengths, run, train, 0, 1))
    total = _flops(update, parts.strengths, run, _first(parts, "train", size))
    total *= steps_per_epoch(examples, config.batch_size)
    if evaluated and (valid := parts.data.splits["valid"].examples):
        size = min(step.at_a_time(config.eval_batch_size), valid)
        evaluate = jax.jit(step.make_evaluate(config, network))
        total += _flops(evaluate, run.train, _first(parts, "valid", size)) * valid / size
    return total or None


def _first(parts: Assembled, split: str, size: int) -> Arrays:
    """The shapes of a split of `size` examples."""
    arrays = jax.eval_shape(lambda arrays: arrays, parts.first(split, 1))
    rows = [
        jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for x in (arrays.images, arrays.labels)
    ]
    return arrays.replace(images=rows[0], labels=rows[1])


def _flops(function: Any, *arguments: Any) -> float:
    """What XLA counts in the program before it is compiled: what is asked for, not how it is done.

    (Compiling it a second time for a number would cost as much as the run's own compilation.) Only
    the CPU's client counts, so the program is lowered for it, whatever it will run on.
    """
    shapes = jax.eval_shape(lambda *arrays: arrays, *arguments)
    try:
        with jax.default_device(jax.devices("cpu")[0]):
            costs = function.lower(*shapes).cost_analysis()
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return 0.0
    return float((costs or {}).get("flops", 0.0))


def memory_bytes() -> int | None:
    """The most memory used so far: of the first device, or where it does not tell, the process's.

    >>> (memory_bytes() or 1) > 0
    True
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Performance:
    """Turns an epoch's seconds into figures.

    Args:
      parts: of the run.

    Attributes:
      missing: why there is no share of the peak; empty where there is one.
    """

    def __init__(self, parts: Assembled) -> None:
        device = jax.devices()[0].device_kind
        mesh = parts.parallel.mesh
        self._examples = parts.data.splits["train"].examples
        every, one = parts.config.evaluate_every, peak(device)
        self._flops = {due: epoch_flops(parts, due) for due in {True, every == 1}}
        self._peak = one and one * (1 if mesh is None else mesh.devices.size)
        self.missing = "" if self._peak else f"the peak of '{device}' is not known"
        if self._flops[True] is None:
            self.missing = f"the operations of model.name={parts.config.model.name} are not known"

    def figures(self, seconds: float, evaluated: bool = True) -> dict[str, float]:
        """What is known of an epoch that took `seconds`, its evaluation included if there was."""
        flops = self._flops[evaluated]
        found: dict[str, float | None] = {
            "examples_per_second": self._examples / seconds,
            "flops_per_second": flops and flops / seconds,
            "memory_bytes": memory_bytes(),
        }
        if flops and self._peak:
            found["peak_share"] = flops / seconds / self._peak
        return {name: value for name, value in found.items() if value is not None}
