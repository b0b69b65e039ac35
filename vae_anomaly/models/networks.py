"""Networks of encoders and decoders, and what they need to know of a plant's rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "MLP",
    "Backbone",
    "Linear",
    "Shape",
    "Sizes",
    "decoder_network",
    "encoder_network",
    "join",
]

#: Width to which a layer's outputs are padded. Narrower matrix products, and those that threads
#: split elsewhere, change in the last bits with a row's place (measured with MKL: of 12,310
#: products with widths of this multiple and 1 to 16 threads, none did).
LANES = 16

#: Kinds of networks: perceptrons for rows, convolutions over time for windows, over both axes for
#: images.
Backbone = Literal["mlp", "temporal", "image"]


class Shape(NamedTuple):
    """What a member of the family must know of the rows that it is to model.

    Attributes
    ----------
    n_sensors : int
        Active sensors d of one row.
    n_context : int
        Operating conditions c.
    window : int
        Rows w that are judged together; a window is flat, x (*, n, w * d), its oldest row first.
    levels : tuple of int
        Of each active sensor, how many levels its code 0, 1, ... has; 0 is a number. Empty: all
        are numbers.
    n_classes : int
        The highest class among the labels of anomalies.
    """

    n_sensors: int
    n_context: int = 0
    window: int = 1
    levels: tuple[int, ...] = ()
    n_classes: int = 0

    @property
    def n_features(self) -> int:
        """Width D of x: sensors times window."""
        return self.n_sensors * self.window


class Sizes(NamedTuple):
    """Widths of a member's networks, and their kind."""

    shape: Shape
    latent_dim: int
    hidden: tuple[int, ...]
    backbone: Backbone = "mlp"
    image: tuple[int, ...] = ()


class Linear(nn.Linear):
    """Linear layer that in evaluation gives a row the same bits wherever in the block it stands."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        spare = -self.out_features % LANES
        if self.training or spare == 0:
            return super().forward(input)
        weight = functional.pad(self.weight, (0, 0, 0, spare))
        bias = functional.pad(self.bias, (0, spare))
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


def encoder_network(sizes: Sizes, n_out: int) -> nn.Module:
    """Network from x (*, n, D) and context (*, n, c) to (*, n, n_out)."""
    return MLP(sizes.shape.n_features + sizes.shape.n_context, n_out, sizes.hidden)


def decoder_network(sizes: Sizes, n_out: int) -> nn.Module:
    """Network from latents (*, n, k) and context (*, n, c) to (*, n, n_out)."""
    return MLP(sizes.latent_dim + sizes.shape.n_context, n_out, sizes.hidden[::-1])
