"""One CSV file of any size through the whole ingest: rows per CPU-second and peak memory.

    python benchmarks/large_file.py --gigabytes 1 10

The file is made in a temporary folder and deleted after; the ingest is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

N_SENSORS = 20
BLOCK_ROWS = 200_000

PLANT = f"""name: large
source: {{path: large.csv, settle_s: 0}}
contract:
  time: {{column: time, zone: UTC}}
  sensors: [{", ".join(f"s{i}" for i in range(N_SENSORS))}]
"""


def write_file(path: Path, n_bytes: float) -> int:
    """Write rows, one a second, until the file is so large; how many they are."""
    rng = np.random.default_rng(0)
    n_rows = 0
    with path.open("wb") as stream:
        while stream.tell() < n_bytes:
            seconds = np.arange(n_rows, n_rows + BLOCK_ROWS) + 1_700_000_000
            columns = {"time": pa.array(seconds, pa.timestamp("s"))}
            for i in range(N_SENSORS):
                columns[f"s{i}"] = pa.array(rng.normal(size=BLOCK_ROWS).round(5))
            options = pacsv.WriteOptions(include_header=n_rows == 0)
            pacsv.write_csv(pa.table(columns), stream, options)
            n_rows += BLOCK_ROWS
    return n_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.1])
    parser.add_argument("--folder", type=Path, help="where there is room for the file")
    options = parser.parse_args()
    print("| GB | rows | peak MB | seconds | CPU-seconds | rows per CPU-second |")
    print("|---|---|---|---|---|---|")
    for gigabytes in options.gigabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            plant, file = Path(folder) / "plant.yml", Path(folder) / "large.csv"
            plant.write_text(PLANT, encoding="utf-8")
            n_rows = write_file(file, gigabytes * 1e9)
            size = file.stat().st_size / 1e9
            command = [sys.executable, "-m", "vae_anomaly", "ingest", str(plant)]
            began = time.monotonic()
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"ingest ended with {process.returncode}")
            seconds, cpu_s = time.monotonic() - began, usage.ru_utime + usage.ru_stime
            print(
                f"| {size:.1f} | {n_rows:,} | {usage.ru_maxrss / 1024:,.0f} | {seconds:,.0f} "
                f"| {cpu_s:,.0f} | {n_rows / cpu_s:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
