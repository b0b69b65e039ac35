"""Marking the false alarms of one week cuts those of the next, and loses no event."""

from __future__ import annotations

from pathlib import Path

import pytest
from feedback import (
    MARKED,
    NEXT,
    WEEK,
    NextWeek,
    lake_of,
    mark,
    micros,
    plant_of,
    replayed,
    simulated,
    take_in,
    true_faults,
)

from vae_anomaly.config import Budget
from vae_anomaly.errors import InputError
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.calibrate import calibrate
from vae_anomaly.steps.label import label_alarms
from vae_anomaly.steps.promote import promote
from vae_anomaly.steps.recalibrate import recalibrate, recalibrate_table
from vae_anomaly.steps.register import register
from vae_anomaly.steps.said import holding, raised_alarms, read_said
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import train
from vae_anomaly.tracking import champion_package, open_tracking


@pytest.mark.slow
def test_marks_of_one_week_cut_the_false_alarms_of_the_next_one(tmp_path: Path) -> None:
    simulation = simulated()
    faults = true_faults(simulation)
    plant = plant_of(simulation, tmp_path)
    take_in(plant, simulation, 0, MARKED)
    trained = train(plant)
    calibrate(plant, trained.folder)
    first = register(plant, trained.folder).version
    score(plant)
    take_in(plant, simulation, MARKED, 1)
    score(plant)
    with pytest.raises(InputError, match="nobody has marked"):
        recalibrate(plant)
    false = mark(plant, simulation, tmp_path)
    until = micros(simulation.time(NEXT * WEEK))

    versions = len(open_tracking(plant).versions())
    tried = recalibrate(plant, dry_run=True)
    assert tried.version is None
    assert len(open_tracking(plant).versions()) == versions == 1
    report = recalibrate(plant)
    print("\n" + recalibrate_table(report).markdown())
    assert report.statement == tried.statement
    _, counted, price = recalibrate_table(report).notes
    n_said = len(holding(read_said(lake_of(plant))))
    assert counted.startswith(f"people said fault or false alarm {n_said:,} times; each counts if")
    assert "within 12 rows in 90% of cases" in price
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

    take_in(plant, simulation, NEXT, 1)
    score(plant)
    before, after = (replayed(plant, p.thresholds["*"].value, until) for p in (old, new))
    stored = [a for a in raised_alarms(lake_of(plant)).values() if a.start >= until]
    assert sorted((a.asset, a.start, a.end) for a in stored) == sorted(after)
    without, with_marks = (NextWeek.of(alarms, faults) for alarms in (before, after))
    print(f"next week without the marks: {without}; with them: {with_marks}")
    assert with_marks.n_false <= 0.8 * without.n_false
    assert with_marks.met == without.met

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
