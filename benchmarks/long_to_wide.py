"""A historian's long table to readings: speed and peak memory, in two orders of the rows.

    python benchmarks/long_to_wide.py --cells 1000000 10000000 100000000

A hundred tags have a sample a second. Files are Parquet, with the rows in the order of time, or
tag after tag. Each ingest is a process of its own: it tells its CPU seconds and its peak memory
when the rows have landed in `samples`, and again when the readings are formed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N_TAGS = 100
ROWS_PER_FILE = 5_000_000
SECOND_US = 1_000_000
START_US = 1_767_225_600 * SECOND_US  # 2026-01-01


def write_files(folder: Path, n_cells: int, order: str) -> None:
    """Samples of all tags, in files that follow one another."""
    folder.mkdir(parents=True)
    n_times = n_cells // N_TAGS
    rng = np.random.default_rng(0)
    tags = pa.array([f"unit7/TI-{tag:03d}.PV" for tag in range(N_TAGS)])
    for number, first in enumerate(range(0, n_cells, ROWS_PER_FILE)):
        row = np.arange(first, min(first + ROWS_PER_FILE, n_cells))
        moment, tag = (row // N_TAGS, row % N_TAGS) if order == "time" else (
            row % n_times, row // n_times
        )  # fmt: skip
        table = pa.table(
            {
                "time": pa.array(START_US + moment * SECOND_US).cast(pa.timestamp("us", "UTC")),
                "unit": pa.DictionaryArray.from_arrays(
                    pa.array(np.zeros(len(row), np.int32)), ["7"]
                ),
                "tag": pa.DictionaryArray.from_arrays(pa.array(tag.astype(np.int32)), tags),
                "value": np.round(rng.normal(size=len(row)), 2),
            }
        )
        pq.write_table(table, folder / f"{number:04d}.parquet", row_group_size=500_000)


def write_plant(folder: Path) -> Path:
    sensors = ", ".join(f"unit7/TI-{tag:03d}.PV" for tag in range(N_TAGS))
    plant = folder / "plant.yml"
    plant.write_text(
        "name: historian\nsource: {path: incoming, settle_s: 0}\ncontract:\n  time: time\n"
        "  asset: unit\n  long: {}\n"
        "  sampling: {period_s: 1, max_gap_s: 60, resample: last}\n"
        f"  sensors: [{sensors}]\n"
    )
    return plant


def ingest(plant: Path) -> None:
    """In a process of its own: what landing took, and what shaping took."""
    from vae_anomaly.config import read_plant
    from vae_anomaly.steps.file_records import FileReport
    from vae_anomaly.steps.ingest import ingest as run

    began, landed = (time.process_time(), time.monotonic()), [0.0, 0.0, 0.0]

    def on_file(report: FileReport, n_files: int) -> None:
        landed[:] = [time.process_time(), time.monotonic(), _peak_mb()]

    report = run(read_plant(plant), on_file=on_file)
    assert report.shaped is not None
    found = {
        "n_rows": report.counts.n_accepted,
        "n_readings": report.shaped.n_readings,
        "landing_cpu_s": landed[0] - began[0],
        "landing_s": landed[1] - began[1],
        "landing_mb": landed[2],
        "shaping_cpu_s": time.process_time() - landed[0],
        "shaping_s": time.monotonic() - landed[1],
        "peak_mb": _peak_mb(),
    }
    sys.stdout.write(json.dumps(found))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--order", nargs="+", default=["time", "tag"])
    parser.add_argument("--plant", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plant:
        ingest(options.plant)
        return
    print("| cells | order | landing, rows/CPU-s | shaping, cells/CPU-s | s | MB landing | MB |")
    print("|---|---|---|---|---|---|---|")
    for n_cells in options.cells:
        for order in options.order:
            with tempfile.TemporaryDirectory() as folder:
                write_files(Path(folder) / "incoming", n_cells, order)
                command = [sys.executable, __file__, "--plant", str(write_plant(Path(folder)))]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            m = json.loads(told.stdout)
            assert (m["n_rows"], m["n_readings"]) == (n_cells, n_cells // N_TAGS), m
            print(
                f"| {n_cells:,} | {order} | {n_cells / m['landing_cpu_s']:,.0f} "
                f"| {n_cells / m['shaping_cpu_s']:,.0f} "
                f"| {m['landing_s']:,.0f} + {m['shaping_s']:,.0f} | {m['landing_mb']:,.0f} "
                f"| {m['peak_mb']:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
