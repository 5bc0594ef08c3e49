"""How many values a unit reads and feeds, and the gain that an activation asks for."""

import math
from collections.abc import Sequence


def fans(shape: Sequence[int], groups: int = 1, transposed: bool = False) -> tuple[int, int]:
    """Returns (fan_in, fan_out) of a kernel of shape `(*window, in / groups, out)`.

    fan_in = in / groups · Π window is what one output value is summed from, fan_out =
    out / groups · Π window what one input value feeds. PyTorch does not know the groups and has
    out · Π window as the fan_out of a grouped convolution: that is `groups=1` here too.

    Args:
      shape: as Flax lays kernels out; a dense kernel is `(in, out)`, a depthwise one
        `(*window, 1, channels)`.
      groups: `feature_group_count`.
      transposed: a transposed convolution as PyTorch counts it, the two fans exchanged. For
        stride 1 the fans that are true are those of an ordinary convolution.

    Raises:
      ValueError: fewer than two dimensions, or groups that do not divide the outputs.

    >>> fans((3, 3, 32, 64))
    (288, 576)
    >>> fans((3, 3, 1, 32), groups=32)
    (9, 9)
    """
    if len(shape) < 2:
        raise ValueError(f"a kernel has at least two dimensions (in, out), got shape {shape}")
    if groups < 1 or shape[-1] % groups:
        raise ValueError(f"groups must divide the {shape[-1]} outputs, got {groups}")
    window = math.prod(shape[:-2])
    fan_in, fan_out = shape[-2] * window, shape[-1] // groups * window
    return (fan_out, fan_in) if transposed else (fan_in, fan_out)


_GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def gain(activation: str, negative_slope: float = 0.01) -> float:
    """The factor on a standard deviation that keeps the variance through an activation.

    `torch.nn.init.calculate_gain`: linear and sigmoid 1, tanh 5/3, ReLU √2, SELU 3/4, leaky ReLU
    √(2 / (1 + a²)).

    Raises:
      ValueError: an activation without a gain.

    >>> gain("leaky_relu", negative_slope=1.0)
    1.0
    """
    if activation == "leaky_relu":
        return math.sqrt(2 / (1 + negative_slope**2))
    if activation not in _GAINS:
        known = ", ".join(sorted([*_GAINS, "leaky_relu"]))
        raise ValueError(f"no gain is known for '{activation}', expected one of {known}")
    return _GAINS[activation]
