"""Units that names carry, and ranges that no working sensor leaves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vae_anomaly.data.infer.words import words

__all__ = ["FLOORS", "Range", "physical_range", "unit_of", "without_sentinels"]

#: How units are written → how they stand in plant.yml.
SPELLED = {
    "degc": "°C", "deg_c": "°C", "celsius": "°C", "°c": "°C", "c": "°C", "grad": "°C",
    "degf": "°F", "deg_f": "°F", "fahrenheit": "°F", "°f": "°F",
    "k": "K", "kelvin": "K", "percent": "%", "pct": "%", "prozent": "%",
}  # fmt: skip
#: Units that stand at the end of a name without brackets.
AT_END = words(
    "degc deg_c celsius °c degf deg_f fahrenheit °f kelvin percent pct % bar barg mbar psi psig "
    "kpa mpa hpa rpm hz khz kw mw kwh mwh nm kg t_h kg_h m3_h m3h l_min lpm mm_s mm m_s ma mv kv "
    "ppm ppb m3/h kg/h l/min mm/s m/s 1/min"
)
#: What cannot be below: unit in small letters → the least value that physics knows.
FLOORS = {
    "k": 0.0, "°c": -273.15, "°f": -459.67, "hz": 0.0, "khz": 0.0, "kg": 0.0,
    "ppm": 0.0, "ppb": 0.0, "ph": -2.0, "lx": 0.0, "mol/l": 0.0,
}  # fmt: skip
#: Values that devices send in place of a measurement.
SENTINELS = (
    -99.0, -999.0, -9999.0, -99999.0, -999.25, 999.0, 9999.0, 99999.0, 32767.0, -32768.0, 65535.0,
    1e20, -1e20, 1e30, -1e30, 3.4028234663852886e38, -3.4028234663852886e38,
)  # fmt: skip
#: How many spans of the values lie between them and what is taken for a sentinel, on either side.
SPANS = 3
#: Beyond so many times the largest magnitude seen there is no excursion, but another unit or a
#: fault of the device. Vibration of a failing bearing reaches ten times that of a good one.
MAGNITUDES = 10
#: Values that are all nearer to 0 have no digits left to round.
LEAST_MAGNITUDE = 1e-300
#: Room that a temperature has on either side: no machine leaves it by more and is still measured.
DEGREES = {"k": 200.0, "°c": 200.0, "°f": 360.0}


@dataclass(frozen=True)
class Range:
    """Physically lowest and highest value; None where nothing is known."""

    low: float | None = None
    high: float | None = None


def unit_of(name: str) -> str:
    """The unit that a name carries, or none.

    Examples
    --------
    >>> unit_of("Air temperature [K]"), unit_of("speed (rpm)"), unit_of("T_in_degC"), unit_of("tag")
    ('K', 'rpm', '°C', '')
    """
    found = re.search(r"[\[(]\s*([^\[\]()]{1,12}?)\s*[\])]\s*$", name)
    if found:
        return _spelled(found[1])
    tail = re.search(r"(?i)(?:[\s_.-]|\bin )(deg_[cf]|[a-z0-9]+_[a-z]+|[^\s_.-]+)$", name.strip())
    for candidate in (tail[1], tail[1].rpartition("_")[2]) if tail else ():
        if candidate.lower() in AT_END:
            return _spelled(candidate)
    return ""


def _spelled(unit: str) -> str:
    if unit == "C":
        return "°C"
    return SPELLED.get(unit.lower(), unit) if len(unit) > 1 else unit


def without_sentinels(values: np.ndarray) -> np.ndarray:
    """Values without those that devices send in place of one, where these lie far from the rest.

    Examples
    --------
    >>> without_sentinels(np.array([20.5, 21.0, 19.8, -9999.0]))
    array([20.5, 21. , 19.8])
    """
    is_one = np.isin(values, SENTINELS)
    rest = values[~is_one]
    if not is_one.any() or len(rest) < 2:
        return values
    low, high = float(rest.min()), float(rest.max())
    margin = SPANS * max(high - low, 1e-9 * abs(high))
    far = is_one & ((values < low - margin) | (values > high + margin))
    kept: np.ndarray = values[~far]
    return kept


def physical_range(values: np.ndarray, unit: str) -> Range:
    """A range that a working sensor does not leave, however bad the machine is.

    What lies outside is quarantined and never judged, so it is wide: ten times the largest
    magnitude seen, in either direction; of a temperature, 200 degrees or three spans on either
    side; where physics ends sooner, there. Its figures are rounded outwards. A sensor that was
    constant gets no range, for nothing is known of it.

    Examples
    --------
    >>> physical_range(np.array([0.026, 0.029]), ""), physical_range(np.array([4.0, 4.0]), "")
    (Range(low=-0.29, high=0.29), Range(low=None, high=None))
    >>> physical_range(np.array([295.3, 304.5]), "K"), physical_range(np.array([0.5, 90.0]), "Hz")
    (Range(low=95.0, high=510.0), Range(low=0.0, high=900.0))
    """
    if not len(values) or values.min() == values.max():
        return Range()
    low, high = float(values.min()), float(values.max())
    span, magnitude = high - low, max(abs(low), abs(high))
    if not LEAST_MAGNITUDE < magnitude < math.inf / MAGNITUDES:
        return Range()
    if unit == "%" and low >= 0 and high <= 100:
        return Range(-5.0, 105.0)
    if unit.lower() in DEGREES:
        room = max(DEGREES[unit.lower()], SPANS * span)
        bottom, top = _rounded(low - room, math.floor), _rounded(high + room, math.ceil)
    else:
        top = _rounded(MAGNITUDES * magnitude, math.ceil)
        bottom = -top
    floor = FLOORS.get(unit.lower(), -math.inf)
    if low >= floor > bottom:
        bottom = floor
    return Range(bottom, top)


def _rounded(value: float, side: Callable[[float], int]) -> float:
    """A value with two figures, to one side of it."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return float(f"{side(round(value / step, 9)) * step:.6g}")
