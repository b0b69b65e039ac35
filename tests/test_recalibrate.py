"""Marking the false alarms of one week cuts those of the next, and loses no event."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from vae_anomaly.config import Budget, PlantConfig, read_plant
from vae_anomaly.data.lake import VERDICTS, Lake, rows
from vae_anomaly.data.simulate import Simulation, plant_yaml, random_faults, truth, write_files
from vae_anomaly.decisions.alarms import Evidence, episodes
from vae_anomaly.errors import InputError
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.calibrate import calibrate
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.label import import_labels, label_alarms
from vae_anomaly.steps.promote import promote
from vae_anomaly.steps.recalibrate import recalibrate, recalibrate_table
from vae_anomaly.steps.register import register
from vae_anomaly.steps.said import raised_alarms
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import train
from vae_anomaly.tracking import champion_package, open_tracking

#: Rows of a week, one each ten minutes.
WEEK = 7 * 144


def simulated(seed: int = 0) -> Simulation:
    """Six pumps: three weeks that are well, and two with known faults."""
    plant = Simulation(n_assets=6, n_rows=5 * WEEK, period_s=600.0, seed=seed)
    kinds = ("leak", "wear", "stuck")
    faults = [
        fault
        for week in (3, 4)
        for fault in random_faults(
            plant,
            plant.time(week * WEEK),
            plant.time((week + 1) * WEEK),
            kinds=kinds,
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
    folder = Path(str(plant.source.path))
    write_files(simulation, folder, first * WEEK, n_weeks * WEEK, rows_per_file=WEEK * n_weeks)
    ingest(plant)


def lake_of(plant: PlantConfig) -> Lake:
    return Lake(plant.lake_path, plant.contract)


def true_faults(simulation: Simulation) -> list[tuple[str, int, int]]:
    """Asset, begin and end of each episode, with the hours in which the plant remembers it."""
    return [
        (row["asset"], micros(row["start"]), micros(row["end"] + timedelta(hours=6)))
        for row in truth(simulation).to_pylist()
    ]


def micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def spans_file(folder: Path, faults: list[tuple[str, int, int]]) -> Path:
    """A file of the faults as a person knows them."""
    lines = [f"{asset},{moment(start)},{moment(end)},fault" for asset, start, end in faults]
    file = folder / "labels.csv"
    file.write_text("\n".join(["asset,start,end,verdict", *lines]) + "\n")
    return file


def moment(time: int) -> str:
    return datetime.fromtimestamp(time / 1e6, UTC).isoformat()


def hits(alarm: tuple[str, int, int], faults: list[tuple[str, int, int]]) -> set[int]:
    asset, start, end = alarm
    return {i for i, (a, b, e) in enumerate(faults) if a == asset and start < e and end >= b}


def replayed(plant: PlantConfig, threshold: float, since: int) -> list[tuple[str, int, int]]:
    """Alarms from a moment on, had this threshold been in use: scores are those of the weights."""
    batches = list(rows(lake_of(plant).open(VERDICTS)))
    table = pa.Table.from_batches(batches).sort_by([("asset", "ascending"), ("time", "ascending")])
    found = []
    for asset in pc.unique(table["asset"]).to_pylist():
        tells = pc.field("status").isin(["normal", "anomaly"])
        own = table.filter((pc.field("asset") == asset) & tells)
        time = own["time"].cast(pa.int64()).to_numpy()
        over = own["score"].to_numpy() > np.float32(threshold)
        evidence = Evidence(time, over, ~over, np.zeros(len(time), bool))
        rule = plant.alarms.rule
        assert rule is not None
        found += [(asset, a.start, a.end) for a in episodes(evidence, rule) if a.start >= since]
    return found


@pytest.mark.slow
def test_marks_of_one_week_cut_the_false_alarms_of_the_next_one(tmp_path: Path) -> None:
    simulation = simulated()
    faults = true_faults(simulation)
    plant = plant_of(simulation, tmp_path)
    take_in(plant, simulation, 0, 3)
    trained = train(plant)
    calibrate(plant, trained.folder)
    first = register(plant, trained.folder).version
    score(plant)
    take_in(plant, simulation, 3, 1)
    score(plant)
    with pytest.raises(InputError, match="nobody has marked"):
        recalibrate(plant)
    since, until = (micros(simulation.time(week * WEEK)) for week in (3, 4))
    week = [a for a in raised_alarms(lake_of(plant)).values() if a.start >= since]
    false = [a.alarm_id for a in week if not hits((a.asset, a.start, a.end), faults)]
    label_alarms(plant, false, "false-alarm", who="ada")
    import_labels(plant, spans_file(tmp_path, [f for f in faults if f[1] < until]), who="ada")

    versions = len(open_tracking(plant).versions())
    tried = recalibrate(plant, dry_run=True)
    assert tried.version is None
    assert len(open_tracking(plant).versions()) == versions == 1
    report = recalibrate(plant)
    print("\n" + recalibrate_table(report).markdown())
    assert report.statement == tried.statement
    (unit,) = report.units.values()
    assert 0 < unit.n_removed <= unit.n_false == len(false)
    assert (unit.n_lost, report.reasons) == (0, ())
    assert unit.n_events > 0

    # same weights, new threshold, a version of its own, which scores
    assert report.version is not None
    assert report.version.tags["vae_anomaly.recalibrated_from"] == first.version
    champion = champion_package(plant)
    assert champion.version == report.version.version
    new, old = ModelPackage.read(champion.folder), ModelPackage.read(trained.folder / "package")
    assert new.units["*"].scorer.state_dict().keys() == old.units["*"].scorer.state_dict().keys()
    assert new.thresholds["*"].value == unit.threshold > old.thresholds["*"].value
    again = recalibrate(plant)
    assert not again.changes
    assert len(open_tracking(plant).versions()) == 2
    # after a step back, the same words find the same version
    promote(plant, first.version)
    back = recalibrate(plant)
    assert back.existed
    assert back.version is not None
    assert back.version.version == champion_package(plant).version == champion.version

    take_in(plant, simulation, 4, 1)
    score(plant)
    before, after = (replayed(plant, p.thresholds["*"].value, until) for p in (old, new))
    stored = [a for a in raised_alarms(lake_of(plant)).values() if a.start >= until]
    assert sorted((a.asset, a.start, a.end) for a in stored) == sorted(after)
    n_before, n_after = (sum(not hits(a, faults) for a in alarms) for alarms in (before, after))
    met_before, met_after = (
        set().union(*(hits(a, faults) for a in alarms)) for alarms in (before, after)
    )
    print(f"next week: {n_before} false alarms without, {n_after} with the marks; "
          f"{len(met_before)} events found without, {len(met_after)} with")  # fmt: skip
    assert n_after <= 0.8 * n_before
    assert met_after == met_before

    # a budget that costs events gives a challenger
    calibration = plant.calibration.model_copy(update={"budget": Budget(alarms=0.1)})
    strict = recalibrate(plant.model_copy(update={"calibration": calibration}))
    assert strict.units["*"].n_lost > 0
    assert "confirmed events would be lost" in strict.reasons[0]
    assert champion_package(plant).version == champion.version
    # and a word taken back is taken back in the threshold
    label_alarms(plant, false, "unknown", who="ben")
    (unit,) = recalibrate(plant, dry_run=True).units.values()
    assert (unit.threshold, unit.n_false) == (old.thresholds["*"].value, 0)
