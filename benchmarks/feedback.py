"""What marking the false alarms of one week does to the next, in simulated plants of known truth.

    python benchmarks/feedback.py --seeds 12 --out benchmarks/results/feedback.md

Six pumps: three weeks that are well, one with known faults in which a person marks every false
alarm and tells every fault, and one more with faults, in which the alarms of the old thresholds
are held against those of the new ones. The faults of the last week are in nobody's labels.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import VERDICTS, Lake, rows
from vae_anomaly.data.simulate import Simulation, plant_yaml, random_faults, truth, write_files
from vae_anomaly.decisions.alarms import Evidence, episodes
from vae_anomaly.decisions.recalibration import MOST_GROWTH
from vae_anomaly.steps.calibrate import calibrate
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.label import import_labels, label_alarms
from vae_anomaly.steps.recalibrate import recalibrate
from vae_anomaly.steps.register import register
from vae_anomaly.steps.said import raised_alarms
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import train

#: Rows of a week, one each ten minutes.
WEEK = 7 * 144

#: Weeks of the plant: those that are well, the one that is marked, and the one after it.
MARKED, NEXT, END = 3, 4, 5

#: Hours behind a fault in which the plant remembers it.
MEMORY = timedelta(hours=6)

#: What quiet may cost: the default, and more.
GROWTHS = (MOST_GROWTH, 0.25)

#: Asset, begin and end, in microseconds since 1970.
Span = tuple[str, int, int]


def simulated(seed: int = 0) -> Simulation:
    """Six pumps: three weeks that are well, and two with known faults."""
    plant = Simulation(n_assets=6, n_rows=END * WEEK, period_s=600.0, seed=seed)
    faults = [
        fault
        for week in (MARKED, NEXT)
        for fault in random_faults(
            plant,
            plant.time(week * WEEK),
            plant.time((week + 1) * WEEK),
            kinds=("leak", "wear", "stuck"),
            seed=week,
        )
    ]
    return replace(plant, faults=tuple(faults))


def plant_of(simulation: Simulation, folder: Path) -> PlantConfig:
    """The plant file, without the labels that the simulator knows."""
    content = yaml.safe_load(plant_yaml(simulation))
    del content["contract"]["label"]
    content["source"]["settle_s"] = 0
    content["model"] = {"baseline": "mahalanobis"}
    content["calibration"] = {"false_alarm_rate": 0.02}
    content["alarms"] = {"rule": {"raise_after": 2, "out_of": 3, "clear_after": 3}}
    (folder / "plant.yml").write_text(yaml.safe_dump(content))
    return read_plant(folder / "plant.yml")


def take_in(plant: PlantConfig, simulation: Simulation, first: int, n_weeks: int) -> None:
    """Ingest some weeks, the first one counted from 0."""
    folder = Path(str(plant.source.path))
    write_files(simulation, folder, first * WEEK, n_weeks * WEEK, rows_per_file=WEEK * n_weeks)
    ingest(plant)


def lake_of(plant: PlantConfig) -> Lake:
    return Lake(plant.lake, plant.contract)


def true_faults(simulation: Simulation) -> list[Span]:
    """Each episode, with the hours in which the plant remembers it."""
    return [
        (row["asset"], micros(row["start"]), micros(row["end"] + MEMORY))
        for row in truth(simulation).to_pylist()
    ]


def micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def spans_file(folder: Path, faults: Sequence[Span]) -> Path:
    """A file of the faults as a person knows them."""
    lines = [f"{asset},{_moment(start)},{_moment(end)},fault" for asset, start, end in faults]
    file = folder / "labels.csv"
    file.write_text("\n".join(["asset,start,end,verdict", *lines]) + "\n")
    return file


def _moment(time: int) -> str:
    return datetime.fromtimestamp(time / 1e6, UTC).isoformat()


def hits(alarm: Span, faults: Sequence[Span]) -> set[int]:
    """Numbers of the faults that an alarm lies in."""
    asset, start, end = alarm
    return {i for i, (a, b, e) in enumerate(faults) if a == asset and start < e and end >= b}


def mark(plant: PlantConfig, simulation: Simulation, folder: Path) -> list[str]:
    """Say of the marked week what was what; returns the ids of the false alarms."""
    since, until = (micros(simulation.time(week * WEEK)) for week in (MARKED, NEXT))
    faults = true_faults(simulation)
    week = [a for a in raised_alarms(lake_of(plant)).values() if a.start >= since]
    false = [a.alarm_id for a in week if not hits((a.asset, a.start, a.end), faults)]
    label_alarms(plant, false, "false-alarm", who="ada")
    import_labels(plant, spans_file(folder, [f for f in faults if f[1] < until]), who="ada")
    return false


def replayed(plant: PlantConfig, threshold: float, since: int) -> list[Span]:
    """Alarms from a moment on, had this threshold been in use: scores are those of the weights."""
    batches = list(rows(lake_of(plant).open(VERDICTS)))
    table = pa.Table.from_batches(batches).sort_by([("asset", "ascending"), ("time", "ascending")])
    rule = plant.alarms.rule
    assert rule is not None
    found = []
    for asset in pc.unique(table["asset"]).to_pylist():
        tells = pc.field("status").isin(["normal", "anomaly"])
        own = table.filter((pc.field("asset") == asset) & tells)
        time = own["time"].cast(pa.int64()).to_numpy()
        over = own["score"].to_numpy() > np.float32(threshold)
        evidence = Evidence(time, over, ~over, np.zeros(len(time), bool))
        found += [(asset, a.start, a.end) for a in episodes(evidence, rule) if a.start >= since]
    return found


@dataclass(frozen=True)
class NextWeek:
    """False alarms and faults found of the week after the marks, at one threshold."""

    n_false: int
    met: frozenset[int]

    @classmethod
    def of(cls, alarms: Sequence[Span], faults: Sequence[Span]) -> NextWeek:
        inside = [hits(alarm, faults) for alarm in alarms]
        return cls(sum(not own for own in inside), frozenset().union(*inside))


@dataclass(frozen=True)
class Outcome:
    """What the marks did: to the marked week, and to the next one without and with them."""

    n_false: int
    n_removed: int
    n_events: int
    n_lost: int
    without: NextWeek
    with_marks: NextWeek

    @property
    def counts(self) -> tuple[int, ...]:
        """What a line of the table says, in its order."""
        before, after = self.without, self.with_marks
        return (self.n_removed, self.n_false, self.n_lost, self.n_events,
                before.n_false, after.n_false, len(before.met), len(after.met))  # fmt: skip


def outcomes(seed: int, folder: Path) -> list[Outcome]:
    """One plant from its first week to its last, for each growth that may be."""
    simulation = simulated(seed)
    plant = plant_of(simulation, folder)
    take_in(plant, simulation, 0, MARKED)
    trained = train(plant)
    calibrate(plant, trained.folder)
    register(plant, trained.folder)
    score(plant)
    take_in(plant, simulation, MARKED, 1)
    score(plant)
    mark(plant, simulation, folder)
    found = [recalibrate(plant, dry_run=True, most_growth=growth) for growth in GROWTHS]
    take_in(plant, simulation, NEXT, 1)
    score(plant)
    faults, until = true_faults(simulation), micros(simulation.time(NEXT * WEEK))
    without = NextWeek.of(replayed(plant, found[0].present["*"], until), faults)
    return [
        Outcome(
            unit.n_false, unit.n_removed, unit.n_events, unit.n_lost, without,
            NextWeek.of(replayed(plant, unit.threshold, until), faults),
        )
        for unit in (report.units["*"] for report in found)
    ]  # fmt: skip


def page(seeds: int) -> Iterator[str]:
    yield (
        f"`python benchmarks/feedback.py --seeds {seeds}`: six pumps, a Mahalanobis distance with "
        "2 % of normal rows over its threshold, an on-delay of 2 of 3 rows. The false alarms of "
        "one week are marked and its faults told; the next week's faults are in no labels. Growth: "
        "by how much the smallest lasting shift may grow that is found soon."
    )
    yield ""
    yield (
        "| growth | seed | marked false alarms removed | confirmed events lost | false alarms of "
        "the next week, without → with the marks | its events found, without → with |"
    )
    yield "|---|---|---|---|---|---|"
    totals = {growth: np.zeros(8, int) for growth in GROWTHS}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            for growth, found in zip(GROWTHS, outcomes(seed, Path(folder)), strict=True):
                totals[growth] += found.counts
                yield _line(growth, str(seed), found.counts)
    for growth, total in totals.items():
        yield _line(growth, "all", total.tolist())


def _line(growth: float, name: str, counts: Sequence[int]) -> str:
    removed, false, lost, events, before, after, met, still = counts
    return (
        f"| {growth:.0%} | {name} | {removed} of {false} | {lost} of {events} | {before} → {after} "
        f"({(after - before) / max(before, 1):+.0%}) | {met} → {still} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines = []
    for line in page(options.seeds):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
