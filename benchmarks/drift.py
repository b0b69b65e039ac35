"""What `monitor` says of a simulated plant that does not change, and of one that does.

    python benchmarks/drift.py --out benchmarks/results/drift.md

Four pumps, a row in five minutes, learnt from 11 days of two weeks and then watched, a window
a day, with default settings. `quiet`: four weeks in which nothing
changes. `changing`: every second day one thing lasts for the whole day and is gone the day after;
of a regime all pumps are concerned, of anything else one. Each seed is another plant, trained anew.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch

from vae_anomaly.config import read_plant
from vae_anomaly.data.simulate import KINDS as FAULT_KINDS
from vae_anomaly.data.simulate import Fault, Simulation, plant_yaml, write_files
from vae_anomaly.decisions.diagnosis import KINDS
from vae_anomaly.steps.calibrate import calibrate
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.monitor import MonitorReport, monitor
from vae_anomaly.steps.register import register
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import train

PERIOD_S, DAY, LEARNT_DAYS, QUIET_DAYS = 300.0, 288, 14, 28

#: What is planted on a day, and what it has to be called.
SCENARIOS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("stuck", ("flow",), "sensor"),
    ("leak", (), "process"),
    ("load_change", (), "regime"),
    ("broken_sensor", ("bearing_temperature",), "sensor"),
    ("wear", (), "process"),
    ("regime_change", (), "regime"),
    ("drift", ("vibration",), "sensor"),
    ("flush", (), "regime"),
    ("drift", ("pressure_out",), "sensor"),
    ("outage", (), "data"),
)


@dataclass(frozen=True)
class Planted:
    """What lies in one day: the window's first moment, the asset ("" for all), the truth."""

    name: str
    start_us: int
    asset: str
    truth: str


def changing(simulation: Simulation, seed: int) -> tuple[Simulation, list[Planted]]:
    """The plant with one scenario every second day behind the two weeks that it is learnt from."""
    faults, planted = [], []
    for place, (kind, sensors, truth) in enumerate(SCENARIOS):
        first = (LEARNT_DAYS + 1 + 2 * place) * DAY
        start, hours = simulation.time(first), 12 if kind == "outage" else 24
        asset = simulation.assets[(place + seed) % simulation.n_assets]
        whole = truth == "regime"
        faults += [
            Fault(
                kind=kind, asset=own, start=start, end=start + timedelta(hours=hours),
                sensors=sensors, size=FAULT_KINDS[kind].size,
            )
            for own in (simulation.assets if whole else (asset,))
        ]  # fmt: skip
        name = " ".join((kind, *sensors))
        planted.append(Planted(name, int(start.timestamp() * 1e6), "" if whole else asset, truth))
    return replace(simulation, faults=tuple(faults)), planted


def watched(simulation: Simulation, n_days: int, folder: Path) -> MonitorReport:
    """Learn the first two weeks, score the rest, and monitor it."""
    (folder / "plant.yml").write_text(plant_yaml(simulation), encoding="utf-8")
    learnt = LEARNT_DAYS * DAY
    write_files(simulation, folder / "incoming", 0, learnt)
    plant = read_plant(folder / "plant.yml")
    ingest(plant)
    trained = train(plant)
    calibrate(plant, trained.folder)
    register(plant, trained.folder)
    write_files(simulation, folder / "incoming", learnt, n_days * DAY + 1)
    ingest(plant)
    score(plant)
    return monitor(plant)


def page(n_seeds: int) -> Iterator[str]:
    yield f"`python benchmarks/drift.py --seeds {n_seeds}`. " + " ".join(
        (__doc__ or "").split("\n\n")[2].split()
    )
    yield ""
    quiet, said = Counter[str](), Counter[tuple[str, str, str]]()
    checks, n_windows = Counter[str](), 0
    others = Counter[str]()
    for seed in range(n_seeds):
        plant = Simulation(period_s=PERIOD_S, n_rows=LEARNT_DAYS * DAY, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            found = watched(plant, QUIET_DAYS, Path(folder))
        for window in found.windows:
            n_windows += 1
            drifted = {
                c.name for own in window.checks.values() for c in own if c.verdict == "drift"
            }
            quiet[window.plant.kind] += 1
            quiet["any"] += bool(drifted)
            checks.update(drifted)
        simulation, planted = changing(plant, seed)
        with tempfile.TemporaryDirectory() as folder:
            found = watched(simulation, 2 * len(SCENARIOS) + 1, Path(folder))
        by_start = {window.start: window for window in found.windows}
        for entry in planted:
            window = by_start.pop(entry.start_us)
            said[entry.name, entry.truth, window.diagnoses[entry.asset].kind] += 1
            if entry.asset:
                for asset, own in window.diagnoses.items():
                    others[own.kind] += asset not in ("", entry.asset)
        for window in by_start.values():
            others.update(own.kind for asset, own in window.diagnoses.items() if asset)
    yield (
        f"Quiet: drift of any figure in {quiet['any']} of {n_windows} windows (asked for: 1 %); "
        + (", ".join(f"{name} {n}" for name, n in checks.most_common()) or "none")
        + f". Said of the plant: {', '.join(f'{kind} {quiet[kind]}' for kind in KINDS)}."
    )
    yield ""
    yield f"| planted for a day, {n_seeds} plants | is | " + " | ".join(KINDS) + " |"
    yield "|---" * (2 + len(KINDS)) + "|"
    for kind, sensors, truth in SCENARIOS:
        name = " ".join((kind, *sensors))
        row = (str(said[name, truth, verdict] or "") for verdict in KINDS)
        yield f"| {name} | {truth} | " + " | ".join(row) + " |"
    row = (str(others[verdict] or "") for verdict in KINDS)
    yield "| assets and days without a change | none | " + " | ".join(row) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("vae_anomaly").setLevel(logging.ERROR)
    lines = list(page(options.seeds))
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
