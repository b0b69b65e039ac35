"""Tennessee Eastman files of whitespace-separated numbers → CSV files that tep.yml reads.

    python data/plants/tep_convert.py path/to/tennessee-eastman-profBraatz lake/tep/incoming

Written are d00, d00_te and the 21 dXX_te. d00.dat is transposed, the others are not; the fault of
dXX_te begins at row 160, counted from 0. Rows are 3 minutes apart; the files have no clock, so
each starts at the same moment.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

SENSORS = [f"XMEAS_{i}" for i in range(1, 42)] + [f"XMV_{i}" for i in range(1, 12)]
START, PERIOD = datetime(2000, 1, 1, tzinfo=UTC), timedelta(minutes=3)
FIRST_FAULTY_ROW = 160


def convert(file: Path, folder: Path) -> Path:
    """Write one .dat file as CSV with the columns time, the 52 variables and fault."""
    rows = np.loadtxt(file)
    if rows.shape[1] != len(SENSORS):
        rows = rows.T
    if rows.shape[1] != len(SENSORS):
        raise SystemExit(
            f"{file} has shape {rows.shape}; one side must have {len(SENSORS)} columns"
        )
    number = int(file.stem[1:3])
    target = folder / f"{file.stem}.csv"
    with target.open("w", encoding="utf-8") as out:
        out.write(",".join(["time", *SENSORS, "fault"]) + "\n")
        for i, row in enumerate(rows):
            time = (START + i * PERIOD).strftime("%Y-%m-%dT%H:%M:%SZ")
            fault = number if i >= FIRST_FAULTY_ROW else 0
            out.write(",".join([time, *(f"{value:.9g}" for value in row), str(fault)]) + "\n")
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="folder of the .dat files")
    parser.add_argument("folder", type=Path, help="folder for the CSV files; made if needed")
    options = parser.parse_args()
    files = sorted([options.source / "d00.dat", *options.source.glob("d*_te.dat")])
    missing = [file for file in files if not file.is_file()]
    if missing or len(files) < 2:
        raise SystemExit(f"{options.source} does not hold d00.dat and the d*_te.dat files")
    options.folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        convert(file, options.folder)
    print(f"{len(files)} files written to {options.folder}")


if __name__ == "__main__":
    main()
