"""Which episodes befall a simulated plant: random faults, a change of regime, the demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal, NamedTuple

import numpy as np

from vae_anomaly.data.simulate.faults import FOREVER, KINDS, SWAPPABLE, Fault
from vae_anomaly.data.simulate.settings import Simulation
from vae_anomaly.errors import InputError, closest

__all__ = ["RANDOM_KINDS", "demo", "random_faults", "regime_change"]

RANDOM_KINDS = ("leak", "stuck", "drift", "spike", "swapped", "wear")
#: A draw of the kind 'spike' plants so many of them, each of one to three rows.
SPIKES = 8
LONGEST_SPIKE_ROWS = 3
#: An episode takes at most so much of the time that it has for itself.
LONGEST_SHARE = 0.8
SHORTEST_SLOT_ROWS = 10
#: Sizes are drawn within so much of the usual size of their kind.
SIZE_SPREAD = 0.25


def random_faults(
    simulation: Simulation,
    start: datetime,
    end: datetime,
    *,
    per_kind: int = 2,
    kinds: Sequence[str] = RANDOM_KINDS,
    scale: float = 1.0,
    seed: int = 0,
) -> tuple[Fault, ...]:
    """Faults of each kind at random assets, times, sensors and sizes, never two at once.

    Drifts and spikes go up or down. The faults are dealt to the assets in turn; those of an asset
    share the time evenly, so that they do not overlap, and leave at least a fifth of it normal.

    Parameters
    ----------
    simulation : Simulation
        The plant; its own faults are not looked at.
    start, end : datetime
        Time within which they begin and end.
    per_kind : int
        Faults of each kind in the whole plant; a fault of the kind spike is a series of eight.
    kinds : sequence of str
        Keys of KINDS.
    scale : float
        Factor of the usual sizes, for power studies.
    seed : int
        Another seed, another schedule.

    Returns
    -------
    tuple of Fault
        In order of asset and time.

    Raises
    ------
    InputError
        There is too little time for so many faults, or a kind is unknown.

    Examples
    --------
    >>> plant = Simulation()
    >>> faults = random_faults(plant, plant.time(12_000), plant.time(20_000), per_kind=1)
    >>> sorted({fault.kind for fault in faults})
    ['drift', 'leak', 'spike', 'stuck', 'swapped', 'wear']
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"fault of kind '{kind}': {closest(kind, KINDS)}")
    generator = np.random.default_rng([simulation.seed, seed])
    dealt = generator.permutation([kind for kind in kinds for _ in range(per_kind)]).tolist()
    faults: list[Fault] = []
    for turn, asset in enumerate(generator.permutation(simulation.assets).tolist()):
        mine = dealt[turn :: simulation.n_assets]
        for place, kind in enumerate(mine):
            slot_rows = (simulation.row(end) - simulation.row(start)) // len(mine)
            slot = _Slot(asset, simulation.row(start) + place * slot_rows, slot_rows)
            faults += _drawn(simulation, kind, slot, scale, generator)
    return tuple(sorted(faults, key=lambda fault: (fault.asset, fault.start)))


def regime_change(
    simulation: Simulation,
    start: datetime,
    *,
    size: float = 10.0,
    kind: Literal["regime_change", "load_change"] = "regime_change",
) -> Simulation:
    """The plant with another liquid or load from `start` on, at every asset and for ever.

    Parameters
    ----------
    simulation : Simulation
        The plant.
    start : datetime
        First moment of the new regime.
    size : float
        Of another liquid, the rise of `pressure_out` at the nominal point in noise units; of
        another load, that of the speed in percent. Other sensors follow.
    kind : {"regime_change", "load_change"}
        Another liquid, which the model has not seen, or another load, at which it knows the plant.
    """
    changes = tuple(
        Fault(kind=kind, asset=asset, start=start, end=FOREVER, size=size)
        for asset in simulation.assets
    )
    return replace(simulation, faults=simulation.faults + changes)


def demo(seed: int = 0) -> Simulation:
    """The demo's plant: 4 assets, 14 days at 5 minutes, faults in the last 40 % of the time.

    Two faults of each kind lie in the part `calibrate` and two in `test`, as the default parts of a
    plant file cut it; one leak lies in the training part, and three days after row `n_rows` hold
    one more of each kind, for a second batch of rows.
    """
    plant = Simulation(n_rows=4032, period_s=300.0, seed=seed)
    leak = Fault(
        kind="leak",
        asset=plant.assets[0],
        start=plant.time(900),
        end=plant.time(950),
        size=KINDS["leak"].size,
    )
    calibrate, test, end, later = (plant.time(round(day * 288)) for day in (8.4, 11.2, 14, 17))
    return replace(
        plant,
        faults=(
            leak,
            *random_faults(plant, calibrate, test, seed=1),
            *random_faults(plant, test, end, seed=2),
            *random_faults(plant, end, later, per_kind=1, seed=3),
        ),
    )


class _Slot(NamedTuple):
    """Time that an episode has for itself."""

    asset: str
    first: int
    n_rows: int


def _drawn(
    simulation: Simulation,
    kind: str,
    slot: _Slot,
    scale: float,
    generator: np.random.Generator,
) -> list[Fault]:
    """One episode somewhere in its slot; of spikes a series, each in a slot of its own."""
    n_episodes = SPIKES if kind == "spike" else 1
    each = slot.n_rows // n_episodes
    if each < SHORTEST_SLOT_ROWS:
        raise InputError(
            f"{slot.n_rows} rows are too few for a fault of kind '{kind}'; give more time between "
            "start and end, or fewer faults"
        )
    size = KINDS[kind].size * scale * generator.uniform(1 - SIZE_SPREAD, 1 + SIZE_SPREAD)
    if KINDS[kind].n_sensors == 1:
        size *= generator.choice([-1.0, 1.0])
    sensors = _sensors(kind, generator)
    episodes = []
    for first in range(slot.first, slot.first + n_episodes * each, each):
        hours = generator.uniform(*KINDS[kind].hours)
        n_rows = int(hours * 3600 / simulation.period_s)
        if kind == "spike":
            n_rows = int(generator.integers(1, LONGEST_SPIKE_ROWS, endpoint=True))
        n_rows = max(1, min(n_rows, int(LONGEST_SHARE * each)))
        begin = first + 1 + int(generator.integers(each - n_rows))
        episodes.append(
            Fault(
                kind=kind,
                asset=slot.asset,
                start=simulation.time(begin),
                end=simulation.time(begin + n_rows),
                sensors=sensors,
                size=size,
            )
        )
    return episodes


def _sensors(kind: str, generator: np.random.Generator) -> tuple[str, ...]:
    """The sensors that an episode is planted in, unless its kind fixes them."""
    if kind == "swapped":
        return SWAPPABLE
    return tuple(
        generator.choice(KINDS[kind].drawn_from, KINDS[kind].n_sensors, replace=False).tolist()
    )
