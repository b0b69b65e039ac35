"""Rows of a simulated plant: any piece of them, equal to the same piece of the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vae_anomaly.data.simulate.faults import KINDS, Episode, Fault
from vae_anomaly.data.simulate.physics import CONTEXT, MODES, NOISE, SENSORS, column, modes, physics
from vae_anomaly.data.simulate.process import LONGEST_LAG_S, drive, missing, noise
from vae_anomaly.data.simulate.randomness import Floats, Ints, normals, uniforms
from vae_anomaly.data.simulate.settings import Simulation
from vae_anomaly.errors import InputError, closest

__all__ = ["SCHEMA", "expected", "pieces", "simulate", "truth"]

#: A block is computed from so many of the longest lags before its first row: e^-6 is left of
#: what was before.
WARM_UP_LAGS = 6
BLOCK_ROWS = 4096
#: Decimals of a reading, far below the noise.
DECIMALS = 4
#: Standard deviations of the measured context, in rpm, % and degC.
CONTEXT_NOISE = (2.0, 0.3, 0.1)
LOW = np.array([sensor.low for sensor in SENSORS])
HIGH = np.array([sensor.high for sensor in SENSORS])

SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        ("asset", pa.string()),
        ("mode", pa.string()),
        *((sensor.name, pa.float64()) for sensor in (*CONTEXT, *SENSORS)),
        ("fault", pa.int32()),
    ]
)


class Block(NamedTuple):
    """Consecutive rows of one asset."""

    rows: Ints  # (n,)
    context: Floats  # (n, c) as measured
    expected: Floats  # (n, d) without noise, offsets and sensor faults
    values: Floats  # (n, d) readings, NaN where missing
    label: Ints  # (n,)
    mode: Ints  # (n,) positions in MODES
    kept: npt.NDArray[np.bool_]  # (n,) False where there is no row


def simulate(
    simulation: Simulation,
    first: int = 0,
    n_rows: int | None = None,
    *,
    assets: tuple[str, ...] = (),
) -> pa.Table:
    """Rows `first` up to `first + n_rows` of each asset, in order of asset and time.

    Pieces are equal to the same rows of the whole, bit by bit, whichever way it is cut: rows are
    computed in blocks of fixed length, each from its own random numbers. Time and memory grow with
    the piece.

    Parameters
    ----------
    simulation : Simulation
        The plant.
    first : int
        Number of the first row; the time of row i is ``simulation.time(i)``.
    n_rows : int, optional
        Rows of each asset; by default up to row ``simulation.n_rows``.
    assets : tuple of str
        Assets to be simulated; none means all of them.

    Returns
    -------
    pa.Table
        Of `SCHEMA`: time, asset, mode, speed, ambient, the sensors (null where missing) and the
        label `fault`: 0 for normal rows, else the class of the fault as in `KINDS`.

    Raises
    ------
    InputError
        The plant has no asset of that name.

    Examples
    --------
    >>> plant = Simulation(n_assets=1, n_rows=100)
    >>> pa.concat_tables([simulate(plant, 0, 60), simulate(plant, 60)]).equals(simulate(plant))
    True
    """
    tables = [SCHEMA.empty_table()]
    for asset in assets or simulation.assets:
        for block in _blocks(simulation, _number(simulation, asset), first, n_rows):
            tables.append(_table(simulation, asset, block))
    return pa.concat_tables(tables).combine_chunks()


def pieces(simulation: Simulation, rows_per_piece: int) -> Iterator[pa.Table]:
    """The whole simulation in pieces of so many rows an asset, in order of time."""
    for first in range(0, simulation.n_rows, rows_per_piece):
        yield simulate(simulation, first, min(rows_per_piece, simulation.n_rows - first))


def expected(simulation: Simulation, first: int = 0, n_rows: int | None = None) -> Floats:
    """What the sensors would read without noise, offsets and sensor faults; (n, d).

    The oracle of the simulator: row i belongs to row i of `simulate` with the same arguments. It
    knows the true load, which a model has to infer, and the changes of regime.
    """
    assets = range(simulation.n_assets)
    blocks = (block for asset in assets for block in _blocks(simulation, asset, first, n_rows))
    return np.concatenate([np.empty((0, len(SENSORS))), *(b.expected[b.kept] for b in blocks)])


def truth(simulation: Simulation) -> pa.Table:
    """The planted episodes, one row each, in the order in which they were planted.

    Columns: kind, label (0: not an anomaly), asset, sensors (the most affected first), start, end
    (the first moment after it) and size in noise units.
    """
    time = pa.timestamp("us", tz="UTC")
    faults = simulation.faults
    return pa.table(
        {
            "kind": pa.array([fault.kind for fault in faults], pa.string()),
            "label": pa.array([fault.label for fault in faults], pa.int32()),
            "asset": pa.array([fault.asset for fault in faults], pa.string()),
            "sensors": pa.array([fault.planted for fault in faults], pa.list_(pa.string())),
            "start": pa.array([fault.start for fault in faults], time),
            "end": pa.array([fault.end for fault in faults], time),
            "size": pa.array([fault.size for fault in faults], pa.float64()),
        }
    )


def _number(simulation: Simulation, asset: str) -> int:
    if asset not in simulation.assets:
        raise InputError(f"asset '{asset}': {closest(asset, simulation.assets)}")
    return simulation.assets.index(asset)


def _table(simulation: Simulation, asset: str, block: Block) -> pa.Table:
    numbers = np.concatenate([block.context, block.values], axis=1)[block.kept]
    mode = pa.DictionaryArray.from_arrays(pa.array(block.mode[block.kept]), pa.array(MODES))
    return pa.table(
        [
            pa.array(simulation.time_us(block.rows[block.kept]), SCHEMA.field("time").type),
            pa.repeat(pa.scalar(asset), len(numbers)),
            mode.cast(pa.string()),
            *(pa.array(numbers[:, j], from_pandas=True) for j in range(numbers.shape[1])),
            pa.array(block.label[block.kept], pa.int32()),
        ],
        schema=SCHEMA,
    )


def _blocks(simulation: Simulation, asset: int, first: int, n_rows: int | None) -> Iterator[Block]:
    """Rows of an asset, cut from the blocks that hold them."""
    stop = simulation.n_rows if n_rows is None else first + n_rows
    size = _block_rows(simulation)
    for number in range(first // size, -(-stop // size)):
        begin = number * size
        block = _measured(simulation, asset, _block(simulation, asset, number))
        yield Block._make(part[max(first - begin, 0) : stop - begin] for part in block)


def _warm_up(simulation: Simulation) -> int:
    return math.ceil(WARM_UP_LAGS * LONGEST_LAG_S / simulation.period_s)


def _block_rows(simulation: Simulation) -> int:
    """Rows of a block: at least twice the warm-up, which is computed in vain."""
    return max(BLOCK_ROWS, 1 << (2 * _warm_up(simulation) - 1).bit_length())


def _block(simulation: Simulation, asset: int, number: int) -> Block:
    """Block `number` of an asset with its faults, as no transmitter has sent it yet.

    Always of one size and computed in one way, so that its numbers never depend on the cut.
    """
    size, warm_up = _block_rows(simulation), _warm_up(simulation)
    rows = np.arange(number * size - warm_up, (number + 1) * size, dtype=np.int64)
    driven = drive(simulation, asset, rows)
    clean = physics(driven, simulation.rows_per_s)
    context = np.column_stack([driven.speed, 100 * driven.bypass, driven.ambient])
    for j, sd in enumerate(CONTEXT_NOISE):
        context[:, j] += sd * normals(simulation.seed, asset, f"context {j}", rows)
    block = Block(
        rows=rows,
        context=context.round(DECIMALS),
        expected=clean,
        values=clean + NOISE * noise(simulation, asset, rows),
        label=np.zeros(len(rows), dtype=np.int64),
        mode=modes(driven),
        kept=np.ones(len(rows), dtype=np.bool_),
    )
    return _planted(simulation, asset, Block._make(part[warm_up:] for part in block))


def _measured(simulation: Simulation, asset: int, block: Block) -> Block:
    """The block as transmitters send it: within their range, rounded, with missing cells."""
    values = np.clip(block.values, LOW, HIGH).round(DECIMALS)
    values[missing(simulation, asset, block.rows)] = np.nan
    return block._replace(values=values)


def _planted(simulation: Simulation, asset: int, block: Block) -> Block:
    """The block with its faults, their labels, and without the rows of an outage."""
    values, label, kept = block.values.copy(), block.label.copy(), block.kept.copy()
    for fault in simulation.faults_of(asset):
        during = simulation.during(fault, block.rows)
        if during.any():
            episode = _episode(simulation, asset, fault, block.rows[during], values[during])
            values[during] = KINDS[fault.kind].effect(episode)
            label[during] = fault.label or label[during]
            kept[during] &= fault.kind != "outage"
    return block._replace(values=values, label=label, kept=kept)


def _episode(
    simulation: Simulation, asset: int, fault: Fault, rows: Ints, values: Floats
) -> Episode:
    begin, end = simulation.row(fault.start), simulation.row(fault.end)
    return Episode(
        values=values,
        progress=(rows - begin + 1) / (end - begin),
        size=fault.size,
        columns=tuple(column(sensor) for sensor in fault.planted),
        held=partial(_held, simulation, asset, fault),
        draws=uniforms(simulation.seed, asset, "fault draw", rows),
        noise=normals(simulation.seed, asset, "fault noise", rows),
    )


def _held(simulation: Simulation, asset: int, fault: Fault) -> Floats:
    """Readings in the last row before a fault; (d,)."""
    earlier = tuple(other for other in simulation.faults if other.start < fault.start)
    number, place = divmod(simulation.row(fault.start) - 1, _block_rows(simulation))
    before = _block(replace(simulation, faults=earlier), asset, number)
    reading: Floats = before.values[place]
    return reading
