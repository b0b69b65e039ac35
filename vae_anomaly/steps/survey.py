"""The data page: what the lake holds of a plant by hour and by sensor, and what it refused.

Everything is read from the lake, so the page says the same whoever asks: the readings by hour, each
sensor's cells by what became of them, the quarantine by reason with an example, the files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import FILES, QUARANTINE, READINGS, Lake, as_timestamp, rows
from vae_anomaly.data.quality import STATES, Cell, CellCounts

__all__ = ["AssetRows", "Refused", "Survey", "survey"]

HOUR_US = 3_600_000_000

#: Longer spans are counted in bins of several hours, so that a page stays a page.
MOST_BINS = 2_000


@dataclass(frozen=True)
class AssetRows:
    """Readings of one asset over time.

    Attributes
    ----------
    asset : str
    first, last : datetime
        Times of its first and last reading, UTC.
    per_bin : ndarray of shape (n_bins,)
        Its readings in each bin of the survey.
    """

    asset: str
    first: datetime
    last: datetime
    per_bin: np.ndarray

    @property
    def n_rows(self) -> int:
        return int(self.per_bin.sum())


@dataclass(frozen=True)
class Refused:
    """Rows in the quarantine for one reason, and one of them."""

    reason: str
    n_rows: int
    path: str
    row: int
    detail: str


@dataclass(frozen=True)
class Survey:
    """What the lake holds of a plant.

    Attributes
    ----------
    plant : str
    readings_version : int
    start : datetime
        Begin of the first bin, UTC.
    bin_hours : int
        Hours that a bin spans.
    assets : tuple of AssetRows
    sensors : tuple of str
        Sensors and context, in the order of the contract.
    n_missing : mapping of str to int
        Readings without a value of a sensor.
    n_filled : int
        Cells of readings that were carried or interpolated from samples of other moments.
    cells : CellCounts
        What became of every cell of the rows that were read.
    refused : tuple of Refused
        The quarantine by reason, the most frequent first.
    files : mapping of str to int
        Files by what became of them.
    unread : mapping of str to str
        Why a file is quarantined, by its path.
    disorder : mapping of str to tuple
        Rows out of order and the largest step back in seconds, of each file that has any.
    """

    plant: str
    readings_version: int
    start: datetime
    bin_hours: int
    assets: tuple[AssetRows, ...]
    sensors: tuple[str, ...]
    n_missing: Mapping[str, int]
    n_filled: int
    cells: CellCounts
    refused: tuple[Refused, ...]
    files: Mapping[str, int]
    unread: Mapping[str, str]
    disorder: Mapping[str, tuple[int, float]]

    @property
    def n_rows(self) -> int:
        return sum(asset.n_rows for asset in self.assets)

    def states(self, sensor: str) -> dict[str, int]:
        """Cells of a sensor by state."""
        found = dict.fromkeys(STATES, 0)
        for cell, n in self.cells.items():
            if cell.sensor == sensor:
                found[cell.state] += n
        return found

    def texts(self, sensor: str) -> Counter[str]:
        """Texts and codes for which cells of a sensor count as missing, or were refused."""
        texts: Counter[str] = Counter()
        for cell, n in self.cells.items():
            if cell.sensor == sensor and cell.state in ("text", "quality", "refused"):
                texts[cell.text or "no code"] += n
        return texts


def survey(plant: PlantConfig, *, version: int | None = None) -> Survey:
    """Look at all that the lake holds of a plant; rows are streamed.

    Parameters
    ----------
    plant : PlantConfig
    version : int, optional
        Version of the readings; none means the latest.

    Raises
    ------
    LakeError
        Nothing was ingested yet.
    """
    lake = Lake(plant.lake, plant.contract)
    readings = lake.open(READINGS, version=version)
    sensors = (*plant.contract.sensor_names, *plant.contract.context_names)
    tally = _tally(readings, sensors)
    first = min(tally.first.values(), default=0) // HOUR_US * HOUR_US
    last = max(tally.last.values(), default=0)
    bin_hours = max(1, math.ceil((last - first) / HOUR_US / MOST_BINS))
    found = _files(lake)
    return Survey(
        plant.name,
        readings.version(),
        as_timestamp(first).as_py(),
        bin_hours,
        tuple(_assets(tally, first, last, bin_hours)),
        sensors,
        tally.n_missing,
        tally.n_filled,
        found.cells,
        _refused(lake),
        dict(found.status),
        found.unread,
        found.disorder,
    )


@dataclass
class _Tally:
    """Counts over the readings."""

    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    hours: dict[str, Counter[int]] = field(default_factory=dict)
    n_missing: Counter[str] = field(default_factory=Counter)
    n_filled: int = 0


def _tally(readings: DeltaTable, sensors: tuple[str, ...]) -> _Tally:
    known = {column.name for column in readings.schema().fields}
    columns = [name for name in ("asset", "time", "filled", *sensors) if name in known]
    tally = _Tally(n_missing=Counter(dict.fromkeys(sensors, 0)))
    for batch in rows(readings, columns=columns):
        for name in sensors:
            n_null = batch[name].null_count if name in known else batch.num_rows
            tally.n_missing[name] += n_null
        if "filled" in known:
            tally.n_filled += pc.sum(batch["filled"]).as_py() or 0
        _add_times(tally, batch)
    return tally


def _add_times(tally: _Tally, batch: pa.RecordBatch) -> None:
    moment = batch["time"].cast(pa.int64()).to_numpy()
    encoded = batch["asset"].dictionary_encode()
    codes = encoded.indices.to_numpy()
    for code, asset in enumerate(encoded.dictionary.to_pylist()):
        own = moment[codes == code]
        low, high = int(own.min()), int(own.max())
        tally.first[asset] = min(low, tally.first.get(asset, low))
        tally.last[asset] = max(high, tally.last.get(asset, high))
        hours, counts = np.unique(own // HOUR_US, return_counts=True)
        found = dict(zip(hours.tolist(), counts.tolist(), strict=True))
        tally.hours.setdefault(asset, Counter()).update(found)


def _assets(tally: _Tally, first: int, last: int, bin_hours: int) -> Iterator[AssetRows]:
    n_bins = (last - first) // (bin_hours * HOUR_US) + 1
    for asset in sorted(tally.hours):
        per_bin = np.zeros(n_bins, np.int64)
        hours = np.array(list(tally.hours[asset])) - first // HOUR_US
        np.add.at(per_bin, hours // bin_hours, list(tally.hours[asset].values()))
        first_time, last_time = (as_timestamp(t[asset]).as_py() for t in (tally.first, tally.last))
        yield AssetRows(asset, first_time, last_time, per_bin)


@dataclass
class _Files:
    """What the table of files says: cells by what became of them, and files by their status."""

    cells: CellCounts = field(default_factory=Counter)
    status: Counter[str] = field(default_factory=Counter)
    unread: dict[str, str] = field(default_factory=dict)
    disorder: dict[str, tuple[int, float]] = field(default_factory=dict)


def _files(lake: Lake) -> _Files:
    found = _Files()
    columns = ["path", "status", "reason", "cells", "n_out_of_order", "largest_step_back_s",
               "ingested_at"]  # fmt: skip
    last: dict[str, datetime] = {}
    for batch in rows(lake.writable(FILES), columns=columns):
        for file in batch.to_pylist():
            found.status[file["status"]] += 1
            for cell in file["cells"] or []:
                found.cells[Cell(cell["sensor"], cell["state"], cell["text"])] += cell["n"]
            if file["ingested_at"] >= last.setdefault(file["path"], file["ingested_at"]):
                last[file["path"]] = file["ingested_at"]
                found.unread.pop(file["path"], None)
                if file["status"] == "quarantined":
                    found.unread[file["path"]] = file["reason"] or ""
            if file["n_out_of_order"]:
                order = (file["n_out_of_order"], file["largest_step_back_s"])
                found.disorder[file["path"]] = order
    return found


def _refused(lake: Lake) -> tuple[Refused, ...]:
    """The quarantine by reason, each with the first row of its first file as an example."""
    counts: Counter[str] = Counter()
    examples: dict[str, tuple[str, int, str]] = {}
    for batch in rows(lake.writable(QUARANTINE), columns=["reason", "path", "row", "detail"]):
        counts.update(batch["reason"].to_pylist())
        for reason in pc.unique(batch["reason"]).to_pylist():
            row = batch.filter(pc.equal(batch["reason"], reason)).slice(0, 1).to_pylist()[0]
            example = (row["path"], row["row"], row["detail"])
            examples[reason] = min(example, examples.get(reason, example))
    return tuple(Refused(reason, n, *examples[reason]) for reason, n in counts.most_common())
