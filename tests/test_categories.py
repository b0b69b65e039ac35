"""Categorical columns: of context, a column a level; of a sensor, one of codes.

There is no score where the model knows no such level.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from crash import run_all
from mlflow.pyfunc.model import PythonModelContext
from mlflow.types import DataType
from numpy.testing import assert_array_equal

from vae_anomaly import ModelPackage
from vae_anomaly.config import (
    Contract,
    ModelConfig,
    PlantConfig,
    Quality,
    Sensor,
    Source,
    read_plant,
)
from vae_anomaly.data.aside import set_aside
from vae_anomaly.data.contract import check_batch
from vae_anomaly.data.lake import READINGS, VERDICTS, Lake, rows
from vae_anomaly.data.windows import matrix_of
from vae_anomaly.mlflow_model import PackageModel
from vae_anomaly.steps.train import latest_trained
from vae_anomaly.tracking.model import signature

TYPE = Sensor(name="Type", kind="categorical", levels=("L", "M", "H"))
CONTRACT = Contract(time="time", sensors=("flow",), context=("speed", TYPE, "load"))
SECOND = 10**6


def test_a_level_is_a_column_and_a_missing_one_is_nan_in_all() -> None:
    table = pa.table(
        {
            "asset": ["a"] * 4,
            "time": pa.array(np.arange(4) * SECOND, pa.timestamp("us", "UTC")),
            "flow": [1.0, 2.0, 3.0, 4.0],
            "speed": [5.0] * 4,
            "Type": ["H", None, "L", "X"],
            "load": [6.0] * 4,
        }
    )
    n = np.nan
    one_hot = [[0, 0, 1], [n, n, n], [1, 0, 0], [0, 0, 0]]
    values = matrix_of(table, CONTRACT).values
    assert values.shape[1] == len(CONTRACT.sensors) + CONTRACT.context_width
    assert_array_equal(values[:, 2:5], one_hot)
    assert_array_equal(values[:, [0, 1, 5]], [[v, 5, 6] for v in (1, 2, 3, 4)])


def test_texts_are_accepted_as_they_are_and_historians_words_are_missing() -> None:
    levels = Sensor(name="Type", kind="categorical", levels=("L", "Shutdown"))
    contract = Contract(time="time", sensors=("flow",), context=(levels,))
    texts = [b" L ", b"Shutdown", b"Bad", b"", b"strange", b"\xff"]
    n = len(texts)
    cells = {"time": [b"2026-01-01T00:00:00Z"] * n, "flow": [b"1"] * n, "Type": texts}
    batch = pa.record_batch(cells | {"_row": list(range(n)), "_broken": pa.nulls(n, pa.string())})
    checked = check_batch(batch, contract, asset="a")
    assert checked.accepted["Type"].to_pylist() == ["L", "Shutdown", None, None, "strange"]
    assert checked.rejected["reason"].to_pylist() == ["bad_text"]
    assert sum(checked.cells.values()) == 2 * n


# ---------------------------------------------------------------------------------------- sensors

SENSED = Contract(time="time", sensors=("flow", TYPE, Sensor(name="open", kind="binary")))


def sensed(levels: list[str | None]) -> pa.Table:
    n = len(levels)
    return pa.table(
        {
            "asset": ["a"] * n,
            "time": pa.array(np.arange(n) * SECOND, pa.timestamp("us", "UTC")),
            "flow": np.arange(float(n)),
            "Type": pa.array(levels, pa.string()),
            "open": [1.0] * n,
        }
    )


def test_a_level_of_a_sensor_is_its_place_in_the_contract() -> None:
    values = matrix_of(sensed(["H", None, "L", "M"]), SENSED).values
    assert_array_equal(values, [[0, 2, 1], [1, np.nan, 1], [2, 0, 1], [3, 1, 1]])
    assert SENSED.levels == (0, 3, 2)
    assert SENSED.context_width == 0


def test_a_text_that_is_no_level_of_a_sensor_is_refused_with_its_reason() -> None:
    texts = [b"L", b" H ", b"", b"Bad", b"h", b"\xff"]
    n = len(texts)
    cells = {"time": [b"2026-01-01T00:00:00Z"] * n, "flow": [b"1"] * n, "open": [b"1"] * n}
    batch = pa.record_batch(
        cells | {"Type": texts, "_row": list(range(n)), "_broken": pa.nulls(n, pa.string())}
    )
    checked = check_batch(batch, SENSED, asset="a")
    assert checked.accepted["Type"].to_pylist() == ["L", "H", None, None]
    assert checked.rejected["reason"].to_pylist() == ["not_a_level", "bad_text"]
    assert checked.rejected["detail"][0].as_py() == (
        "column 'Type': 'h' is none of the contract's levels L, M, H"
    )


def test_a_cell_of_bad_quality_is_missing_whatever_text_it_has() -> None:
    contract = Contract(time="time", sensors=(TYPE,), quality=Quality(column="code"))
    cells = {"time": [b"2026-01-01T00:00:00Z"] * 2, "Type": [b"X"] * 2, "code": [b"0", b"192"]}
    batch = pa.record_batch(cells | {"_row": [0, 1], "_broken": pa.nulls(2, pa.string())})
    checked = check_batch(batch, contract, asset="a")
    assert checked.accepted["Type"].to_pylist() == [None]
    assert checked.rejected["reason"].to_pylist() == ["not_a_level"]


def test_a_row_with_a_level_of_another_contract_is_set_aside() -> None:
    (entry,) = set_aside(sensed(["L", "X", None]), SENSED)
    assert entry.mask.tolist() == [False, True, False]
    assert entry.reason == "sensor 'Type' has level 'X'; the model knows L, M, H"


def test_a_row_whose_flag_is_neither_0_nor_1_is_set_aside() -> None:
    table = sensed(["L", "L", "L", "L"])
    table = table.set_column(4, "open", pa.array([0.0, 0.5, None, 7.0]))
    (entry,) = set_aside(table, SENSED)
    assert entry.mask.tolist() == [False, True, False, True]
    assert entry.reason == "sensor 'open' is binary and neither 0 nor 1"


def test_other_members_of_the_family_refuse_texts_and_name_the_one_that_takes_them() -> None:
    source = Source(path="x")
    with pytest.raises(ValueError, match=r"no likelihood in the gaussian .* model: {variant: mix"):
        PlantConfig(name="p", source=source, contract=SENSED, model=ModelConfig(variant="gaussian"))
    for model in (ModelConfig(variant="mixed"), ModelConfig()):
        assert PlantConfig(name="p", source=source, contract=SENSED, model=model).method == "mixed"


# ---------------------------------------------------------------------------------- a whole plant


def write_plant(folder: Path) -> Path:
    """Flow goes by type; H is named and never trained on, X is not named at all."""
    rng = np.random.default_rng(0)
    n = 600
    time = pd.date_range("2026-01-01", periods=n, freq="s", tz="UTC")
    kind = np.array(["L", "M"])[rng.integers(0, 2, n)].astype(object)
    load = rng.normal(size=n)
    flow = np.where(kind == "M", 50.0, 0.0) + load + 0.1 * rng.normal(size=n)
    frame = pd.DataFrame(
        {"time": time.astype(str), "flow": flow, "power": load + 0.1 * rng.normal(size=n)}
    )
    kind[100], kind[390], kind[450], kind[550] = "X", "X", "X", "X"
    kind[330], kind[460], kind[560] = "H", "H", "H"
    kind[570] = ""
    frame["Type"] = kind
    frame.loc[100, "flow"] = 1e6  # would blow the scale up, were it learnt
    (folder / "incoming").mkdir()
    frame.to_csv(folder / "incoming" / "a.csv", index=False)
    plant = folder / "plant.yml"
    plant.write_text(
        "name: types\nsource: {path: incoming}\ncontract:\n  time: time\n"
        "  sensors: [flow, power]\n"
        "  context: [{name: Type, kind: categorical, levels: [L, M, H]}]\n"
        "window: 2\nsmoothing: 0.5\ncalibration: {false_alarm_rate: 0.05}\n"
        "training: {epochs: 2, min_steps: 60, batch_size: 64, checks: 6}\n"
    )
    return plant


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> PlantConfig:
    plant = read_plant(write_plant(tmp_path_factory.mktemp("types")))
    run_all(plant)
    return plant


def by_row(plant: PlantConfig, name: str) -> list[dict[str, object]]:
    table = Lake(plant.lake, plant.contract).open(name)
    found = [row for batch in rows(table) for row in batch.to_pylist()]
    return sorted(found, key=lambda row: row["time"])


def test_rows_of_a_level_that_was_not_learnt_get_no_score_and_say_so(plant: PlantConfig) -> None:
    verdicts = by_row(plant, VERDICTS)
    unseen = {i: row for i, row in enumerate(verdicts) if row["status"] == "unseen_mode"}
    assert sorted(unseen) == [100, 330, 390, 450, 460, 550, 560]
    assert {row["score"] for row in unseen.values()} == {None}
    assert unseen[100]["reason"] == "context 'Type' has level 'X'; the model knows L, M"
    assert unseen[560]["reason"] == "context 'Type' has level 'H', which had no rows in training"
    assert verdicts[570]["status"] in ("normal", "anomaly")


def test_such_rows_neither_train_nor_calibrate(plant: PlantConfig) -> None:
    folder = latest_trained(plant)
    package = ModelPackage.read(folder / "package")
    readings = by_row(plant, READINGS)
    flow = np.array([row["flow"] for row in readings[:300]])
    center = package.units["*"].scorer.standardizer.center[0].item()
    assert center == pytest.approx(np.delete(flow, 100).mean())
    calibration = package.units["*"].calibration
    assert calibration is not None
    # shares 0.2 of 600, less the gap of one window, less X and H
    assert len(calibration.reference) == 120 - 2 - 3


def test_the_score_after_such_a_row_owes_nothing_to_it(plant: PlantConfig) -> None:
    package = ModelPackage.read(latest_trained(plant) / "package")
    table = pa.Table.from_pylist(by_row(plant, READINGS)).select(
        ["asset", "time", "flow", "power", "Type"]
    )
    whole = package.score(table)
    behind = package.score(table.slice(551))
    assert behind["score"].slice(0, 8).to_pylist() == whole["score"].slice(551, 8).to_pylist()


def test_package_and_mlflow_take_texts_and_say_the_same(plant: PlantConfig) -> None:
    folder = latest_trained(plant) / "package"
    model = PackageModel()
    model.load_context(PythonModelContext({"package": str(folder)}, {}))
    frame = pd.DataFrame(by_row(plant, READINGS))[["asset", "time", "flow", "power", "Type"]]
    told = model.predict(None, frame)
    verdicts = by_row(plant, VERDICTS)
    assert told["status"].tolist() == [row["status"] for row in verdicts]
    reasons = [reason if isinstance(reason, str) else None for reason in told["reason"]]
    assert reasons == [row["reason"] for row in verdicts]
    kinds = {c.name: c.type for c in signature(plant.contract).inputs}
    assert (kinds["Type"], kinds["flow"]) == (DataType.string, DataType.double)
