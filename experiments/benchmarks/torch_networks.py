"""Networks of regjax in PyTorch, as one would write them there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class TorchCNN(nn.Module):
    """The experiment's network, `regjax.models.CNN`, for 28×28×1 images, in NCHW.

    Args:
      norm: none, batch or layer.
    """

    def __init__(self, norm: str = "batch") -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(1, 32, 3, padding=1),
                nn.Conv2d(32, 64, 3),
                nn.Conv2d(64, 64, 3),
            ]
        )
        self.dense, self.head = nn.Linear(1024, 64), nn.Linear(64, 10)
        norms = {
            "none": [nn.Identity() for _ in range(4)],
            "batch": [nn.BatchNorm2d(c) for c in (32, 64, 64)] + [nn.BatchNorm1d(64)],
            "layer": [nn.GroupNorm(1, c) for c in (32, 64, 64)] + [nn.LayerNorm(64)],
        }
        self.norms = nn.ModuleList(norms[norm])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=False)):
            x = F.relu(norm(convolution(x)))
            x = F.max_pool2d(x, 2) if i < 2 else x
        return self.head(torch.sigmoid(self.norms[3](self.dense(x.flatten(1)))))

    @torch.no_grad()
    def load_flax(self, params: Mapping[str, Any]) -> None:
        """Takes over the parameters of `regjax.models.CNN`."""
        for i, convolution in enumerate(self.convolutions):
            self._copy(convolution, params[f"conv_{i}"], (3, 2, 0, 1))
        # Ours flattens H, W, C and PyTorch C, H, W.
        dense = dict(params["dense"])
        dense["kernel"] = (
            np.asarray(dense["kernel"])
            .reshape(4, 4, 64, 64)
            .transpose(2, 0, 1, 3)
            .reshape(1024, 64)
        )
        self._copy(self.dense, dense, (1, 0))
        self._copy(self.head, params["head"], (1, 0))
        for i, norm in enumerate(self.norms):
            if f"norm_{i}" in params:
                for name, ours in (("weight", "scale"), ("bias", "bias")):
                    value = torch.tensor(np.asarray(params[f"norm_{i}"][ours]))
                    norm.get_parameter(name).copy_(value)

    @staticmethod
    def _copy(layer: Any, params: Mapping[str, Any], order: tuple[int, ...]) -> None:
        layer.weight.copy_(torch.tensor(np.asarray(params["kernel"]).transpose(order)))
        layer.bias.copy_(torch.tensor(np.asarray(params["bias"])))


class _Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, features: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(2)])
        self.shortcut = nn.Sequential()
        if stride > 1 or features != width:
            projection = nn.Conv2d(features, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(y + self.shortcut(x))


class TorchResNet(nn.Module):
    """`regjax.models.ResNet` with batch norm and projections, in NCHW.

    Args:
      channels: of the input.
      widths: of each stage.
      blocks: in each stage.
    """

    def __init__(self, channels: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        entering = [widths[0], *widths[:-1]]
        self.blocks = nn.Sequential(
            *(
                _Block(width if j else entering[i], width, 2 if i and not j else 1)
                for i, width in enumerate(widths)
                for j in range(blocks)
            )
        )
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        return self.head(self.blocks(F.relu(self.norm(self.stem(x)))).mean((2, 3)))
