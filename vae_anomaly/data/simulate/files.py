"""A simulated plant as its user has it: a plant file, and files of rows with what goes wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import yaml

from vae_anomaly.config import Sensor
from vae_anomaly.data.simulate.physics import CONTEXT, SENSORS
from vae_anomaly.data.simulate.rows import SCHEMA, simulate
from vae_anomaly.data.simulate.settings import Simulation
from vae_anomaly.errors import InputError

__all__ = ["DIRT", "Written", "plant_yaml", "write_files"]

#: A gap of more periods than this cuts a window.
MAX_GAP_PERIODS = 5
DAY_S = 86_400.0


def _cell(column: str, text: bytes) -> Callable[[list[bytes]], list[bytes]]:
    """Replace one cell of a line by a text."""
    place = SCHEMA.get_field_index(column)

    def spoilt(cells: list[bytes]) -> list[bytes]:
        return [*cells[:place], text, *cells[place + 1 :]]

    return spoilt


def _conflicting(cells: list[bytes]) -> list[bytes]:
    place = SCHEMA.get_field_index("ambient")
    return [*cells[:place], b"%.4f" % (float(cells[place]) + 1.0), *cells[place + 1 :]]


#: What is planted: reason, or `duplicate` → the cells of a line that is written after a good one.
DIRT: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "broken_line": lambda cells: cells[:5],
    "no_asset": _cell("asset", b""),
    "bad_text": _cell("mode", b"norm\xe9l"),  # Latin-1 in a file of UTF-8
    "no_time": _cell("time", b""),
    "bad_time": _cell("time", b"31.12.2025 25:61"),
    "not_a_number": _cell("flow", b"42 m3/h"),
    "not_finite": _cell("power", b"inf"),
    "missing_value": _cell("speed", b""),
    "below_range": _cell("pressure_in", b"-3.5"),
    "above_range": _cell("bearing_temperature", b"999.9"),
    "bad_label": _cell("fault", b"maybe"),
    "conflicting": _conflicting,
    "duplicate": lambda cells: cells,
}

#: The beginning of a picture, under a name that ends in .csv.
NO_CSV = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\x00\x00\x01\x00"


@dataclass(frozen=True)
class Written:
    """Files that were written, and what a reader has to find in them.

    Attributes
    ----------
    files : tuple of Path
        Tables of rows, in order of asset and time.
    unreadable : tuple of Path
        Files that only have the name of one.
    n_accepted, n_duplicates : int
        Good rows, equal to those of `simulate`; and repetitions of some.
    reasons : mapping of str to int
        Rows that have to be refused, by reason; `conflicting` rows have the key of a good row that
        stands before them, and other values.
    """

    files: tuple[Path, ...]
    unreadable: tuple[Path, ...]
    n_accepted: int
    n_duplicates: int
    reasons: Mapping[str, int]

    @property
    def n_quarantined(self) -> int:
        """Rows that have to be refused, for any reason."""
        return sum(self.reasons.values())

    @property
    def n_read(self) -> int:
        """All rows of the readable files."""
        return self.n_accepted + self.n_duplicates + self.n_quarantined


def plant_yaml(simulation: Simulation, *, name: str = "pumps", source: str = "incoming") -> str:
    """Text of a plant file for a simulation, with units, ranges and the sampling period.

    Parameters
    ----------
    simulation : Simulation
        The plant.
    name : str
        Its name.
    source : str
        File, folder or glob of the rows, relative to the plant file.

    Examples
    --------
    >>> print(plant_yaml(Simulation())[:42])
    name: pumps
    source: {path: incoming}
    contr
    """
    content = {
        "name": name,
        "source": {"path": source},
        "contract": {
            "time": "time",
            "asset": "asset",
            "mode": "mode",
            "label": "fault",
            "sampling": {
                "period_s": simulation.period_s,
                "max_gap_s": MAX_GAP_PERIODS * simulation.period_s,
            },
            "context": [_described(sensor) for sensor in CONTEXT],
            "sensors": [_described(sensor) for sensor in SENSORS],
        },
    }
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)


def write_files(
    simulation: Simulation,
    folder: str | Path,
    first: int = 0,
    n_rows: int | None = None,
    *,
    rows_per_file: int | None = None,
    dirty: int = 0,
    seed: int = 0,
    ending: Literal["csv", "parquet"] = "csv",
) -> Written:
    """Write rows of a simulation as files, one an asset and day, with dirty lines among them.

    A dirty line stands somewhere after the good line that it was made of, in the same file, so that
    the good rows alone are those of ``simulate(simulation, first, n_rows)``. Each file appears
    under its name only when it is whole.

    Parameters
    ----------
    simulation : Simulation
        The plant.
    folder : str or Path
        Where to; made if it is not there.
    first, n_rows : int
        Rows of each asset, as for `simulate`.
    rows_per_file : int, optional
        Rows of an asset in a file; by default those of a day.
    dirty : int
        Lines of each kind of `DIRT`; if any, a file that is no CSV at all stands beside them.
    seed : int
        Where the dirty lines stand.
    ending : {"csv", "parquet"}
        Format of the files; Parquet files have no dirty lines.

    Returns
    -------
    Written
        The files, and the counts that a reader has to find.

    Raises
    ------
    InputError
        Dirty lines are asked for in Parquet.
    """
    if dirty and ending == "parquet":
        raise InputError(f"dirty={dirty} needs ending 'csv'; a Parquet file has no broken lines")
    Path(folder).mkdir(parents=True, exist_ok=True)
    stop = simulation.n_rows if n_rows is None else first + n_rows
    step = rows_per_file or max(1, round(DAY_S / simulation.period_s))
    places = [(asset, at) for asset in simulation.assets for at in range(first, stop, step)]
    generator = np.random.default_rng([simulation.seed, seed])
    dealt = generator.integers(len(places), size=(dirty, len(DIRT)))
    files, n_accepted, planted = [], 0, Counter[str]()
    for number, (asset, begin) in enumerate(places):
        table = simulate(simulation, begin, min(step, stop - begin), assets=(asset,))
        if not table.num_rows:
            continue
        file = Path(folder) / f"{asset}_{simulation.time(begin):%Y%m%dT%H%M%S}.{ending}"
        reasons = [
            reason for row in dealt for reason, to in zip(DIRT, row, strict=True) if to == number
        ]
        with _put(file) as stream:
            if ending == "parquet":
                pq.write_table(table, stream)
            else:
                _write_csv(table, stream, reasons, generator)
        planted.update(reasons)
        n_accepted += table.num_rows
        files.append(file)
    unreadable = _write_unreadable(Path(folder), files[:1] if dirty else [])
    n_duplicates = planted.pop("duplicate", 0)
    return Written(tuple(files), unreadable, n_accepted, n_duplicates, dict(planted))


@contextmanager
def _put(file: Path) -> Iterator[BinaryIO]:
    """A stream whose content stands under the file's name when all of it is written."""
    hidden = file.with_name(f".{file.name}.tmp")
    with hidden.open("wb") as stream:
        yield stream
    hidden.replace(file)


def _write_csv(
    table: pa.Table, stream: BinaryIO, reasons: Sequence[str], generator: np.random.Generator
) -> None:
    """Write a table with a dirty line for each reason, after lines drawn at random."""
    stream.write(",".join(table.column_names).encode() + b"\n")
    unit = "s" if pc.all(pc.equal(pc.subsecond(table["time"]), 0)).as_py() else "us"
    time = pc.strftime(table["time"].cast(pa.timestamp(unit, "UTC")), format="%Y-%m-%dT%H:%M:%SZ")
    options = pacsv.WriteOptions(include_header=False, quoting_style="none")
    table = table.set_column(0, "time", time)
    if not reasons:
        pacsv.write_csv(table, stream, options)
        return
    text = BytesIO()
    pacsv.write_csv(table, text, options)
    lines = text.getvalue().splitlines()
    added: dict[int, list[bytes]] = {}
    for reason, at in zip(reasons, generator.integers(len(lines), size=len(reasons)), strict=True):
        dirty = b",".join(DIRT[reason](lines[at].split(b",")))
        added.setdefault(int(at), []).append(dirty)
    for at, line in enumerate(lines):
        stream.write(b"\n".join([line, *added.get(at, [])]) + b"\n")


def _write_unreadable(folder: Path, beside: Sequence[Path]) -> tuple[Path, ...]:
    """Write, for each of these files, one of a similar name that is no CSV."""
    files = tuple(folder / f"{file.stem}_screenshot.csv" for file in beside)
    for file in files:
        with _put(file) as stream:
            stream.write(NO_CSV)
    return files


def _described(sensor: Sensor) -> dict[str, str | float]:
    """What a plant file says of a sensor."""
    said = sensor.model_dump(exclude_defaults=True)
    return {key: said[key] for key in ("name", "unit", "low", "high", "missing") if key in said}
