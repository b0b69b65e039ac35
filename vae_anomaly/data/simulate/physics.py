"""A pumping station in equations: what drives a pump, and what its sensors then read.

Operating modes; the context columns speed, bypass and ambient explain which relations hold::

    normal     2160-3040 rpm, bypass shut                                   two thirds of the rows
    part_load  1600-1900 rpm, bypass shut, nights; the throttle is half shut               a quarter
    purge      1750-2450 rpm, bypass 10-90 % open, once a day                            4 % of rows
    boost      3250-3450 rpm, bypass 5-45 % open, once a day; second line open           4 % of rows
    flush      1350 rpm with heated oil; only in an episode of that name        never by itself

Valves move with the speed, w(s) = 1 / (1 + exp((s - speed) / 35)): throttle t = 1 - w(2050), second
line o = w(3150); b is the position of the bypass, 0 to 1.

Hydraulics, with n = speed / 3000 rpm, relative density rho, resistance R of the line::

    k             = 3.9e-4 R (1 + 0.8 t) (1 - 0.45 o) / (1 + 2 b)^2             [bar / (m3/h)^2]
    flow of pump  Q = sqrt(max(12 n^2 - 0.3, 0.02) / (1.33e-4 + k))                      [m3/h]
    rise          dp = rho (12 n^2 - 1.33e-4 Q^2)                                         [bar]
    pressure_in   = 2.5 + level - 1.5e-5 Q^2                                              [bar]
    pressure_out  = pressure_in + dp                                                      [bar]
    flow          = Q (1 - 0.9 b)                    the bypass returns before the meter [m3/h]

Power, with phi = Q / (150 n) the load relative to the best point::

    efficiency    = 0.78 / (1 + 0.6 (phi - 1)^2)
    power         = (Q dp / 36 / efficiency + 3 rho n^3) / 0.94                            [kW]
    current       = sqrt(25^2 + (1000 power / (sqrt(3) 400 V 0.88))^2)                      [A]

Mechanics and heat; a temperature follows its target as a first-order lag::

    vibration     = 0.8 + 1.2 n^2 + 2 (phi - 1)^2 + 1.5 exp(-((speed - 2450) / 120)^2)
                    + 1.5 b^2                  2450 rpm is the shaft's critical speed    [mm/s]
    oil           -> 30 + 0.55 ambient + 0.1 (power - Q dp / 36) + 10 if flushed, in 5 min [degC]
    bearing       -> oil + 0.5 + n^2 + 0.4 vibration, in 2 min                             [degC]
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vae_anomaly.config import Sensor
from vae_anomaly.data.simulate.randomness import Floats, Ints

__all__ = [
    "CONTEXT",
    "FLUSH_RPM",
    "MODES",
    "NOISE",
    "SENSORS",
    "Drive",
    "column",
    "lagged",
    "modes",
    "physics",
]

SENSORS = (
    Sensor(name="pressure_in", unit="bar", low=0, high=6),
    Sensor(name="pressure_out", unit="bar", low=0, high=25),
    Sensor(name="flow", unit="m3/h", low=0, high=400),
    Sensor(name="power", unit="kW", low=0, high=250),
    Sensor(name="current", unit="A", low=0, high=500),
    Sensor(name="vibration", unit="mm/s", low=0, high=25),
    Sensor(name="bearing_temperature", unit="degC", low=-30, high=180),
    Sensor(name="oil_temperature", unit="degC", low=-30, high=180),
)
CONTEXT = (
    Sensor(name="speed", unit="rpm", low=0, high=4000, missing="refused"),
    Sensor(name="bypass", unit="%", low=-5, high=105, missing="refused"),
    Sensor(name="ambient", unit="degC", low=-40, high=60, missing="refused"),
)
#: Standard deviation of each sensor's own noise, in its unit: the 'noise unit' of fault sizes.
NOISE: Floats = np.array([0.03, 0.09, 1.8, 0.8, 1.2, 0.08, 0.3, 0.25])
NOISE.setflags(write=False)

MODES = ("normal", "part_load", "purge", "boost", "flush")

#: Edges between the modes, and the width of the valves' travel.
PART_RPM, BOOST_RPM, PURGE_BYPASS = 2050.0, 3150.0, 0.05
VALVE_RPM = 35.0
FLUSH_RPM = 1350.0
#: A weight in a lag that no float64 sum feels.
FORGOTTEN = 1e-18
OIL_LAG_S, BEARING_LAG_S = 300.0, 120.0


class Drive(NamedTuple):
    """What a pump is subjected to at each moment; arrays of shape (n,)."""

    speed: Floats  # rpm
    ambient: Floats  # degC
    bypass: Floats  # 0 shut to 1 open
    resistance: Floats  # relative to the line's nominal one
    level: Floats  # bar, suction pressure above 2.5 bar
    density: Floats  # relative to the nominal liquid
    flush: Floats  # 1 while the pump is flushed with hot oil


def column(sensor: str) -> int:
    """Position of a sensor among SENSORS.

    Examples
    --------
    >>> column("flow")
    2
    """
    return [known.name for known in SENSORS].index(sensor)


def physics(drive: Drive, rows_per_s: float) -> Floats:
    """What the sensors would read without noise; (n, d).

    Parameters
    ----------
    drive : Drive
        Arrays of shape (n,), one row after another in time.
    rows_per_s : float
        Rows in a second; 0 means that temperatures follow at once.
    """
    n = drive.speed / 3000.0
    throttle, second = 1 - _opened(drive, PART_RPM), _opened(drive, BOOST_RPM)
    line = 3.9e-4 * drive.resistance * (1 + 0.8 * throttle) * (1 - 0.45 * second)
    line = line / (1 + 2 * drive.bypass) ** 2
    flow = np.sqrt(np.maximum(12 * n * n - 0.3, 0.02) / (1.33e-4 + line))
    rise = drive.density * (12 * n * n - 1.33e-4 * flow * flow)
    pressure_in = 2.5 + drive.level - 1.5e-5 * flow * flow
    load = flow / (150 * n) - 1
    hydraulic = flow * rise / 36
    power = (hydraulic * (1 + 0.6 * load * load) / 0.78 + 3 * drive.density * n**3) / 0.94
    current = np.sqrt(25.0**2 + (power * (1000 / (np.sqrt(3.0) * 400 * 0.88))) ** 2)
    critical = (drive.speed - 2450) / 120
    vibration = 0.8 + 1.2 * n * n + 2 * load * load + 1.5 * np.exp(-critical * critical)
    vibration = vibration + 1.5 * drive.bypass**2
    oil = 30 + 0.55 * drive.ambient + 0.1 * (power - hydraulic) + 10 * drive.flush
    oil = lagged(oil, OIL_LAG_S * rows_per_s)
    bearing = lagged(oil + 0.5 + n * n + 0.4 * vibration, BEARING_LAG_S * rows_per_s)
    metered = flow * (1 - 0.9 * drive.bypass)
    return np.column_stack(
        [pressure_in, pressure_in + rise, metered, power, current, vibration, bearing, oil]
    )


def modes(drive: Drive) -> Ints:
    """Operating mode of each row, as a position in MODES; (n,)."""
    mode = np.zeros(len(drive.speed), dtype=np.int64)
    mode[drive.speed < PART_RPM] = MODES.index("part_load")
    mode[drive.bypass > PURGE_BYPASS] = MODES.index("purge")
    mode[drive.speed > BOOST_RPM] = MODES.index("boost")
    mode[drive.flush > 0] = MODES.index("flush")
    return mode


def lagged(values: Floats, lag: float) -> Floats:
    """First-order lag y[i] = a y[i-1] + (1 - a) x[i], a = exp(-1 / lag), y before = x[0]; (n,).

    Examples
    --------
    >>> lagged(np.array([0.0, 1.0, 1.0]), 0.0)
    array([0., 1., 1.])
    """
    if lag == 0:
        return values
    kept = math.exp(-1 / lag)
    # The sum of kept^k x[i-k] by doubling: what is summed over 2^j rows, plus the same before it.
    total: Floats = (1 - kept) * (values - values[0])
    reach, weight = 1, kept
    while reach < len(values) and weight > FORGOTTEN:
        total[reach:] += weight * total[:-reach]
        reach, weight = 2 * reach, weight * weight
    total += values[0]
    return total


def _opened(drive: Drive, edge_rpm: float) -> Floats:
    """Position of a valve that opens as the speed passes an edge, 0 to 1."""
    opened: Floats = 1 / (1 + np.exp(-(drive.speed - edge_rpm) / VALVE_RPM))
    return opened
