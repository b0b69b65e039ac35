"""Verdicts: one a row, with the sensors behind it, whatever the rows are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.testing import assert_allclose, assert_array_equal

from vae_anomaly.config import Contract, Training
from vae_anomaly.data.sensor_faults import SensorLimits
from vae_anomaly.data.windows import Matrix, matrix_of
from vae_anomaly.decisions.thresholds import Threshold
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import variant_of
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.streaming import EVERY_ASSET, VERDICT_SCHEMA, Judge, judge, score_rows

CONTRACT = Contract(time="time", asset="asset", sensors=("flow", "valve", "power", "spare"))
SECOND = 10**6


def readings(n: int, *, seed: int = 0, asset: str = "a") -> pa.Table:
    """Flow and power follow a load; the valve stands at 3 and the spare is never connected."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=n)
    return pa.table(
        {
            "asset": pa.array([asset] * n),
            "time": pa.array(np.arange(n) * SECOND, pa.timestamp("us", "UTC")),
            "flow": pa.array(load + 0.1 * rng.normal(size=n)),
            "valve": pa.array(np.full(n, 3.0)),
            "power": pa.array(-2 * load + 0.1 * rng.normal(size=n)),
            "spare": pa.nulls(n, pa.float64()),
        }
    )


def scorer(window: int = 1, smoothing: float | None = None) -> Scorer:
    matrix = matrix_of(readings(600), CONTRACT)
    series = Series(*(torch.from_numpy(a) for a in (matrix.values, matrix.run, matrix.label)))
    return fit_scorer(
        series,
        series,
        n_context=0,
        variant=variant_of("gaussian", {}),
        training=Training(epochs=2, min_steps=200, checks=4),
        window=window,
        smoothing=smoothing,
        seed=0,
    ).scorer


def judged_by(made: Scorer, limit: float = 20.0) -> dict[str, Judge]:
    reference = np.sort(score_rows(made, matrix_of(readings(300, seed=9), CONTRACT)).score)
    return {EVERY_ASSET: Judge(made, Threshold(limit, "fixed", 0.01, 300), reference)}


def with_cell(table: pa.Table, column: str, row: int, value: float | None) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(
        table.column_names.index(column), column, pa.array(values, pa.float64())
    )


def test_anomaly_names_its_sensor_direction_and_expected_value() -> None:
    made = scorer()
    table = with_cell(readings(50, seed=2), "power", 7, 9.0)
    verdicts = judge(table, judged_by(made), CONTRACT)
    assert verdicts.schema == VERDICT_SCHEMA
    row = verdicts.slice(7, 1).to_pylist()[0]
    assert row["status"] == "anomaly"
    assert set(row["top_sensors"][:2]) == {"power", "flow"}
    at = row["top_sensors"].index("power")
    assert row["top_directions"][at] == "high"
    assert row["top_expected"][at] < 9.0
    assert row["p_value"] == np.float32(1 / 301)
    contributions = score_rows(made, matrix_of(table, CONTRACT)).contributions[7]
    assert_allclose(sorted(contributions)[::-1][:3], row["top_contributions"], rtol=1e-6)
    assert_allclose(contributions.sum(), row["score"], rtol=1e-5)
    against = contributions.clip(min=0)
    assert_allclose(sorted(against / against.sum())[::-1][:3], row["top_shares"], rtol=1e-6)
    normal = verdicts.slice(8, 1).to_pylist()[0]
    assert (normal["status"], normal["top_sensors"]) == ("normal", None)


def test_row_without_values_is_not_scored_and_says_why() -> None:
    table = readings(5, seed=3)
    for name in ("flow", "power"):
        table = with_cell(table, name, 2, None)
    row = judge(table, judged_by(scorer()), CONTRACT).to_pylist()[2]
    assert (row["status"], row["score"], row["p_value"]) == ("not_scored", None, None)
    assert row["reason"] == "no sensor of the model has a value"


def test_asset_without_a_model_is_not_scored_and_says_why() -> None:
    by = {"a": judged_by(scorer())[EVERY_ASSET]}
    table = pa.concat_tables([readings(4), readings(4, asset="b")])
    statuses = judge(table, by, CONTRACT).to_pylist()
    assert [row["status"] for row in statuses][4:] == ["not_scored"] * 4
    assert statuses[5]["reason"] == "no model was trained for asset 'b'"
    assert [row["asset"] for row in statuses] == ["a"] * 4 + ["b"] * 4


def test_constant_sensor_that_changes_is_reported() -> None:
    table = with_cell(readings(10, seed=4), "valve", 6, 3.5)
    table = with_cell(table, "valve", 8, None)  # a missing value is no change
    changed = judge(table, judged_by(scorer()), CONTRACT)["constant_changed"].to_pylist()
    assert changed[6] == ["valve"]
    assert [c for i, c in enumerate(changed) if i != 6] == [None] * 9


def test_expected_values_of_a_window_are_the_row_s_own() -> None:
    """The rows that are looked back on are the same whether few or all rows are asked for."""
    made = scorer(window=4, smoothing=0.4)
    table = with_cell(readings(60, seed=5), "power", 30, 9.0)
    matrix = matrix_of(table, CONTRACT)
    expected = made.expected(torch.from_numpy(matrix.values), torch.from_numpy(matrix.run))
    limit = float(np.quantile(score_rows(made, matrix).score, 0.5))
    verdicts = judge(table, judged_by(made, limit), CONTRACT).to_pylist()
    flagged = [i for i, row in enumerate(verdicts) if row["status"] == "anomaly"]
    assert 30 in flagged
    assert len(flagged) == 30
    for i in flagged:
        for name, value in zip(
            verdicts[i]["top_sensors"], verdicts[i]["top_expected"], strict=True
        ):
            column = CONTRACT.sensor_names.index(name)
            assert_allclose(value, expected[i, column], rtol=1e-5)


def test_nothing_is_expected_that_no_normal_row_has_read() -> None:
    """Of a model that follows a fault, and beyond it, a reading never seen would be too low."""
    made = scorer(window=4, smoothing=0.4)
    table = with_cell(readings(60, seed=5), "power", 30, 9.0)
    matrix = matrix_of(table, CONTRACT)
    expected = made.expected(torch.from_numpy(matrix.values), torch.from_numpy(matrix.run)).numpy()
    column = CONTRACT.sensor_names.index("power")
    low, high = np.quantile(expected[:, column], [0.25, 0.75])
    limits = SensorLimits(seen={"power": (low, high)})
    by = {EVERY_ASSET: replace(judged_by(made, limit=-1.0)[EVERY_ASSET], limits=limits)}
    n_clipped = 0
    for value, row, verdict in zip(
        matrix.values[:, column], expected, judge(table, by, CONTRACT).to_pylist(), strict=True
    ):
        at = verdict["top_sensors"].index("power")
        likely = np.clip(row[column], low, high)
        n_clipped += likely != row[column]
        assert_allclose(verdict["top_expected"][at], likely, rtol=1e-6)
        assert verdict["top_directions"][at] == ("high" if value > likely else "low")
    assert n_clipped == 30


def test_verdicts_do_not_depend_on_the_split() -> None:
    made = scorer(window=3, smoothing=0.5)
    limits = SensorLimits(stuck={"flow": 25, "power": 3}, missing={"flow": 1})
    by = {EVERY_ASSET: replace(judged_by(made, limit=5.0)[EVERY_ASSET], limits=limits)}
    table = with_cell(readings(300, seed=6), "flow", 40, None)
    stuck = table["flow"].to_pylist()
    stuck[90:130] = [0.5] * 40
    table = table.set_column(2, "flow", pa.array(stuck, pa.float64()))
    left_context = max(made.left_context, limits.left_context)
    assert left_context == 24  # the limits look further back than the scorer
    whole = judge(table, by, CONTRACT)
    faults = whole["sensor_faults"].to_pylist()
    assert faults[113:131] == [None, *[["flow: stuck"]] * 16, None]
    assert "anomaly" in whole["status"].to_pylist()[114:130]
    for cut in (1, 41, 100, 115, 129, 299):
        back = max(0, cut - left_context)
        tail = judge(table.slice(back), by, CONTRACT).slice(cut - back)
        assert tail.equals(whole.slice(cut))


def test_empty_table_gives_no_verdicts() -> None:
    by = judged_by(scorer())
    assert judge(readings(0), by, CONTRACT).num_rows == 0
    assert judge(readings(0), {"a": by[EVERY_ASSET]}, CONTRACT).schema == VERDICT_SCHEMA


def test_score_rows_leaves_the_matrix_as_it_was(tmp_path: Path) -> None:
    matrix = matrix_of(readings(20), CONTRACT)
    before = Matrix(matrix.values.copy(), matrix.run.copy(), matrix.label.copy())
    score_rows(scorer(), matrix)
    assert_array_equal(matrix.values, before.values)
