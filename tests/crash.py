"""Kill steps with SIGKILL, run them again, and compare the lake with an undisturbed one.

The tests take a few kills. Many, at random moments and at every named step:

    python tests/crash.py --kills 100
    python tests/crash.py --kills 100 --shaped
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from deltalake import DeltaTable

from vae_anomaly.config import PlantConfig

#: Places where a step can be cut: every call through which something becomes lasting.
POINTS = {
    "ingest": (
        "vae_anomaly.data.landing.commit",
        "vae_anomaly.data.landing._quarantine",
        "vae_anomaly.steps.file_records.commit",
    ),
    "train": (
        "vae_anomaly.steps.train.commit",
        "vae_anomaly.models.training._Run.save",
        "os.replace",
    ),
    "calibrate": ("os.replace",),
    "register": ("vae_anomaly.steps.register._ruled", "vae_anomaly.steps.promotions.commit"),
    "score": ("vae_anomaly.steps.lines.commit", "vae_anomaly.steps.alarms.merge"),
}

#: The same of an ingest that forms readings from samples.
SHAPING_POINTS = (*POINTS["ingest"], "vae_anomaly.data.layout.commit")

#: Columns that differ from run to run: times, and what numbers the runs.
PASSING = ("scored_at", "ingested_at", "quarantined_at", "modified_ns", "updated_at", "at")

#: In a campaign a step is killed at most so often before it may end.
KILLS_IN_A_ROW = 6

#: Where readings are formed from samples, a kill between two of their commits shifts the rest.
SHIFTED = ("ingest",)

#: Sizes with which a small plant's readings are formed in many spans and commits.
SMALL = {
    "vae_anomaly.data.horizons.SPAN_CELLS": 150,
    "vae_anomaly.data.horizons.BIN_US": 10_000_000,
    "vae_anomaly.data.layout.CHUNK_ROWS": 40,
}

TABLES = (
    "samples", "readings", "quarantine", "files", "parts", "promotions", "verdicts", "alarms",
)  # fmt: skip


@dataclass(frozen=True)
class Kill:
    """Cut a step before or after the n-th call of a function."""

    point: str
    after: bool
    count: int

    def arguments(self) -> list[str]:
        return ["--point", self.point, "--count", str(self.count)] + ["--after"] * self.after


# --------------------------------------------------------------------------- in the killed process


def child(options: argparse.Namespace) -> None:
    """Run one step, and be killed on the way where a point is named."""
    if options.point:
        _arm(options.point, options.after, options.count)
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)
    if plant.contract.is_shaped:
        for name, size in SMALL.items():
            module, _, constant = name.rpartition(".")
            setattr(importlib.import_module(module), constant, size)
    step = importlib.import_module(f"vae_anomaly.steps.{options.step}")
    run = getattr(step, options.step)
    if options.step in ("calibrate", "register"):
        from vae_anomaly.steps.train import latest_trained

        run(plant, latest_trained(plant))
    else:
        run(plant)


def owner_of(point: str) -> tuple[object, str]:
    """The module or class in which a named function stands, and its name there."""
    place, _, name = point.rpartition(".")
    try:
        return importlib.import_module(place), name
    except ModuleNotFoundError:
        module, _, attribute = place.rpartition(".")
        return getattr(importlib.import_module(module), attribute), name


def _arm(point: str, after: bool, count: int) -> None:
    owner, name = owner_of(point)
    original: Callable[..., object] = getattr(owner, name)
    calls = 0

    def armed(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == count and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == count and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, armed)


# ---------------------------------------------------------------------------- in the test's process


def start(plant: Path, step: str, kill: Kill | None = None) -> subprocess.Popen[bytes]:
    """One step in a process of its own."""
    command = [sys.executable, __file__, "--child", step, "--plant", str(plant)]
    return subprocess.Popen(command + (kill.arguments() if kill else []), stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> bool:
    """Wait; True when it ended by itself, False when it was killed. Anything else is an error."""
    _, errors = process.communicate(timeout=300)
    if process.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(errors.decode()[-3000:])
    return process.returncode == 0


def kill_at(plant: Path, step: str, kill: Kill) -> bool:
    """Cut a step at a point; True when it was cut. Then run it to its end."""
    cut = not finish(start(plant, step, kill))
    assert finish(start(plant, step))
    return cut


def kill_after(plant: Path, step: str, seconds: float) -> bool:
    """Kill a step after some time; True when it was still running. Then run it to its end."""
    process = start(plant, step)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    cut = not finish(process)
    assert finish(start(plant, step))
    return cut


#: One row of a table, by column.
Row = dict[str, object]


def lake_content(lake: str | Path) -> dict[str, list[Row]]:
    """Rows of every table in one order, without what may differ from run to run."""
    from vae_anomaly.data.lake import rows
    from vae_anomaly.data.place import storage_options, table_uri

    root = str(Path(lake).parents[1])
    content: dict[str, list[Row]] = {}
    for name in TABLES:
        place, options = table_uri(lake, name), storage_options(lake)
        if not DeltaTable.is_deltatable(place, storage_options=options):
            continue
        found: list[Row] = []
        for batch in rows(DeltaTable(place, storage_options=options)):
            found += batch.select([c for c in batch.schema.names if c not in PASSING]).to_pylist()
        for row in found:
            row |= {k: v.replace(root, "") for k, v in row.items() if isinstance(v, str)}
        content[name] = sorted(found, key=repr)
    return content


def run_all(plant: PlantConfig) -> None:
    """Every step in order, as the flow `run` has them."""
    from vae_anomaly.steps.calibrate import calibrate
    from vae_anomaly.steps.ingest import ingest
    from vae_anomaly.steps.register import register
    from vae_anomaly.steps.score import score
    from vae_anomaly.steps.train import train

    ingest(plant)
    trained = train(plant)
    if trained.registered is None:
        calibrate(plant, trained.folder)
    register(plant, trained.folder)
    score(plant)


def write_plant(
    folder: Path, *, n_files: int = 4, n_rows: int = 400, seed: int = 0, baseline: bool = False
) -> Path:
    """A small plant with dirty files, whose training takes a second; of a baseline, nearly none."""
    incoming = folder / "incoming"
    incoming.mkdir(parents=True)
    for number in range(n_files):
        write_file(incoming / f"{number}.csv", number, n_rows=n_rows, seed=seed)
    plant = folder / "plant.yml"
    plant.write_text(
        "name: crash\n"
        "source: {path: incoming, settle_s: 0}\n"
        "contract:\n"
        "  time: time\n"
        "  asset: asset\n"
        "  sensors: [{name: flow, low: -50}, pressure, power]\n"
        "window: 3\n"
        "smoothing: 0.5\n"
        "calibration: {false_alarm_rate: 0.05}\n"
        "training: {epochs: 2, min_steps: 60, batch_size: 64, checks: 6}\n"
        + "model: {baseline: mahalanobis}\n"
        * baseline
    )
    return plant


def write_historian(folder: Path, *, n_files: int = 3, n_rows: int = 300, seed: int = 0) -> Path:
    """A small plant whose readings are formed from a historian's dirty long tables."""
    incoming = folder / "incoming"
    incoming.mkdir(parents=True)
    for number in range(n_files):
        write_samples(incoming / f"{number}.csv", number, n_rows=n_rows, seed=seed)
    plant = folder / "plant.yml"
    plant.write_text(
        "name: crash\n"
        "source: {path: incoming, settle_s: 0}\n"
        "contract:\n"
        "  time: time\n"
        "  asset: asset\n"
        "  long: {}\n"
        "  sampling: {period_s: 2, max_gap_s: 6, resample: last, wait_s: 3}\n"
        "  sensors: [flow, {name: pressure, resample: interpolate}]\n"
    )
    return plant


def write_late(folder: Path) -> None:
    """What a historian plant gets later: a file that goes on, and one that lies back."""
    write_samples(folder / "incoming/3.csv", 3, n_rows=300, seed=0)
    write_samples(folder / "incoming/4.csv", 1, n_rows=300, seed=7)


def write_samples(path: Path, number: int, *, n_rows: int, seed: int) -> None:
    """Samples of two assets, some of them refused, repeated or conflicting with earlier ones."""
    rng = np.random.default_rng([seed, number])
    begin = datetime(2026, 3, 1, tzinfo=UTC) + number * timedelta(seconds=n_rows)
    lines = ["time,asset,tag,value"]
    for i in range(n_rows):
        stamp = (begin + timedelta(seconds=i + float(rng.random()) / 2)).isoformat()
        value = "1e99?" if i % 61 == 5 else f"{rng.normal():.6f}"
        tag = ("flow", "pressure", "other")[int(rng.integers(3))]
        lines.append(f"{stamp},{'ab'[i % 2]},{tag},{value}")
        if i % 50 == 7:
            lines.append(lines[-1])
        if i % 70 == 9:
            lines.append(f"{stamp},{'ab'[i % 2]},{tag},0.5")
    path.write_text("\n".join(lines) + "\n")


def write_file(path: Path, number: int, *, n_rows: int, seed: int) -> None:
    """Rows of two assets, some of them refused, repeated or conflicting with earlier ones."""
    rng = np.random.default_rng([seed, number])
    begin = datetime(2026, 3, 1, tzinfo=UTC) + number * timedelta(seconds=n_rows)
    load = rng.normal(size=n_rows)
    lines = ["time,asset,flow,pressure,power"]
    for i in range(n_rows):
        time_ = (begin + timedelta(seconds=i // 2)).isoformat()
        values = load[i] * np.array([1.0, -0.5, 0.3]) + 0.1 * rng.normal(size=3)
        cells = [f"{value:.6f}" for value in values]
        if i % 61 == 5:
            cells[0] = ["-99", "n/a?", "inf"][i % 3]
        lines.append(",".join([time_, "ab"[i % 2], *cells]))
        if i % 50 == 7:
            lines.append(lines[-1])
        if i % 70 == 9:
            lines.append(",".join([time_, "ab"[i % 2], "0.5", "0.5", "0.5"]))
    path.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True)
class Stage:
    """A step of a campaign, what comes into the plant's folder before it, and where to cut it."""

    step: str
    points: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda folder: None


PLAIN = tuple(
    Stage(step, points, write_plant if step == "ingest" else lambda folder: None)
    for step, points in POINTS.items()
)
SHAPED = (
    Stage("ingest", SHAPING_POINTS, write_historian),
    Stage("ingest", SHAPING_POINTS, write_late),
)


def shaped_content(folder: Path) -> dict[str, list[Row]]:
    """The lake of a plant whose readings are formed from samples, and how many came late."""
    content = lake_content(folder / "lake/crash")
    for row in content["readings"]:
        for name in SHIFTED:
            row.pop(name)
    content["readings"].sort(key=repr)
    readings = DeltaTable(str(folder / "lake/crash/readings"))
    return content | {"late": [{"n": readings.transaction_version("late")}]}


def campaign(kills: int, seed: int, *, shaped: bool) -> None:
    """Kill at named points and random moments until so many were killed, then compare."""
    stages = SHAPED if shaped else PLAIN
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as parent:
        calm, stormy = Path(parent) / "calm", Path(parent) / "stormy"
        durations = []
        for stage in stages:
            stage.prepare(calm)
            began = time.monotonic()
            assert finish(start(calm / "plant.yml", stage.step))
            durations.append(time.monotonic() - began)
        expected = _content(calm, shaped)
        done = 0
        while done < kills:
            shutil.rmtree(stormy, ignore_errors=True)
            for stage, duration in zip(stages, durations, strict=True):
                stage.prepare(stormy)
                for _ in range(draw.randint(1, KILLS_IN_A_ROW)):
                    done += _cut(stormy / "plant.yml", stage, duration, draw)
                assert finish(start(stormy / "plant.yml", stage.step))
            same = _content(stormy, shaped) == expected
            print(f"{datetime.now(UTC):%H:%M:%S} {done} kills, tables equal: {same}", flush=True)
            assert same


def _content(folder: Path, shaped: bool) -> dict[str, list[Row]]:
    return shaped_content(folder) if shaped else lake_content(folder / "lake/crash")


def _cut(plant: Path, stage: Stage, duration: float, draw: random.Random) -> bool:
    """Kill a step at a named point or a random moment; True when it was still running."""
    if draw.random() < 0.5:
        kill = Kill(draw.choice(stage.points), draw.random() < 0.5, draw.randint(1, 4))
        return not finish(start(plant, stage.step, kill))
    process = start(plant, stage.step)
    time.sleep(draw.uniform(0.4, 1.0) * duration)
    process.send_signal(signal.SIGKILL)
    return not finish(process)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shaped", action="store_true", help="readings formed from samples")
    parser.add_argument("--child", dest="step", help=argparse.SUPPRESS)
    parser.add_argument("--plant", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--after", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        child(options)
    else:
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # a registry of its own, nobody else's
        campaign(options.kills, options.seed, shaped=options.shaped)


if __name__ == "__main__":
    main()
