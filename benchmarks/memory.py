"""Peak memory of ingest and scoring at one and at ten million simulated rows.

    python benchmarks/memory.py --rows 1000000 10000000

Each step is a process of its own; its peak is what the operating system says of the finished
process. A plant is trained on its first 100,000 rows, then the rest is ingested and scored.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from vae_anomaly.data.simulate import Simulation, plant_yaml, write_files

N_ASSETS = 4
FIRST_ROWS = 100_000
ROWS_PER_FILE = 100_000

#: Ten million rows are nearly five years, and a row that lies after today is refused.
START = datetime(2020, 1, 6, tzinfo=UTC)


@dataclass(frozen=True)
class Measured:
    """One step at one size."""

    step: str
    n_rows: int
    peak_mb: float
    seconds: float
    cpu_s: float


def measure(step: str, plant: Path, n_rows: int) -> Measured:
    """Run one command to its end, and ask the system what it took."""
    command = [sys.executable, "-m", "vae_anomaly", step, str(plant)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{step} ended with {process.returncode}")
    return Measured(
        step,
        n_rows,
        usage.ru_maxrss / 1024,
        time.monotonic() - began,
        usage.ru_utime + usage.ru_stime,
    )


def at_size(n_rows: int, folder: Path) -> list[Measured]:
    """Ingest and score so many rows, by a model of the first few."""
    simulation = Simulation(n_assets=N_ASSETS, n_rows=n_rows // N_ASSETS, start=START)
    plant = folder / "plant.yml"
    plant.write_text(plant_yaml(simulation), encoding="utf-8")
    first = FIRST_ROWS // N_ASSETS
    write_files(simulation, folder / "incoming", 0, first, rows_per_file=ROWS_PER_FILE)
    for step in ("ingest", "train", "calibrate", "register", "score"):
        measure(step, plant, FIRST_ROWS)
    write_files(
        simulation, folder / "incoming", first, n_rows // N_ASSETS - first,
        rows_per_file=ROWS_PER_FILE,
    )  # fmt: skip
    return [measure(step, plant, n_rows) for step in ("ingest", "score")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    found: list[Measured] = []
    for n_rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            found += at_size(n_rows, Path(folder))
        print(f"{n_rows:,} rows done", file=sys.stderr, flush=True)
    smallest = {m.step: m.peak_mb for m in found if m.n_rows == min(options.rows)}
    print("| step | rows | peak MB | against the smallest | seconds | rows per CPU-second |")
    print("|---|---|---|---|---|---|")
    for m in found:
        ratio, speed = m.peak_mb / smallest[m.step], m.n_rows / m.cpu_s
        print(
            f"| {m.step} | {m.n_rows:,} | {m.peak_mb:,.0f} | {ratio:.2f} | {m.seconds:.0f} "
            f"| {speed:,.0f} |"
        )
    if options.out:
        options.out.write_text(json.dumps([asdict(m) for m in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
