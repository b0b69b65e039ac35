"""Layers that give a row the same bits wherever in a block it stands, and perceptrons of them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LANES", "MLP", "Linear", "join"]

#: Width to which a layer's outputs are padded. Narrower matrix products, and those that threads
#: split elsewhere, change in the last bits with a row's place (measured with MKL: of 12,310
#: products with widths of this multiple and 1 to 16 threads, none did).
LANES = 16


class Linear(nn.Linear):
    """Linear layer that in evaluation gives a row the same bits wherever in the block it stands."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        spare = -self.out_features % LANES
        if self.training or spare == 0:
            return super().forward(input)
        weight = functional.pad(self.weight, (0, 0, 0, spare))
        bias = None if self.bias is None else functional.pad(self.bias, (0, spare))
        return functional.linear(input, weight, bias)[..., : self.out_features]


class MLP(nn.Module):
    """Multi-layer perceptron (*, n_in) -> (*, n_out) with SiLU between layers."""

    def __init__(self, n_in: int, n_out: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = (n_in, *hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [Linear(before, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers, Linear(widths[-1], n_out))

    def forward(self, a: Tensor, context: Tensor) -> Tensor:
        """Outputs for a (*, n, k) joined by the context (*, n, c); n_in is k + c."""
        out: Tensor = self.layers(join(a, context))
        return out


def join(a: Tensor, context: Tensor) -> Tensor:
    """Append the context (*, n, c) to (s, *, n, k), giving (s, *, n, k + c)."""
    if context.shape[-1] == 0:
        return a
    return torch.cat([a, context.expand(*a.shape[:-1], -1)], dim=-1)
