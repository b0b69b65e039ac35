"""The data page: what the lake holds of a plant by hour and by sensor, and what it refused.

Everything is read from the lake, so the page says the same whoever asks: the readings by hour, each
sensor's cells by what became of them, the quarantine by reason with an example, the files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly import pictures
from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import FILES, QUARANTINE, READINGS, Lake, rows
from vae_anomaly.data.quality import STATES, Cell, CellCounts
from vae_anomaly.table import Table

__all__ = ["AssetRows", "Refused", "Survey", "survey", "survey_tables", "write_survey"]

HOUR_US = 3_600_000_000

#: Longer spans are counted in bins of several hours, so that a page stays a page.
MOST_BINS = 2_000

#: Characters of an example that the page shows.
MOST_DETAIL = 90

#: Texts that a row of the page names.
MOST_TEXTS = 3


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
    lake = Lake(plant.lake_path, plant.contract)
    readings = lake.open(READINGS, version=version)
    sensors = (*plant.contract.sensor_names, *plant.contract.context_names)
    tally = _tally(readings, sensors)
    first = min(tally.first.values(), default=0) // HOUR_US * HOUR_US
    last = max(tally.last.values(), default=0)
    bin_hours = max(1, math.ceil((last - first) / HOUR_US / MOST_BINS))
    cells, files, disorder = _files(lake)
    return Survey(
        plant.name,
        readings.version(),
        _moment(first),
        bin_hours,
        tuple(_assets(tally, first, last, bin_hours)),
        sensors,
        tally.n_missing,
        tally.n_filled,
        cells,
        _refused(lake),
        files,
        disorder,
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
        yield AssetRows(asset, _moment(tally.first[asset]), _moment(tally.last[asset]), per_bin)


def _files(lake: Lake) -> tuple[CellCounts, dict[str, int], dict[str, tuple[int, float]]]:
    """Cells by what became of them, files by status, and the files with rows out of order."""
    cells: CellCounts = Counter()
    status: Counter[str] = Counter()
    disorder: dict[str, tuple[int, float]] = {}
    columns = ["path", "status", "cells", "n_out_of_order", "largest_step_back_s"]
    for batch in rows(lake.writable(FILES), columns=columns):
        for file in batch.to_pylist():
            status[file["status"]] += 1
            for cell in file["cells"] or []:
                cells[Cell(cell["sensor"], cell["state"], cell["text"])] += cell["n"]
            if file["n_out_of_order"]:
                disorder[file["path"]] = (file["n_out_of_order"], file["largest_step_back_s"])
    return cells, dict(status), disorder


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


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


# ---------------------------------------------------------------------------------- what it shows


def survey_tables(found: Survey) -> tuple[Table, ...]:
    """The page as tables: rows by asset, cells by sensor, the quarantine by reason."""
    return (_rows_table(found), _cells_table(found), _quarantine_table(found))


def _rows_table(found: Survey) -> Table:
    files = ", ".join(f"{n:,} {status}" for status, n in sorted(found.files.items()))
    summary = f"{found.n_rows:,} readings (version {found.readings_version}); files: {files}."
    body = []
    for asset in sorted(found.assets, key=lambda a: -int(_idle_bins(a).sum())):
        busy = asset.per_bin[asset.per_bin > 0]
        n_idle = int(_idle_bins(asset).sum()) * found.bin_hours
        body.append(
            (
                asset.asset,
                f"{asset.n_rows:,}",
                f"{asset.first:%Y-%m-%d %H:%M}",
                f"{asset.last:%Y-%m-%d %H:%M}",
                f"{np.median(busy) / found.bin_hours:,.0f}",
                f"{n_idle:,}",
            )
        )
    notes = [
        f"{path.rpartition('/')[2]}: {n:,} rows lie before one above them; the largest step back "
        f"is {step:,.0f} s"
        for path, (n, step) in sorted(found.disorder.items(), key=lambda item: -item[1][0])[:5]
    ]
    columns = ("asset", "readings", "first (UTC)", "last (UTC)", "rows/hour", "hours without")
    return Table("Data", summary, columns, tuple(body), tuple(notes))


def _idle_bins(asset: AssetRows) -> np.ndarray:
    """Bins without a reading, between the first and the last that has one."""
    busy = np.flatnonzero(asset.per_bin)
    inside = np.zeros(len(asset.per_bin), dtype=bool)
    inside[busy[0] : busy[-1] + 1] = True
    idle: np.ndarray = inside & (asset.per_bin == 0)
    return idle


def _cells_table(found: Survey) -> Table:
    n_cells = found.cells.total()
    by_state = Counter[str]()
    for cell, n in found.cells.items():
        by_state[cell.state] += n
    said = ", ".join(f"{by_state[state]:,} {state}" for state in STATES if by_state[state])
    summary = f"{n_cells:,} cells read: {said}." if n_cells else "No cell was read."
    if found.n_filled:
        share = found.n_filled / max(1, found.n_rows * len(found.sensors))
        summary += f" {share:.2%} of the readings' cells are filled from other moments."
    body = []
    missing = {name: found.n_missing[name] for name in found.sensors}
    for name in sorted(found.sensors, key=lambda name: -missing[name]):
        states, texts = found.states(name), found.texts(name)
        if not missing[name] and not texts:
            continue
        named = ", ".join(f"{text} {n:,}" for text, n in texts.most_common(MOST_TEXTS))
        share = missing[name] / max(1, found.n_rows)
        numbers = (states[state] for state in STATES[1:])
        body.append((name, f"{share:.1%}", *(f"{n:,}" for n in numbers), named))
    whole = len(found.sensors) - len(body)
    notes = (f"{whole:,} of {len(found.sensors):,} sensors have a value in every row",)
    columns = ("sensor", "missing", *STATES[1:], "most often")
    return Table(
        "Missing", summary, columns, tuple(body), notes if whole else (), prose=("most often",)
    )


def _quarantine_table(found: Survey) -> Table:
    n_rows = sum(refused.n_rows for refused in found.refused)
    body = tuple(
        (
            refused.reason,
            f"{refused.n_rows:,}",
            f"{refused.path.rpartition('/')[2]} row {refused.row:,}: {_cut(refused.detail)}",
        )
        for refused in found.refused
    )
    columns = ("reason", "rows", "for example")
    return Table("Quarantine", f"{n_rows:,} rows.", columns, body, prose=("for example",))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_DETAIL else f"{text[:MOST_DETAIL]}…"


def write_survey(found: Survey, folder: Path) -> Path:
    """Write the page as Markdown with its two pictures; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(table.markdown() for table in survey_tables(found))
    (folder / "data.md").write_text(f"{text}\n", encoding="utf-8")
    if found.assets:
        pictures.rows_per_hour(
            folder / "rows_per_hour.png",
            [asset.asset for asset in found.assets],
            np.stack([asset.per_bin for asset in found.assets]) / found.bin_hours,
            start=np.datetime64(found.start.replace(tzinfo=None), "s"),
            bin_hours=found.bin_hours,
            subject=found.plant,
        )
    if found.cells.total():
        pictures.cell_states(
            folder / "cells.png",
            found.sensors,
            [[found.states(name)[state] for state in STATES] for name in found.sensors],
            STATES,
            subject=found.plant,
        )
    return folder
