"""Counts, shares, intervals and names as a picture's texts say them."""

from __future__ import annotations

import math
from typing import Protocol

__all__ = ["Estimate", "counted", "percent", "shortened", "with_ends"]


class Estimate(Protocol):
    """A figure with the ends of its interval; NaN where it is not known."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def counted(count: int, kind: str = "") -> str:
    """A number of rows.

    Examples
    --------
    >>> counted(1), counted(1200, "normal")
    ('1 row', '1,200 normal rows')
    """
    return f"{count:,} {kind} row{'' if count == 1 else 's'}".replace("  ", " ")


def percent(value: float) -> str:
    """A share in percent, with as many digits as a small one needs.

    Examples
    --------
    >>> percent(1.0), percent(0.5), percent(0.012)
    ('100 %', '50.0 %', '1.20 %')
    """
    if math.isnan(value):
        return "an unknown share"
    digits = 0 if value >= 0.9995 or value == 0 else 1 if value >= 0.0995 else 2
    return f"{100 * value:.{digits}f} %"


def with_ends(figure: Estimate) -> str:
    """A figure and its interval, such as 0.940 (0.920 to 0.960)."""
    if math.isnan(figure.value):
        return "not known"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def shortened(name: str, most: int) -> str:
    """A name, with its middle left out where it is too long.

    Examples
    --------
    >>> shortened("volume flow", 7)
    'vol…low'
    """
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
