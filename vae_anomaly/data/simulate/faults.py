"""Faults and other episodes of a simulated plant, each with its truth.

With s = size times the noise of the sensor (``NOISE``), p = share of the episode that is over, in
(0, 1], and x the reading without the episode, a row of the episode reads:

====================  =====  ====================================================================
kind                  label  reading
====================  =====  ====================================================================
leak                  1      x + min(1, 10 p) s w: a leak between pump and meter; w is -1 for flow,
                             -1/2 for pressure_out, 1/2 for power and current
stuck                 2      the last reading before the episode
drift                 3      x + p s
spike                 4      x + s
swapped               5      the readings of two sensors, exchanged
wear                  6      x + p^1.5 s w; w is 1 for vibration, 3/4 for bearing_temperature, 1/2
                             for power and current
broken_sensor         7      half of the readings missing, the others x + s e, e standard normal
regime_change         0      another liquid: density 1 + size / 100 in the equations of `physics`,
                             so that pressure_out rises by about s at the nominal point
load_change           0      operators ask for a speed that is size / 100 higher: everything that
                             the plant does is known, but at other times of the day
flush                 0      the operating mode `flush`, which never comes by itself
outage                0      no rows at all
====================  =====  ====================================================================

Label 0: not an anomaly, but an episode that the truth tells. Readings stay inside the physical
range of their sensor, where a transmitter saturates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from vae_anomaly.data.simulate.physics import NOISE, SENSORS, column
from vae_anomaly.data.simulate.randomness import Floats
from vae_anomaly.errors import InputError, closest

__all__ = ["FOREVER", "KINDS", "LABELS", "SWAPPABLE", "Episode", "Fault"]

#: End of an episode that does not end.
FOREVER = datetime(2200, 1, 1, tzinfo=UTC)

#: Two temperatures of one bearing block, a few degrees apart: easily wired the wrong way round.
SWAPPABLE = ("bearing_temperature", "oil_temperature")

#: Sensors that follow the load within minutes: stuck, they are soon wrong.
MOVING = ("pressure_out", "flow", "power", "current")

LEAK = {"flow": -1.0, "pressure_out": -0.5, "power": 0.5, "current": 0.5}
WEAR = {"vibration": 1.0, "bearing_temperature": 0.75, "power": 0.5, "current": 0.5}


class Episode(NamedTuple):
    """The rows of a fault, as an effect sees them."""

    values: Floats  # (n, d) readings without the fault
    progress: Floats  # (n,) share of the episode that is over
    size: float  # in noise units
    columns: tuple[int, ...]  # positions of the planted sensors
    held: Callable[[], Floats]  # (d,) last readings before the episode
    draws: Floats  # (n,) uniform numbers
    noise: Floats  # (n,) standard normal numbers


@dataclass(frozen=True)
class Kind:
    """What an episode of one kind does to readings, and how faults of it are drawn.

    `effect` maps the rows of an episode to what they read; `hours` is the shortest and longest
    length, `size` the usual one in noise units. The sensors are `n_sensors` of `drawn_from`, or
    those of `response`, which the kind itself fixes.
    """

    label: int
    effect: Callable[[Episode], Floats]
    n_sensors: int = 0
    drawn_from: tuple[str, ...] = tuple(sensor.name for sensor in SENSORS)
    size: float = 0.0
    hours: tuple[float, float] = (1.0, 1.0)
    response: dict[str, float] = field(default_factory=dict)


def _added(response: dict[str, float], course: Callable[[Floats], Floats]) -> Callable[..., Floats]:
    """Effect that adds size times noise times a course over the progress to each sensor."""
    weights = np.zeros(len(SENSORS))
    for name, weight in response.items():
        weights[column(name)] = weight

    def effect(episode: Episode) -> Floats:
        shift = weights * NOISE * episode.size
        added: Floats = episode.values + course(episode.progress)[:, None] * shift
        return added

    return effect


def _shifted(course: Callable[[Floats], Floats]) -> Callable[[Episode], Floats]:
    """Effect that adds size times noise times a course over the progress to the planted sensors."""

    def effect(episode: Episode) -> Floats:
        values = episode.values.copy()
        for position in episode.columns:
            values[:, position] += course(episode.progress) * episode.size * NOISE[position]
        return values

    return effect


def _stuck(episode: Episode) -> Floats:
    values, held = episode.values.copy(), episode.held()
    for position in episode.columns:
        values[:, position] = held[position]
    return values


def _swapped(episode: Episode) -> Floats:
    values = episode.values.copy()
    first, second = episode.columns
    values[:, [first, second]] = values[:, [second, first]]
    return values


def _broken(episode: Episode) -> Floats:
    values = episode.values.copy()
    for position in episode.columns:
        values[:, position] += episode.size * NOISE[position] * episode.noise
        values[episode.draws < 0.5, position] = np.nan
    return values


def _none(episode: Episode) -> Floats:
    """Effect of a kind that acts on the physics, or on whole rows."""
    return episode.values


KINDS: dict[str, Kind] = {
    "leak": Kind(
        1, _added(LEAK, lambda p: np.minimum(1, 10 * p)), size=9, hours=(3, 6), response=LEAK
    ),
    "stuck": Kind(2, _stuck, n_sensors=1, drawn_from=MOVING, hours=(5, 9)),
    "drift": Kind(3, _shifted(lambda p: p), n_sensors=1, size=26, hours=(4, 8)),
    "spike": Kind(4, _shifted(np.ones_like), n_sensors=1, size=9),
    "swapped": Kind(5, _swapped, n_sensors=2, hours=(2, 4)),
    "wear": Kind(6, _added(WEAR, lambda p: p**1.5), size=30, hours=(10, 18), response=WEAR),
    "broken_sensor": Kind(7, _broken, n_sensors=1, size=10, hours=(24, 48)),
    "regime_change": Kind(0, _none, size=10),
    "load_change": Kind(0, _none, size=8),
    "flush": Kind(0, _none),
    "outage": Kind(0, _none),
}

#: Name of each label's kind of fault.
LABELS: dict[int, str] = {kind.label: name for name, kind in KINDS.items() if kind.label > 0}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An episode of one asset, from `start` up to, not including, `end`.

    Parameters
    ----------
    kind : str
        A key of KINDS; the equations are in the module's docstring.
    asset : str
        Name of the asset.
    start, end : datetime
        With a zone; FOREVER is an end that does not come.
    sensors : tuple of str
        The planted ones: one of stuck, drift, spike and broken_sensor, two of swapped (none given:
        SWAPPABLE). The other kinds fix theirs.
    size : float
        In multiples of each sensor's noise; may be negative for drift and spike. Nothing to stuck,
        swapped, flush and outage.

    Raises
    ------
    InputError
        The kind or a sensor is unknown, the number of sensors is wrong, or the times are.
    """

    kind: str
    asset: str
    start: datetime
    end: datetime
    sensors: tuple[str, ...] = ()
    size: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"fault of kind '{self.kind}': {closest(self.kind, KINDS)}")
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise InputError(f"{self.kind}: start and end need a zone, such as tzinfo=UTC")
        if self.end <= self.start:
            raise InputError(f"{self.kind}: end {self.end} is not after start {self.start}")
        wanted = KINDS[self.kind].n_sensors
        if len(self.planted if wanted else self.sensors) != wanted:
            raise InputError(
                f"{self.kind}: {len(self.sensors)} sensors are given, it takes {wanted}"
            )
        for name in self.sensors:
            if name not in (known := [sensor.name for sensor in SENSORS]):
                raise InputError(f"{self.kind}: sensor '{name}' is unknown; {closest(name, known)}")

    @property
    def label(self) -> int:
        """Class of the rows: positive for a fault, 0 for another episode."""
        return KINDS[self.kind].label

    @property
    def planted(self) -> tuple[str, ...]:
        """Sensors that read wrong, the most affected first."""
        if self.kind == "swapped":
            return self.sensors or SWAPPABLE
        return self.sensors or tuple(KINDS[self.kind].response)
