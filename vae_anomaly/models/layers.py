"""Layers that give a row the same bits wherever in a block it stands, and perceptrons of them."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LANES", "MLP", "Linear", "MemberLinear", "MemberMLP", "join", "product"]

#: Width to which a layer's outputs are padded. Narrower matrix products, and those that threads
#: split elsewhere, change in the last bits with a row's place (measured with MKL: of 12,310
#: products with widths of this multiple and 1 to 16 threads, none did).
LANES = 16


class Linear(nn.Linear):
    """Linear layer that in evaluation gives a row the same bits wherever in the block it stands."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        if self.training:
            return super().forward(input)
        return product(input, self.weight, self.bias)


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows (*, n, k) by a weight (m, k), as (*, n, m); a row's bits do not depend on its place."""
    n_out = len(weight)
    spare = -n_out % LANES
    if spare:
        weight = functional.pad(weight, (0, 0, 0, spare))
        bias = None if bias is None else functional.pad(bias, (0, spare))
    return functional.linear(rows, weight, bias)[..., :n_out]


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


class MemberLinear(nn.Module):
    """A linear layer of each member of an ensemble, (*, M, n, n_in) -> (*, M, n, n_out).

    All in one product in training; one by one in evaluation, where `product` gives a row the same
    bits wherever it stands. Weights start in the range in which those of `Linear` do: with three
    times their variance latents told normal rows from others less well.
    """

    def __init__(self, n_members: int, n_in: int, n_out: int) -> None:
        super().__init__()
        limit = 1 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(n_members, n_out, n_in).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.zeros(n_members, n_out))

    def forward(self, a: Tensor) -> Tensor:
        if self.training:
            return torch.matmul(a, self.weight.mT) + self.bias[:, None]
        each = zip(a.unbind(dim=-3), self.weight, self.bias, strict=True)
        return torch.stack([product(own.contiguous(), *layer) for own, *layer in each], dim=-3)


class MemberMLP(nn.Module):
    """A perceptron of each member of an ensemble, as `MLP` is one; (*, M, n, n_in) in."""

    def __init__(self, n_members: int, n_in: int, n_out: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((n_in, *hidden)):
            layers += [MemberLinear(n_members, before, after), nn.SiLU()]
        last = MemberLinear(n_members, (n_in, *hidden)[-1], n_out)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, a: Tensor, context: Tensor) -> Tensor:
        """Outputs for a (*, M, n, k) joined by the context (*, M, n, c); n_in is k + c."""
        out: Tensor = self.layers(join(a, context))
        return out


def join(a: Tensor, context: Tensor) -> Tensor:
    """Append the context (*, n, c) to (s, *, n, k), giving (s, *, n, k + c)."""
    if context.shape[-1] == 0:
        return a
    return torch.cat([a, context.expand(*a.shape[:-1], -1)], dim=-1)
