"""Columns that are not what they seem: copies, totals, and those that change their unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vae_anomaly.data.infer.assets import steps_within

__all__ = ["UnitChange", "count_resets", "find_duplicates", "find_unit_change", "is_totaliser",
           "quantity_of"]  # fmt: skip

#: Correlation from which on a column says nothing that another does not.
SAME = 0.9999
#: Rows on which columns are compared, and columns that are.
COMPARED_ROWS, COMPARED_COLUMNS = 20_000, 1000
#: A sawtooth that falls back so often was seen over its whole range: it is no total.
FEW_RESETS = 10
#: Different values, and share of rows at which a total must rise.
TOTAL_VALUES, TOTAL_RISES = 20, 0.05
#: Values that stand on either side of a change of units.
LEAST_VALUES = 20
#: Changes of units that happen when a device is replaced: quantity → name → factor, offset.
CONVERSIONS = {
    "temperature": {
        "°C to °F": (1.8, 32.0),
        "°F to °C": (1 / 1.8, -32.0 / 1.8),
        "°C to K": (1.0, 273.15),
        "K to °C": (1.0, -273.15),
    },
    "pressure": {
        "bar to psi": (14.503774, 0.0),
        "psi to bar": (1 / 14.503774, 0.0),
        "bar to kPa": (100.0, 0.0),
        "kPa to bar": (0.01, 0.0),
    },
}
#: How names and units tell a quantity: by its word, by its unit, by the letters of ISA 5.1.
QUANTITIES = {
    "temperature": r"(?i:temp|thermo|celsius|fahrenheit|°[cf]|deg_?[cf]\b|\[k\])"
    r"|\bT[ICTEY]{0,3}[-_ ]?\d",
    "pressure": r"(?i:press|druck|\b(?:bar|psi|kpa)\b)|\bP[ICTY]{0,3}[-_ ]?\d",
}


@dataclass(frozen=True)
class UnitChange:
    """A column that goes on in another unit.

    Attributes
    ----------
    conversion : str
        Such as '°C to °F'.
    at : int
        Place of the first value in the new unit.
    is_apart : bool
        Whether the values before and after do not overlap, so that a range tells them apart.
    limit : float
        A value between the two.
    """

    conversion: str
    at: int
    is_apart: bool
    limit: float


def is_totaliser(values: np.ndarray, group: np.ndarray) -> bool:
    """Whether values only ever rise, but for a few resets: a meter, a counter of hours.

    Parameters
    ----------
    values : ndarray of shape (n,)
        NaN where missing.
    group : ndarray of shape (n,)
        Rows that follow one another.

    Examples
    --------
    >>> rows, one = np.arange(100.0), np.zeros(100)
    >>> is_totaliser(rows, one), is_totaliser(np.sin(rows), one)
    (True, False)
    """
    known = np.isfinite(values)
    steps = steps_within(values[known], group[known])
    if len(steps) < TOTAL_VALUES or len(np.unique(values[known])) < TOTAL_VALUES:
        return False
    n_falls = int((steps < 0).sum())
    rises = float((steps > 0).mean())
    is_rising = n_falls == 0 or (
        n_falls < FEW_RESETS and n_falls < 0.01 * len(steps) and _are_resets(values[known], steps)
    )
    return is_rising and rises >= TOTAL_RISES


def _are_resets(values: np.ndarray, steps: np.ndarray) -> bool:
    """Whether each fall is deep: a large part of what the values span."""
    span = float(values.max() - values.min())
    return bool((-steps[steps < 0] >= 0.25 * span).all())


def count_resets(values: np.ndarray, group: np.ndarray) -> int:
    """How often values that rise between fall back deeply; 0 where they also fall otherwise."""
    known = np.isfinite(values)
    steps = steps_within(values[known], group[known])
    falls = steps[steps < 0]
    if len(falls) < FEW_RESETS or len(falls) > 0.1 * len(steps) or (steps > 0).mean() < 0.5:
        return 0
    # what falls back to where it began, from wherever it was
    span = float(np.ptp(values[known]))
    return len(falls) if float(np.median(-falls)) >= 0.25 * span else 0


def find_duplicates(columns: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Columns that follow an earlier one to within a factor and an offset: name → the earlier one.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=100)
    >>> find_duplicates({"a": x, "b": x**2, "c": 1.8 * x + 32})
    {'c': 'a'}
    """
    names = [
        name
        for name, values in columns.items()
        if np.isfinite(values).mean() > 0.5 and np.nanmax(values) > np.nanmin(values)
    ][:COMPARED_COLUMNS]
    if len(names) < 2:
        return {}
    n_rows = len(columns[names[0]])
    some = np.unique(np.linspace(0, n_rows - 1, COMPARED_ROWS).astype(np.int64))
    matrix = np.stack([_standard(columns[name][some]) for name in names])
    correlation = np.abs(matrix @ matrix.T)
    found: dict[str, str] = {}
    for at, name in enumerate(names):
        earlier = [
            first
            for first in range(at)
            if correlation[first, at] > SAME and names[first] not in found
        ]
        if earlier:
            found[name] = names[earlier[0]]
    return found


def _standard(values: np.ndarray) -> np.ndarray:
    """Values with mean 0 and length 1, 0 where missing."""
    known = np.isfinite(values)
    if known.sum() < LEAST_VALUES:
        return np.zeros(len(values))
    centred = np.where(known, values - values[known].mean(), 0.0)
    length = float(np.sqrt((centred**2).sum()))
    standard: np.ndarray = centred / length if length > 0 else centred
    return standard


def quantity_of(name: str, unit: str) -> str:
    """Temperature or pressure, where a column's name or unit says so; else nothing.

    Examples
    --------
    >>> quantity_of("Oil temp", ""), quantity_of("TIC-101", ""), quantity_of("power", "kW")
    ('temperature', 'temperature', '')
    """
    text = f"{name} [{unit}]"
    return next((q for q, pattern in QUANTITIES.items() if re.search(pattern, text)), "")


def find_unit_change(values: np.ndarray, quantity: str) -> UnitChange | None:
    """Where a column goes on in another unit, if what is before and after fits a conversion.

    Middle and spread on both sides must fit the conversion, and nearly all values must lie on their
    side of the middle between the two.

    Parameters
    ----------
    values : ndarray of shape (n,)
        One asset's, in the order of time; NaN where missing.
    quantity : str
        As `quantity_of` has it: which conversions there are.

    Examples
    --------
    >>> celsius = np.random.default_rng(0).normal(20.0, 1.0, size=200)
    >>> changed = np.where(np.arange(200) < 120, celsius, 1.8 * celsius + 32)
    >>> find_unit_change(changed, "temperature").at
    120
    """
    places = np.flatnonzero(np.isfinite(values))
    known = values[places]
    if quantity not in CONVERSIONS or len(known) < 2 * LEAST_VALUES or known.min() == known.max():
        return None
    # a rank-like clip keeps single spikes from drawing the change to them
    clipped = np.clip(known, *np.quantile(known, [0.01, 0.99]))
    cut = int(np.abs(np.cumsum(clipped - clipped.mean())[:-1]).argmax()) + 1
    cut = _sharpened(clipped, cut)
    before, after = known[:cut], known[cut:]
    if min(len(before), len(after)) < LEAST_VALUES:
        return None
    conversion = _conversion(before, after, CONVERSIONS.get(quantity, {}))
    if conversion is None:
        return None
    up = np.median(after) > np.median(before)
    lower, upper = (before, after) if up else (after, before)
    is_apart = bool(lower.max() < upper.min())
    limit = float(lower.max() + upper.min()) / 2
    return UnitChange(conversion, int(places[cut]), is_apart, limit)


def _sharpened(values: np.ndarray, cut: int) -> int:
    """The largest step within a few rows of a place."""
    start = max(cut - 5, 1)
    steps = np.abs(np.diff(values[start - 1 : cut + 6]))
    return start + int(steps.argmax())


def _conversion(
    before: np.ndarray, after: np.ndarray, conversions: Mapping[str, tuple[float, float]]
) -> str | None:
    """The conversion that fits what is before and after, if any."""
    middle, later = float(np.median(before)), float(np.median(after))
    spread, later_spread = (
        float(np.subtract(*np.quantile(x, [0.9, 0.1]))) for x in (before, after)
    )
    between = (middle + later) / 2
    up = later > middle
    on_side = min(float(((before < between) == up).mean()), float(((after > between) == up).mean()))
    if spread <= 0 or later_spread <= 0 or on_side < 0.97:
        return None
    for name, (factor, offset) in conversions.items():
        expected = factor * middle + offset
        far = abs(later - middle)
        if far < 1.5 * max(spread, later_spread):
            continue
        fits = abs(expected - later) <= max(0.5 * later_spread, 0.02 * far)
        if fits and 0.5 <= later_spread / (factor * spread) <= 2.0:
            return name
    return None
