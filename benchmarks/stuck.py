"""How often a sensor is called stuck that is not, and how alone a sensor is in faults of a process.

    python benchmarks/stuck.py --out benchmarks/results/stuck.md

Limits are learnt on the first half of each record, and calls counted in the second, each once. Most
of the records are of normal running; in those of SMD and BibMon there are a few events. Below, the
share of anomalous rows of the Tennessee Eastman process whose first sensor has more than 0.7 of
what speaks against the row, under the default of series.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from suites.case import Floats
from suites.tep import ONSET

from vae_anomaly import VAEDetector
from vae_anomaly.config import Sensor
from vae_anomaly.data.sensor_faults import MARGIN, SensorLimits, faulty_cells, sensor_limits
from vae_anomaly.data.windows import Matrix
from vae_anomaly.explanations import shares

#: Faults of which the default of series calls most rows anomalous.
FAULTS = (1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21)


class Record(NamedTuple):
    """Rows of a public data set."""

    name: str
    rows: Floats


def records(data: Path) -> Iterator[Record]:
    """Records that are normal, or nearly all of them."""
    yield Record("Tennessee Eastman, normal run", np.loadtxt(data / "tep/d00_te.dat"))
    (skab,) = data.glob("skab/**/anomaly-free.csv")
    yield Record("SKAB", _numbers(skab, sep=";"))
    for machine in ("1-7", "2-1"):
        rows = np.load(data / f"smd/machine-{machine}_test.npz")["X"]
        yield Record(f"SMD {machine}, first half", rows[: len(rows) // 2])
    yield Record("nylon polymerisation", _numbers(data / "process_improve/nylon.csv"))
    yield Record("dryer", _numbers(data / "process_improve/dryer.csv"))
    real = data / "bibmon_real_process/real_process_data.csv"
    yield Record("a real process (BibMon)", _numbers(real))


def _numbers(path: Path, sep: str = ",") -> Floats:
    return pd.read_csv(path, sep=sep).select_dtypes("number").to_numpy(float)


def n_calls(rows: Floats, sensors: list[Sensor], limits: SensorLimits) -> int:
    """How often a sensor begins to be called stuck."""
    names = [sensor.name for sensor in sensors]
    table = pa.table(dict(zip(names, rows.T, strict=True)))
    only = SensorLimits(stuck=limits.stuck)
    found = faulty_cells(table, np.arange(len(rows)), sensors, only)
    return sum(int((np.diff(cells.rows, prepend=-2) > 1).sum()) for cells in found)


def line(record: Record) -> str:
    """A row of the table."""
    n = len(record.rows) // 2
    sensors = [Sensor(name=f"sensor {number}") for number in range(record.rows.shape[1])]
    first = Matrix(record.rows[:n], np.arange(n), np.zeros(n, np.int64))
    limits = sensor_limits(first, sensors)
    longest = {name: (rows - 1) // MARGIN + 1 for name, rows in limits.stuck.items()}
    calls = [n_calls(record.rows[n:], sensors, SensorLimits(of)) for of in (longest, limits.stuck)]
    watched = f"{len(limits.stuck)} of {len(sensors)}"
    return f"| {record.name} | {len(record.rows):,} | {watched} | {calls[0]} | {calls[1]} |"


def alone(data: Path) -> Iterator[str]:
    """A row a fault: its number, and the share of rows with one sensor above 0.7."""
    detector = VAEDetector(window="auto", smoothing="auto", random_state=0)
    detector.fit(np.loadtxt(data / "tep/d00.dat").T)
    for fault in FAULTS:
        parts = detector.contributions(np.loadtxt(data / f"tep/d{fault:02d}_te.dat"))[ONSET:]
        parts = parts[parts.sum(axis=1) > detector.threshold_.value]
        share = (shares(parts).max(axis=1) > 0.7).mean()
        yield f"| {fault} | {len(parts)} | {share:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    data = Path(os.environ.get("VAE_ANOMALY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("vae_anomaly").setLevel(logging.ERROR)
    lines = [
        "`python benchmarks/stuck.py`: calls of a stuck sensor in the second half of public "
        "records, by the longest run of their first half and by twice that.",
        "",
        "| | rows | sensors watched | longest | twice the longest |",
        "|---|---|---|---|---|",
        *map(line, records(options.data)),
        "",
        "| fault of the Tennessee Eastman process | anomalous rows | one sensor above 0.7 |",
        "|---|---|---|",
        *alone(options.data),
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
