"""Networks of encoders and decoders, and what they need to know of a plant's rows."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from torch import nn

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.convolutions import (
    ImageDecoder,
    ImageEncoder,
    TemporalDecoder,
    TemporalEncoder,
)
from vae_anomaly.models.layers import LANES, MLP, Linear, join

__all__ = [
    "LANES",
    "MLP",
    "Backbone",
    "Linear",
    "Shape",
    "Sizes",
    "decoder_network",
    "encoder_network",
    "join",
]

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
        Of each active sensor, how many levels its code 1, 2, ... has, which is 0 where missing; 0
        levels: a number. Empty: all are numbers.
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


def encoder_network(sizes: Sizes, n_out: int) -> nn.Module:
    """Network from x (*, n, D) and context (*, n, c) to (*, n, n_out).

    Raises
    ------
    ConfigError
        The backbone does not fit the rows.
    """
    shape, hidden = sizes.shape, sizes.hidden
    refuse_misfits(sizes)
    if sizes.backbone == "temporal":
        return TemporalEncoder(
            shape.n_sensors, shape.window, shape.n_context, n_out=n_out, hidden=hidden
        )
    if sizes.backbone == "image":
        return ImageEncoder(_stacked(sizes), shape.n_context, n_out=n_out, hidden=hidden)
    return MLP(shape.n_features + shape.n_context, n_out, hidden)


def decoder_network(sizes: Sizes, n_out: int) -> nn.Module:
    """Network from latents (*, n, k) and context (*, n, c) to (*, n, n_out).

    Convolutions need n_out to be a multiple of D: so many outputs a feature, in pieces (*, n, D)
    side by side.

    Raises
    ------
    ConfigError
        The backbone does not fit the rows, or the outputs.
    """
    shape, hidden, k = sizes.shape, sizes.hidden, sizes.latent_dim
    refuse_misfits(sizes)
    if sizes.backbone == "mlp":
        return MLP(k + shape.n_context, n_out, hidden[::-1])
    if n_out % shape.n_features:
        raise ConfigError(
            f"backbone '{sizes.backbone}' gives every feature as many outputs as the others, and "
            f"{n_out} outputs do not divide by {shape.n_features} features; with this variant or "
            "these kinds of sensors take backbone 'mlp'"
        )
    if sizes.backbone == "temporal":
        return TemporalDecoder(
            shape.n_sensors, shape.window, shape.n_context, latent_dim=k, n_out=n_out, hidden=hidden
        )
    return ImageDecoder(_stacked(sizes), shape.n_context, latent_dim=k, n_out=n_out, hidden=hidden)


def refuse_misfits(sizes: Sizes) -> None:
    """Refuse a backbone that the rows have no use for.

    Raises
    ------
    ConfigError
        The message says what fits.
    """
    shape, image = sizes.shape, sizes.image
    if sizes.backbone == "temporal" and shape.window == 1:
        raise ConfigError(
            "backbone 'temporal' needs a window of at least 2 rows, and window is 1; set window, "
            "or take backbone 'mlp'"
        )
    if sizes.backbone != "image" and image:
        raise ConfigError(
            f"image={image} has no use with backbone '{sizes.backbone}'; set backbone to 'image', "
            "or leave image out"
        )
    if sizes.backbone == "image" and math.prod(image or (0,)) != shape.n_sensors:
        raise ConfigError(
            f"image={image} makes {math.prod(image or (0,))} values and the model sees "
            f"{shape.n_sensors} sensors; give (channels, height, width) whose product is the "
            "number of sensors, and scaling (low, high), such as (0, 255), with which sensors "
            "that never vary stay too"
        )


def _stacked(sizes: Sizes) -> tuple[int, ...]:
    """Channels, height and width, where the images of a window are channels of one."""
    channels, height, width = sizes.image
    return (sizes.shape.window * channels, height, width)
