"""What cannot be calibrated is refused before the training, by the very rules of `calibrate`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.decisions.rules import RULES, Target
from vae_anomaly.decisions.thresholds import calibrate, refuse_too_few
from vae_anomaly.errors import CalibrationError, ConfigError
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.check import check
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.judged import calibration_rows, calibration_rows_ahead
from vae_anomaly.steps.train import read_trained, train

START = datetime(2026, 3, 9, tzinfo=UTC)


def plant_of(folder: Path, database: Path, n_rows: int, *, more: str = "") -> PlantConfig:
    """Two pumps, a reading a minute, some without a value, a few labelled anomalies."""
    draw = np.random.default_rng(0)
    lines = ["time,pump,flow,pressure,fault"]
    for pump in ("a", "b"):
        for at in range(n_rows):
            flow, pressure = draw.normal(size=2).round(3)
            empty = at % 37 == 5
            cells = ["", ""] if empty else [str(flow), str(pressure)]
            moment = START + at * timedelta(minutes=1)
            lines.append(f"{moment:%Y-%m-%dT%H:%M:%SZ},{pump},{','.join(cells)},{at % 50 == 7:d}")
    (folder / "in.csv").write_text("\n".join(lines) + "\n")
    (folder / "plant.yml").write_text(
        "name: pumps\nsource: {path: in.csv, settle_s: 0}\n"
        "contract: {time: time, asset: pump, label: fault, sensors: [flow, pressure]}\n" + more
    )
    (folder / "lake/pumps/mlflow").mkdir(parents=True)
    shutil.copy(database, folder / "lake/pumps/mlflow/mlflow.db")
    plant = read_plant(folder / "plant.yml")
    ingest(plant)
    return plant


@pytest.mark.parametrize("per", ["plant", "asset"])
@pytest.mark.parametrize("window", [1, 4])
def test_rows_that_are_counted_ahead_are_those_that_are_calibrated_on(
    per: str, window: int, tmp_path: Path, database: Path
) -> None:
    model = f"model: {{baseline: mahalanobis, per: {per}}}\nwindow: {window}\n"
    plant = plant_of(tmp_path, database, 800, more=model)
    folder = train(plant).folder
    draft, trained = ModelPackage.read(folder / "draft"), read_trained(folder)
    readings = Lake(plant.lake, plant.contract).open(READINGS, version=trained.readings_version)
    exact = calibration_rows(readings, trained.intervals, draft)
    ahead = calibration_rows_ahead(
        plant, readings, trained.intervals, draft.units, reach=window - 1
    )
    assert exact.keys() == ahead.keys()
    for name, rows in exact.items():
        assert_array_equal(ahead[name].judged, rows.judged)
        assert 0 < rows.judged.sum() < len(rows.judged)


@pytest.mark.parametrize(
    ("n_rows", "more", "said"),
    [
        (300, "calibration: {false_alarm_rate: 0.005}", "needs at least 199 normal rows .* are 11"),
        (300, "calibration: {rule: peaks_over_threshold}", "normal rows, and there are 11"),
        (
            800,
            "calibration: {budget: 1 alarm per asset per month}",
            "needs at least 30 days of normal rows .* and there are 0",
        ),
        (
            300,
            "model: {per: asset}\ncalibration: {rule: conformal}",
            "asset 'a': false_alarm_rate=0.01 needs at least 99",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_not_trained(
    n_rows: int, more: str, said: str, tmp_path: Path, database: Path
) -> None:
    plant = plant_of(tmp_path, database, n_rows, more=more)
    checks: list[str] = []
    with pytest.raises(CalibrationError, match=said):
        train(plant, on_check=lambda unit, check: checks.append(unit))
    assert not checks
    assert not list(Path(plant.lake).rglob("draft"))


@pytest.mark.parametrize(
    ("n_rows", "more", "said", "is_enough"),
    [
        (150, "", "not enough for a false alarm rate of 0.01: the part calibrate has about 58 ", 0),
        (350, "", "enough for a false alarm rate of 0.01: the part calibrate has about 137 ", 1),
        (400, "calibration: {budget: 1 per asset per day}", "not enough for the budget of 1 al", 0),
        (4800, "calibration: {budget: 1 per asset per day}", "enough for: 1 alarm per asset p", 1),
        (4800, "", "per asset per day; per week takes about 15 days more", 1),
        (50, "", "a budget of 1 alarm per asset per hour takes about 1 day more", 0),
    ],
)
def test_check_says_ahead_of_all_what_the_files_are_enough_for(
    n_rows: int, more: str, said: str, is_enough: int, tmp_path: Path, database: Path
) -> None:
    """Oracle: `train` refuses it or not."""
    plant = plant_of(tmp_path, database, n_rows, more=f"model: {{baseline: pca}}\n{more}")
    enough = check(plant).enough
    assert any(note.startswith(said) or said in note for note in enough), enough
    assert any(note.startswith("not enough") for note in enough) != is_enough
    try:
        train(plant)
        assert is_enough
    except CalibrationError:
        assert not is_enough


def test_rows_that_come_again_are_enough_for_nothing_more(tmp_path: Path, database: Path) -> None:
    plant = plant_of(tmp_path, database, 350)
    once = check(plant).enough
    folder = tmp_path / "twice"
    folder.mkdir()
    for name in ("a", "b"):
        shutil.copy(tmp_path / "in.csv", folder / f"{name}.csv")
    both = plant.source.model_copy(update={"path": str(folder)})
    assert once
    assert check(plant.model_copy(update={"source": both})).enough == once


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("model: {settings: {latent_dims: 3}}", "did you mean 'latent_dim'"),
        ("model: {score: reconstructio}", "did you mean 'reconstruction'"),
        ("calibration: {rule: confromal}", "did you mean 'conformal'"),
    ],
)
def test_settings_that_are_not_known_are_not_trained(
    more: str, said: str, tmp_path: Path, database: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(plant_of(tmp_path, database, 50, more=more))


def test_rule_that_is_not_known_is_refused_by_check(tmp_path: Path, database: Path) -> None:
    plant = plant_of(tmp_path, database, 50, more="calibration: {beta: 2}")
    with pytest.raises(ConfigError, match="beta=2 is not what rule 'auto' asks for"):
        check(plant)


def refusal_of(refuse: Callable[..., object], *rows: np.ndarray, **given: object) -> str:
    """What a function says against these rows; nothing where it takes them."""
    try:
        refuse(*rows, **given)
    except CalibrationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("rule", ["auto", *(name for name in RULES if name != "fixed")])
@pytest.mark.parametrize("n_anomalous", [0, 20])
def test_labels_alone_are_refused_where_calibrate_refuses_so_few_normal_rows(
    rule: str, n_anomalous: int
) -> None:
    """Oracle: `calibrate`, on scores that tell the classes apart, at each number of rows."""
    target = Target(missed_cost=1.0) if rule == "cost" else Target(false_alarm_rate=0.02)
    for n_normal in (1, 48, 49, 50, 299, 300):
        labels = np.repeat([0, 1], [n_normal, n_anomalous])
        scores = np.arange(len(labels), dtype=float)
        given = {"rule": rule, "target": target}
        ahead = refusal_of(refuse_too_few, labels, **given)
        exact = refusal_of(calibrate, scores, labels, bootstrap=100, **given)
        assert ahead == exact or (rule in ("precision", "detection_rate") and not ahead)
