"""Ingest throughput beside pandas.read_csv and pyarrow.csv alone, on the same file in one run.

    python benchmarks/ingest.py --rows 1000000

The cases take turns in one process, in another order each round; a figure is rows per CPU-second of
all threads, the median over the rounds with the lowest and the highest. pandas and pyarrow only
parse; `split` is our lines and cells, `check` adds types, ranges, times and the count of every
cell, `ingest` adds the exactly-once landing in the lake.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.contract import check_batch
from vae_anomaly.data.landing import CHUNK_ROWS
from vae_anomaly.data.sources import list_files, read_batches
from vae_anomaly.steps.ingest import ingest

N_SENSORS = 20
WRITE_ROWS = 100_000

PLANT = """
name: throughput
lake: {lake}
source: {{path: rows.csv, settle_s: 0}}
contract:
  time: time
  sampling: {{period_s: 1}}
  sensors: [{sensors}]
"""


def write_rows(path: Path, n_rows: int) -> None:
    """A CSV file of a time and sensors with four decimals, one missing in a hundred."""
    generator = np.random.default_rng(0)
    names = [f"sensor_{number}" for number in range(N_SENSORS)]
    start = np.datetime64("2026-01-01T00:00:00")
    with path.open("wb") as stream:
        for first in range(0, n_rows, WRITE_ROWS):
            n = min(WRITE_ROWS, n_rows - first)
            values = np.round(generator.normal(50, 10, (n, N_SENSORS)), 4)
            values[generator.random(values.shape) < 0.01] = np.nan
            times = start + (first + np.arange(n)).astype("timedelta64[s]")
            columns = {"time": pa.array(times)} | {
                name: pa.array(values[:, i], from_pandas=True) for i, name in enumerate(names)
            }
            options = pacsv.WriteOptions(include_header=first == 0)
            pacsv.write_csv(pa.table(columns), stream, options)


def write_plant(folder: Path, lake: str) -> PlantConfig:
    sensors = ", ".join(f"{{name: sensor_{i}, low: -100, high: 200}}" for i in range(N_SENSORS))
    path = folder / "plant.yml"
    path.write_text(PLANT.format(lake=lake, sensors=sensors), encoding="utf-8")
    return read_plant(path)


def cases(folder: Path) -> dict[str, Callable[[int], int]]:
    """Each case takes the round, and says how many rows it read."""
    path, plant = folder / "rows.csv", write_plant(folder, "unused")

    def by_pandas(_: int) -> int:
        return len(pd.read_csv(path, parse_dates=["time"]))

    def by_pyarrow(_: int) -> int:
        return pacsv.read_csv(path).num_rows

    def by_pyarrow_streamed(_: int) -> int:
        return sum(batch.num_rows for batch in pacsv.open_csv(path))

    def split(_: int) -> int:
        (file,) = list_files(plant.source)
        batches = read_batches(file, plant.source, batch_rows=CHUNK_ROWS)
        return sum(batch.num_rows for batch in batches)

    def check(_: int) -> int:
        (file,) = list_files(plant.source)
        batches = read_batches(file, plant.source, batch_rows=CHUNK_ROWS)
        checked = (check_batch(batch, plant.contract, asset="a") for batch in batches)
        return sum(c.accepted.num_rows for c in checked)

    def whole(number: int) -> int:
        return ingest(write_plant(folder, f"lake-{number}")).counts.n_accepted

    return {
        "pandas.read_csv": by_pandas,
        "pyarrow.csv.read_csv": by_pyarrow,
        "pyarrow.csv.open_csv (streamed)": by_pyarrow_streamed,
        "vae_anomaly: split": split,
        "vae_anomaly: split, check": check,
        "vae_anomaly: ingest (split, check, land)": whole,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.csv", options.rows)
        size_mb = os.path.getsize(folder / "rows.csv") / 1e6
        runs = cases(folder)
        speeds: dict[str, list[float]] = {case: [] for case in runs}
        for number in range(-1, options.rounds):  # the first round only warms up
            order = list(runs) if number % 2 else list(reversed(runs))
            for case in order:
                began = time.process_time()
                n_rows = runs[case](number)
                took = time.process_time() - began
                assert n_rows == options.rows, (case, n_rows)
                if number >= 0:
                    speeds[case].append(n_rows / took)
    print(
        f"`python benchmarks/ingest.py --rows {options.rows}`: {options.rows:,} rows x {N_SENSORS} "
        f"sensors, {size_mb:,.0f} MB, {options.rounds} rounds in turn, two cores.\n"
    )
    print("| case | rows per CPU-second | lowest to highest | against pandas |")
    print("|---|---|---|---|")
    pandas = speeds["pandas.read_csv"]
    for case, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(found, pandas, strict=True))
        print(
            f"| {case} | {statistics.median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} "
            f"| {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
