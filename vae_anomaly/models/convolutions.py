"""Convolutions over the rows of a window, and over the pixels of images.

A temporal encoder is a tree: each layer joins runs of rows that lie side by side, until one step is
left, and the decoder is its mirror. Nothing is padded, so that the same layers also slide over a
whole series and give the posteriors of all its windows in one pass: so they do where windows lie
over a series in memory, as those of the scorer do. The taps are gathered and
multiplied by a `Linear`, and images go through torch's convolutions: both give a row the same bits
wherever it stands in a block (of 1,608 sizes of image layers, with AVX2 and AVX-512, none did not).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vae_anomaly.models.layers import Linear, join
from vae_anomaly.models.overlapping import rows_beneath

__all__ = ["ImageDecoder", "ImageEncoder", "TemporalDecoder", "TemporalEncoder", "taps"]

#: Side, step and margin of an image layer's kernel. A side that is a multiple of the step reaches
#: every pixel equally often (Odena, Dumoulin & Olah 2016, Deconvolution and Checkerboard
#: Artifacts).
KERNEL, STRIDE, MARGIN = 4, 2, 1


# ------------------------------------------------------------------------------------------- time


def taps(window: int, n_layers: int) -> tuple[tuple[int, ...], ...]:
    """Rows between the taps of each layer, with which the layers see the window and no more.

    All layers have the fewest taps that suffice, each as far apart as the layers below it reach;
    where that is more than the window has, the last tap overlaps.

    Examples
    --------
    >>> taps(8, 3)
    ((0, 1), (0, 2), (0, 4))
    >>> taps(60, 2)
    ((0, 1, 2, 3, 4, 5, 6, 7), (0, 8, 16, 24, 32, 40, 48, 52))

    References
    ----------
    van den Oord et al. (2016), WaveNet, for dilated convolutions. Bai, Kolter & Koltun (2018), An
    Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling.
    """
    n_taps = next(k for k in range(1, window + 1) if k**n_layers >= window)
    layers, reach = [], 1
    for _ in range(n_layers):
        offsets = {min(tap * reach, window - reach) for tap in range(n_taps)}
        layers.append(tuple(sorted(offsets)))
        reach += max(offsets)
    return tuple(layers)


def _tables(layers: tuple[tuple[int, ...], ...]) -> list[Tensor]:
    """Of each layer, which places of the layer below each of its own reads, (places, taps)."""
    tables, places = [], [0]
    for offsets in reversed(layers):
        below = sorted({place + offset for place in places for offset in offsets})
        at = {place: number for number, place in enumerate(below)}
        tables.append(torch.tensor([[at[place + o] for o in offsets] for place in places]))
        places = below
    return tables[::-1]


class TemporalEncoder(nn.Module):
    """Valid convolutions from windows (*, n, w * d), context (*, n, c) to (*, n, n_out).

    With one hidden width or none it is a perceptron of the whole window.

    Parameters
    ----------
    n_sensors, window, n_context : int
        d, w and c.
    n_out : int
        Width of the outputs.
    hidden : tuple of int
        Channels of each layer; their number decides how many taps each has, see `taps`.
    """

    def __init__(
        self, n_sensors: int, window: int, n_context: int, *, n_out: int, hidden: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.n_sensors, self.window = n_sensors, window
        widths = (n_sensors, *(hidden or (n_out,)))
        self.offsets = taps(window, len(widths) - 1)
        self.layers = nn.ModuleList(
            Linear(len(offsets) * before, after)
            for offsets, (before, after) in zip(self.offsets[:-1], pairwise(widths), strict=False)
        )
        # what the whole window says meets the context before the last bend
        self.top = Linear(len(self.offsets[-1]) * widths[-2] + n_context, widths[-1])
        self.out = nn.Sequential(nn.SiLU(), Linear(widths[-1], n_out)) if hidden else nn.Identity()
        for number, table in enumerate(_tables(self.offsets)):
            self.register_buffer(f"table{number}", table, persistent=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        rows = rows_beneath(x, self.n_sensors)
        if rows is not None:
            return self._end(self._slid_over(rows), context)
        a = x.reshape(*x.shape[:-1], self.window, self.n_sensors)
        for number, layer in enumerate(self.layers):
            a = _bent(layer, _gathered(a, self._table(number)))
        whole = _gathered(a, self._table(len(self.layers))).squeeze(-2)
        return self._end(whole, context)

    def over(self, series: Tensor, context: Tensor) -> Tensor:
        """Outputs of all windows of a series in one pass: what several windows share is done once.

        Parameters
        ----------
        series : Tensor of shape (T, d)
            Rows of one unbroken series.
        context : Tensor of shape (T, c)

        Returns
        -------
        Tensor of shape (T - w + 1, n_out)
            Of the windows that end with rows w - 1, ..., T - 1.
        """
        return self._end(self._slid_over(series), context[self.window - 1 :])

    def _slid_over(self, series: Tensor) -> Tensor:
        """What the top reads of each window of a series (*, T, d), (*, T - w + 1, taps * h)."""
        a = series
        for offsets, layer in zip(self.offsets[:-1], self.layers, strict=True):
            a = _bent(layer, _slid(a, offsets))
        return _slid(a, self.offsets[-1])

    def _end(self, whole: Tensor, context: Tensor) -> Tensor:
        out: Tensor = self.out(self.top(join(whole, context)))
        return out

    def _table(self, number: int) -> Tensor:
        return self.get_buffer(f"table{number}")


class TemporalDecoder(nn.Module):
    """Transposed convolutions from latents (*, n, k), context (*, n, c) to (*, n, m * w * d).

    The mirror of `TemporalEncoder`: each place hands its taps down, and where taps meet they add.

    Parameters
    ----------
    n_sensors, window, n_context : int
        d, w and c.
    latent_dim : int
        k.
    n_out : int
        m * w * d: m outputs for each sensor of each row, in m pieces of a window's layout.
    hidden : tuple of int
        Channels of the encoder's layers.
    """

    def __init__(
        self,
        n_sensors: int,
        window: int,
        n_context: int,
        *,
        latent_dim: int,
        n_out: int,
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.n_sensors = n_sensors
        widths = (n_out // window, *hidden)[::-1]
        self.top = Linear(latent_dim + n_context, widths[0] * (1 if hidden else window))
        offsets = taps(window, len(hidden)) if hidden else ()
        self.layers = nn.ModuleList(
            Linear(before, len(own) * after)
            for own, (before, after) in zip(offsets[::-1], pairwise(widths), strict=True)
        )
        self.widths = widths[1:]
        for number, table in enumerate(_tables(offsets)[::-1]):
            self.register_buffer(f"table{number}", table, persistent=False)

    def forward(self, z: Tensor, context: Tensor) -> Tensor:
        a: Tensor = self.top(join(z, context)).unsqueeze(-2)  # (*, n, 1, h)
        for number, (layer, width) in enumerate(zip(self.layers, self.widths, strict=True)):
            a = _scattered(layer(functional.silu(a)), self.get_buffer(f"table{number}"), width)
        if not len(self.layers):
            return a.squeeze(-2)
        m = a.shape[-1] // self.n_sensors
        pieces = a.reshape(*a.shape[:-1], m, self.n_sensors)  # (*, n, w, m, d)
        return pieces.transpose(-3, -2).flatten(-3)


#: Rows that a hidden layer takes at once; with any width they fill the processor's vectors.
PIECE = 256


def _bent(layer: nn.Module, a: Tensor) -> Tensor:
    """SiLU of what a layer gives for a (*, k); in evaluation by calls of one size.

    Bits may depend on the size, and a row must have the same whether its windows share it or not.
    """
    if layer.training:
        return functional.silu(layer(a))
    flat = a.flatten(end_dim=-2)
    spare = -len(flat) % PIECE
    filled = functional.pad(flat, (0, 0, 0, spare)) if spare else flat
    outs = torch.cat([layer(piece) for piece in torch.split(filled, PIECE)])
    bent = functional.silu(outs)[: len(flat)]
    return bent.reshape(*a.shape[:-1], bent.shape[-1])


def _gathered(a: Tensor, table: Tensor) -> Tensor:
    """Taps (*, places, taps * h) of what the layer below gave, (*, places below, h)."""
    places, n_taps = table.shape
    taken = a.index_select(-2, table.flatten())
    return taken.reshape(*a.shape[:-2], places, n_taps * a.shape[-1])


def _scattered(parts: Tensor, table: Tensor, width: int) -> Tensor:
    """Sums (*, places below, h) of the taps (*, places, taps * h) that places hand down."""
    each = parts.reshape(*parts.shape[:-2], table.numel(), width)  # (*, places * taps, h)
    below = each.new_zeros(*each.shape[:-2], int(table.max()) + 1, width)
    return below.index_add(-2, table.flatten(), each)


def _slid(a: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """Taps (*, n - last offset, taps * h) at every place of a series (*, n, h)."""
    n = a.shape[-2] - offsets[-1]
    return torch.cat([a.narrow(-2, offset, n) for offset in offsets], dim=-1)


# ------------------------------------------------------------------------------------------ images


class ImageEncoder(nn.Module):
    """Strided convolutions from flat images (*, n, D), context (*, n, c) to (*, n, n_out).

    Each layer halves height and width, as far as they go.

    Parameters
    ----------
    image : tuple of int
        Channels, height and width; their product is D.
    n_context, n_out : int
        c, and the width of the outputs.
    hidden : tuple of int
        Channels of each layer.
    """

    def __init__(
        self, image: tuple[int, ...], n_context: int, *, n_out: int, hidden: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.image = image
        sides = _sides(image, len(hidden))
        layers: list[nn.Module] = []
        for (before, after), side in zip(pairwise((image[0], *hidden)), sides, strict=False):
            kernel = _kernel(side)
            layers += [nn.Conv2d(before, after, kernel.size, kernel.step, kernel.margin), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        n_pixels = (image[0], *hidden)[-1] * math.prod(sides[-1])
        self.out = Linear(n_pixels + n_context, n_out)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        maps = self.layers(flat.reshape(flat.shape[0], *self.image)).flatten(1)
        out: Tensor = self.out(join(maps.reshape(*x.shape[:-1], maps.shape[-1]), context))
        return out


class ImageDecoder(nn.Module):
    """Transposed convolutions from latents (*, n, k), context (*, n, c) to (*, n, m * D).

    The mirror of `ImageEncoder`.

    Parameters
    ----------
    image : tuple of int
        Channels, height and width; their product is D.
    n_context, latent_dim : int
        c and k.
    n_out : int
        m * D: m outputs a pixel, in m pieces of an image's layout.
    hidden : tuple of int
        Channels of the encoder's layers.
    """

    def __init__(
        self,
        image: tuple[int, ...],
        n_context: int,
        *,
        latent_dim: int,
        n_out: int,
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        sides = _sides(image, len(hidden))[::-1]
        channels = (n_out // math.prod(image[1:]), *hidden)[::-1]
        self.smallest = (channels[0], *sides[0])
        self.top = Linear(latent_dim + n_context, math.prod(self.smallest))
        layers: list[nn.Module] = []
        for (before, after), (small, large) in zip(
            pairwise(channels), pairwise(sides), strict=True
        ):
            layers += [nn.SiLU(), _transposed(before, after, small, large)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, context: Tensor) -> Tensor:
        top = self.top(join(z, context))
        flat = top.flatten(0, -2)
        maps: Tensor = self.layers(flat.reshape(flat.shape[0], *self.smallest)).flatten(1)
        return maps.reshape(*z.shape[:-1], maps.shape[-1])


class _Kernel(NamedTuple):
    """Size, step and margin of a layer's kernel, along height and width."""

    size: tuple[int, int]
    step: tuple[int, int]
    margin: tuple[int, int]


def _kernel(side: tuple[int, int]) -> _Kernel:
    """The kernel for a height and width; a side of 1 is left alone."""
    (size_0, step_0, margin_0), (size_1, step_1, margin_1) = (
        (KERNEL, STRIDE, MARGIN) if length > 1 else (1, 1, 0) for length in side
    )
    return _Kernel((size_0, size_1), (step_0, step_1), (margin_0, margin_1))


def _transposed(
    before: int, after: int, small: tuple[int, int], large: tuple[int, int]
) -> nn.ConvTranspose2d:
    """The layer from channels on the small side to channels on the large one."""
    kernel = _kernel(large)

    def spare(axis: int) -> int:
        reach = (small[axis] - 1) * kernel.step[axis] + kernel.size[axis] - 2 * kernel.margin[axis]
        return large[axis] - reach

    return nn.ConvTranspose2d(
        before, after, kernel.size, kernel.step, kernel.margin, (spare(0), spare(1))
    )


def _sides(image: tuple[int, ...], n_layers: int) -> list[tuple[int, int]]:
    """Height and width before the first layer, and after each; a side of 1 stays."""
    height, width = image[1:]
    sides = [(height, width)]
    for _ in range(n_layers):
        height, width = max(1, height // STRIDE), max(1, width // STRIDE)
        sides.append((height, width))
    return sides
