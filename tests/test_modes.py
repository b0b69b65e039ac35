"""Thresholds a mode: fewer false alarms where rows are rare, and an unseen mode is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sealed
from crash import write_plant
from numpy.testing import assert_allclose, assert_array_equal

from vae_anomaly.config import read_plant
from vae_anomaly.decisions.conformal import conformal_p_values
from vae_anomaly.decisions.modes import Level, Levels, fit_levels, known_modes
from vae_anomaly.decisions.rates import FloatArray
from vae_anomaly.decisions.thresholds import Target, calibrate
from vae_anomaly.errors import ConfigError, InputError
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.calibrate import calibrate as calibrate_plant
from vae_anomaly.steps.evaluate import evaluate
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.train import read_trained, train

#: Normal calibration rows of each mode of a simulated fleet.
SIZES = (4000, 1000, 300, 100, 40, 20, 10, 0)
NAMES = tuple(f"mode {i}" for i in range(len(SIZES)))
PLACE = np.repeat(np.arange(len(SIZES)), SIZES)


def rule(scores: FloatArray, counts: np.ndarray) -> float:
    kept = scores[counts]
    return calibrate(kept, np.zeros(len(kept), int), rule="conformal").threshold.value


def fleet(seed: int, shift: float, spread: float, *, n_fresh: int = 5000) -> dict[str, FloatArray]:
    """False alarm rate in each mode (k,) by three kinds of threshold; scores are skewed."""
    generator = np.random.default_rng(seed)

    def draw(n: int) -> FloatArray:
        return (generator.chisquare(8, n) - 8) / 4

    centre = shift * generator.standard_normal(len(SIZES))
    scale = np.exp(spread * generator.standard_normal(len(SIZES)))
    scores = centre[PLACE] + scale[PLACE] * draw(len(PLACE))
    every = np.ones(len(scores), bool)
    levels = fit_levels(scores, PLACE, every, names=NAMES, threshold=rule)
    of_all = rule(scores, every)
    own = [
        rule(scores, i == PLACE) if n >= 99 else np.max(scores[i == PLACE], initial=-np.inf)
        for i, n in enumerate(SIZES)
    ]
    limits = levels.limits(rule(levels.levelled(scores, PLACE), every), np.arange(len(SIZES)))
    fresh = centre[:, None] + scale[:, None] * draw(len(SIZES) * n_fresh).reshape(-1, n_fresh)
    found = {"of all rows": np.full(len(SIZES), of_all), "of its own": own, "levelled": limits}
    return {name: (fresh > np.array(t)[:, None]).mean(axis=1) for name, t in found.items()}


# Means over 40 fleets; those asked for are 3 standard errors and more away
@pytest.mark.parametrize(("shift", "spread", "share"), [(0, 0, 1.6), (1, 0.3, 1.1), (5, 0.5, 0.5)])
def test_levelled_thresholds_cut_false_alarms_in_rare_modes(
    shift: float, spread: float, share: float
) -> None:
    """In modes of 10 to 100 rows: below those of all rows' threshold and of the mode's own."""
    fleets = [fleet(seed, shift, spread) for seed in range(40)]
    mean = {name: np.mean([f[name] for f in fleets], axis=0) for name in fleets[0]}
    for name, rates in mean.items():
        shown = " ".join(f"{n}: {r:.1%}" for n, r in zip(SIZES, rates, strict=True))
        print(f"shift {shift}, {name}: {shown}")
    rare = {name: rates[3:7].mean() for name, rates in mean.items()}
    assert rare["levelled"] < share * rare["of all rows"]
    assert rare["levelled"] < 0.85 * rare["of its own"]
    assert_allclose(mean["levelled"][:2], 0.01, atol=0.002)
    assert mean["levelled"][-1] < 1.2 * mean["of all rows"][-1] + 0.001  # no rows, the same


def test_modes_that_are_alike_share_a_threshold() -> None:
    scores = np.random.default_rng(0).standard_normal(6000)
    place = np.arange(6000) % 3
    levels = fit_levels(scores, place, place >= 0, names=("a", "b", "c"), threshold=rule)
    limits = levels.limits(rule(scores, place >= 0), np.arange(3))
    assert limits.std() < 0.1


def test_shift_and_stretch_of_all_scores_moves_each_threshold_along() -> None:
    scores = np.random.default_rng(1).standard_normal(2060) + PLACE_OF_3
    every = np.ones(len(scores), bool)
    found = []
    for moved in (scores, 7 + 3 * scores):
        levels = fit_levels(moved, PLACE_OF_3, every, names=("a", "b", "c"), threshold=rule)
        threshold = rule(levels.levelled(moved, PLACE_OF_3), every)
        found.append(levels.limits(threshold, np.arange(3)).astype(float))
    assert_allclose(found[1], 7 + 3 * found[0], rtol=1e-5)


PLACE_OF_3 = np.repeat([0, 1, 2], [2000, 50, 10])


def test_rows_without_a_mode_and_modes_without_rows_have_the_threshold_of_all() -> None:
    scores = np.append(np.random.default_rng(0).standard_normal(500), [1.0, 2.0])
    place = np.append(np.zeros(500, int), [-1, -1])
    levels = fit_levels(scores, place, np.ones(502, bool), names=("a", "none"), threshold=rule)
    assert levels.modes[1] == Level("none")
    assert_array_equal(levels.limits(3.3, np.array([1, -1])), np.float32([3.3, 3.3]))
    assert_array_equal(levels.levelled(scores, place)[-2:], [1.0, 2.0])


def test_equal_scores_make_no_mode_of_their_own() -> None:
    levels = fit_levels(
        np.ones(300), np.arange(300) % 2, np.ones(300, bool), names=("a", "b"), threshold=rule
    )
    assert_allclose(levels.limits(1.0, np.array([0, 1])), 1, rtol=1e-6)


# ------------------------------------------------------------------------------------- in service


def with_modes(folder: Path) -> ModelPackage:
    """A sealed package whose mode 'idle' has a threshold of its own; 'run' has none."""
    package = sealed.seal(folder)
    unit = package.units["*"]
    assert unit.calibration is not None
    levels = Levels("mode", (Level("idle", 5.0, 2.0, 50), Level("run")))
    calibration = replace(unit.calibration, levels=levels)
    return replace(package, units={"*": replace(unit, calibration=calibration)}).write(folder)


def in_modes(modes: list[str | None]) -> pa.Table:
    rows = sealed.rows(len(modes))
    at = rows.column_names.index("mode")
    return rows.set_column(at, "mode", pa.array(modes, pa.string()))


def test_each_row_is_judged_by_the_threshold_of_its_mode(tmp_path: Path) -> None:
    package = with_modes(tmp_path / "package")
    table = in_modes(["idle", "run", None, "idle"] * 20)
    found = ModelPackage.read(tmp_path / "package").score(table)
    plain = sealed.seal(tmp_path / "plain").score(table)
    assert found["score"] == plain["score"]  # to the last bit
    calibration = package.units["*"].calibration
    assert calibration is not None
    value = calibration.threshold.value
    is_idle = np.array(table["mode"].to_pylist()) == "idle"
    limit = found["threshold"].to_numpy()
    assert_allclose(limit, np.where(is_idle, 5 + 2 * value, value), rtol=1e-6)
    score = found["score"].to_numpy()
    scored = ~np.isnan(score)
    expected = np.where(score > limit, "anomaly", "normal")[scored]
    assert_array_equal(np.array(found["status"].to_pylist())[scored], expected)
    level = np.where(is_idle, (score.astype(float) - 5) / 2, score)[scored]
    p_value = conformal_p_values(level, calibration.reference).astype(np.float32)
    assert_array_equal(found["p_value"].to_numpy()[scored], p_value)


def test_a_mode_that_the_model_was_never_shown_is_named(tmp_path: Path) -> None:
    package = with_modes(tmp_path / "package")
    table = in_modes(["idle", "run", "purge", "purge", None, "idle"])
    found = package.score(table)
    unseen = [2, 3]
    assert [found["status"][i].as_py() for i in unseen] == ["unseen_mode"] * 2
    assert "mode 'purge'; it knows idle, run" in found["reason"][2].as_py()
    assert all(found["score"][i].as_py() is None for i in unseen)
    assert all(found["status"][i].as_py() != "unseen_mode" for i in (0, 1, 4, 5))


def test_a_package_with_modes_asks_for_the_mode(tmp_path: Path) -> None:
    package = with_modes(tmp_path / "package")
    with pytest.raises(InputError, match="column 'mode' is missing"):
        package.score(sealed.rows(4).drop_columns(["mode"]))


def test_levels_are_sealed_and_a_package_of_before_has_none(tmp_path: Path) -> None:
    package = with_modes(tmp_path / "package")
    again = ModelPackage.read(tmp_path / "package").units["*"]
    assert again.levels == package.units["*"].levels
    assert known_modes(again.levels) == ("idle", "run")
    sealed.seal(tmp_path / "plain")
    path = tmp_path / "plain" / "package.json"
    content = json.loads(path.read_text())
    for unit in content["units"]:
        del unit["per"], unit["levels"]
    path.write_text(json.dumps(content))
    old = ModelPackage.read(tmp_path / "plain")
    assert old.units["*"].levels is None
    assert known_modes(old.units["*"].levels) is None
    assert old.score(in_modes(["purge"] * 3))["status"].to_pylist().count("unseen_mode") == 0


def test_a_target_of_a_rate_is_that_of_every_mode() -> None:
    """The whole keeps the rate that was asked for, though modes differ by 20 spreads."""
    generator = np.random.default_rng(3)
    place = np.repeat([0, 1], [3000, 300])
    scores, fresh = (generator.standard_normal(3300) + 20 * place for _ in range(2))
    every, asked = np.ones(3300, bool), Target(false_alarm_rate=0.05)

    def at_5(level: FloatArray, counts: np.ndarray) -> float:
        return calibrate(level[counts], np.zeros(counts.sum(), int), target=asked).threshold.value

    levels = fit_levels(scores, place, every, names=("a", "b"), threshold=at_5)
    limits = levels.limits(at_5(levels.levelled(scores, place), every), place)
    above = fresh > limits
    assert 0.03 < above[place == 0].mean() < 0.07  # 5 standard errors
    assert 0.01 < above[place == 1].mean() < 0.11


def plant_in_modes(folder: Path, calibration: str) -> Path:
    """The small plant: every tenth block of five rows is idle and noisy, a late one a purge."""
    path = write_plant(folder)
    generator = np.random.default_rng(0)
    for number in range(4):
        file = folder / f"incoming/{number}.csv"
        head, *lines = file.read_text().splitlines()
        for i, line in enumerate(lines):
            time, asset, flow, pressure, power = line.split(",")
            mode = "idle" if i // 5 % 10 == 0 else "run"
            if mode == "idle":
                pressure = f"{float(pressure) + generator.normal():.6f}"
            if number == 3 and i > 0.8 * len(lines) and i % 50 == 7:
                mode = "purge"
            lines[i] = ",".join([time, asset, flow, pressure, power, mode])
        file.write_text("\n".join([f"{head},mode", *lines]) + "\n")
    text = path.read_text().replace("  asset: asset\n", "  asset: asset\n  mode: mode\n")
    kept = [line for line in text.splitlines()
            if not line.startswith(("window", "smoothing", "calibration", "model"))]  # fmt: skip
    path.write_text("\n".join(kept) + f"\nmodel: {{baseline: mahalanobis}}\n{calibration}\n")
    return path


@pytest.mark.slow
def test_a_plant_sets_a_threshold_a_mode_and_names_one_that_comes_later(tmp_path: Path) -> None:
    text = "calibration: {per: mode, false_alarm_rate: 0.05, bootstrap: 100}"
    plant = read_plant(plant_in_modes(tmp_path, text))
    ingest(plant)
    folder = train(plant).folder
    calibrate_plant(plant, folder)
    package = ModelPackage.read(folder / "package")
    levels = package.units["*"].levels
    assert levels is not None
    assert levels.names == ("idle", "run")
    value = package.thresholds["*"].value
    idle, run = levels.limits(value, np.array([0, 1]))
    assert idle > run
    found = evaluate(plant, read_trained(folder), package)
    assert found is not None
    assert found.model.operating_point.false_alarm_rate.low <= 0.05
    assert len(found.rows.score) == len(found.rows.excess)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("calibration: {per: mode}", "contract.mode"),
        ("calibration: {per: asset}\nmodel: {per: asset}", "already"),
        ("calibration: {per: asset, rule: fixed, value: 3}", "two answers"),
    ],
)
def test_thresholds_that_cannot_be_apart_are_refused(
    tmp_path: Path, settings: str, said: str
) -> None:
    path = write_plant(tmp_path)
    kept = [x for x in path.read_text().splitlines() if not x.startswith(("calibration", "model"))]
    path.write_text("\n".join([*kept, settings]) + "\n")
    with pytest.raises(ConfigError, match=said):
        read_plant(path)
