"""What one asset of a simulated plant does without faults: drive, noise, missing cells.

Each slow quantity is a first-order autoregression, x[i] = a x[i-1] + sqrt(1 - a^2) e[i] with
a = exp(-period / lag), of unit variance: level of the suction tank (lag 2 h), resistance of the
line (1.5 h), demand u (45 min), trim v and bypass w of the special modes (15 min), and half of the
variance of each sensor's noise (10 min; the other half is white). With h = hour of the day, and a
schedule that is drawn anew each day::

    target speed  = 2100 + 350 tanh(v/2)     purge: 0.7-1.3 h, once a day, from 6 to 20 h on [rpm]
                    3350 + 100 tanh(v/2)     boost: 0.7-1.3 h, once a day, from 7 to 19 h on
                    1750 + 150 tanh(u/2)     part_load: from about 22 h to about 4:30 h
                    2600 + 180 sin(2 pi (h - 9) / 24) + 260 tanh(u/2)       normal: otherwise
    target bypass = 0.5 + 0.4 tanh(w/2)      purge; half of it in boost, 0 in the other modes
    speed, bypass -> their targets in 2 min
    ambient       = 12 + 5 sin(2 pi (h - 9) / 24) + waves of 1.7, 2.6 and 3.9 days          [degC]
    level         = 0.1 x                                                                    [bar]
    resistance    = exp(0.2 x + offset of the asset)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vae_anomaly.data.simulate.physics import FLUSH_RPM, SENSORS, Drive, lagged
from vae_anomaly.data.simulate.randomness import Floats, Ints, normals, uniforms
from vae_anomaly.data.simulate.settings import Simulation

__all__ = ["LONGEST_LAG_S", "drive", "missing", "noise"]

LEVEL_LAG_S, RESISTANCE_LAG_S = 7200.0, 5400.0
NOISE_LAG_S, VALVE_LAG_S = 600.0, 120.0
LONGEST_LAG_S = LEVEL_LAG_S
#: Lags of what the operators ask for, in seconds.
SWINGS = {"demand": 2700.0, "trim": 900.0, "bypass": 900.0}
DAY_S = 86_400.0
#: Independent rows are drawn from so many days.
HORIZON_DAYS = 70
#: Part of the missing cells that comes in bursts, and the longest burst.
BURST_SHARE, BURST_S = 0.5, 3600.0


def drive(simulation: Simulation, asset: int, rows: Ints) -> Drive:
    """What drives an asset in consecutive rows; arrays of shape (n,)."""
    seed, rows_per_s = simulation.seed, simulation.rows_per_s
    flush, density, load = np.zeros(len(rows)), np.ones(len(rows)), np.ones(len(rows))
    for fault in simulation.faults_of(asset):
        if fault.kind == "flush":
            flush[simulation.during(fault, rows)] = 1.0
        elif fault.kind == "regime_change":
            density[simulation.during(fault, rows)] += fault.size / 100
        elif fault.kind == "load_change":
            load[simulation.during(fault, rows)] += fault.size / 100
    time_s = rows.astype(np.float64) * simulation.period_s
    if simulation.independent:
        time_s = uniforms(seed, asset, "moment", rows) * (HORIZON_DAYS * DAY_S)
    speed, bypass = _targets(simulation, asset, rows, time_s)
    speed, bypass = np.where(flush > 0, FLUSH_RPM, load * speed), np.where(flush > 0, 0.0, bypass)
    spread = 0.1 * simulation.asset_spread * normals(seed, asset, "line", np.zeros(1, np.int64))
    resistance = 0.2 * _slow(simulation, asset, "resistance", rows, RESISTANCE_LAG_S) + spread
    return Drive(
        speed=lagged(speed, VALVE_LAG_S * rows_per_s),
        bypass=lagged(bypass, VALVE_LAG_S * rows_per_s),
        ambient=_ambient(seed, time_s),
        resistance=np.exp(resistance),
        level=0.1 * _slow(simulation, asset, "level", rows, LEVEL_LAG_S),
        density=density,
        flush=flush,
    )


def noise(simulation: Simulation, asset: int, rows: Ints) -> Floats:
    """Noise of the sensors, of unit variance, and the constant offsets of the asset; (n, d)."""
    seed, first = simulation.seed, np.zeros(1, dtype=np.int64)
    columns = []
    for j in range(len(SENSORS)):
        white = normals(seed, asset, f"white {j}", rows)
        slow = _slow(simulation, asset, f"noise {j}", rows, NOISE_LAG_S)
        offset = simulation.asset_spread * normals(seed, asset, f"offset {j}", first)
        columns.append(math.sqrt(0.5) * (white + slow) + offset)
    return np.column_stack(columns)


def missing(simulation: Simulation, asset: int, rows: Ints) -> npt.NDArray[np.bool_]:
    """Cells without a reading, single ones and bursts; (n, d)."""
    seed = simulation.seed
    single_share = (1 - BURST_SHARE) * simulation.missing
    # A slot holds one burst of 0 to 1/2 of its length, or none.
    slot_rows = max(2, round(2 * BURST_S / simulation.period_s))
    slot, place = np.divmod(rows, slot_rows)
    burst_share = 4 * BURST_SHARE * simulation.missing
    columns = []
    for j in range(len(SENSORS)):
        begin = 0.5 * slot_rows * uniforms(seed, asset, f"burst begin {j}", slot)
        length = 0.5 * slot_rows * uniforms(seed, asset, f"burst length {j}", slot)
        burst = (place >= begin) & (place < begin + length)
        burst &= uniforms(seed, asset, f"burst {j}", slot) < burst_share
        columns.append(burst | (uniforms(seed, asset, f"single {j}", rows) < single_share))
    return np.column_stack(columns)


class _Targets(NamedTuple):
    """What the operators ask for; arrays of shape (n,)."""

    speed: Floats  # rpm
    bypass: Floats  # 0 shut to 1 open


def _targets(simulation: Simulation, asset: int, rows: Ints, time_s: Floats) -> _Targets:
    """Speed and bypass that the schedule of the day and the demand ask for."""
    demand, trim, opening = (
        np.tanh(0.5 * _slow(simulation, asset, purpose, rows, lag_s))
        for purpose, lag_s in SWINGS.items()
    )
    day = np.floor(time_s / DAY_S).astype(np.int64)
    hour = time_s / 3600 - 24 * day

    def drawn(purpose: str, low: float, high: float, which: Ints = day) -> Floats:
        return low + (high - low) * uniforms(simulation.seed, asset, purpose, which)

    def within(purpose: str, low: float, high: float) -> npt.NDArray[np.bool_]:
        begin = drawn(f"{purpose} begin", low, high)
        inside = (hour >= begin) & (hour < begin + drawn(f"{purpose} hours", 0.7, 1.3))
        return np.asarray(inside, dtype=np.bool_)

    night = hour >= drawn("night begin", 21.5, 22.5)
    night |= hour < drawn("night end", 3.5, 5.5, day - 1)
    boost = within("boost", 7, 19)
    # Later lines win: a purge breaks off a boost.
    speed = 2600 + 180 * np.sin(2 * np.pi * (hour - 9) / 24) + 260 * demand
    speed = np.where(night, 1750 + 150 * demand, speed)
    speed = np.where(boost, 3350 + 100 * trim, speed)
    bypass = np.where(boost, 0.25 + 0.2 * opening, 0.0)
    purge = within("purge", 6, 20)
    return _Targets(
        speed=np.where(purge, 2100 + 350 * trim, speed),
        bypass=np.where(purge, 0.5 + 0.4 * opening, bypass),
    )


def _ambient(seed: int, time_s: Floats) -> Floats:
    """Ambient temperature of the site: the day and three slower waves, in degC; (n,)."""
    phase = uniforms(seed, -1, "weather", np.arange(3, dtype=np.int64))
    ambient = 12 + 5 * np.sin(2 * np.pi * (time_s / DAY_S - 0.375))
    for days, amplitude, shift in zip((1.7, 2.6, 3.9), (1.0, 1.5, 2.0), phase, strict=True):
        ambient = ambient + amplitude * np.sin(2 * np.pi * (time_s / (days * DAY_S) + shift))
    return ambient


def _slow(simulation: Simulation, asset: int, purpose: str, rows: Ints, lag_s: float) -> Floats:
    """First-order autoregression of unit variance, stationary from its first row on; (n,)."""
    draws = normals(simulation.seed, asset, purpose, rows)
    if simulation.independent:
        return draws
    kept = math.exp(-simulation.period_s / lag_s)
    draws[1:] *= math.sqrt(1 - kept * kept) / (1 - kept)
    return lagged(draws, lag_s * simulation.rows_per_s)
