"""Train, calibrate, register, score: each once, resumed when killed, equal when repeated."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pyarrow as pa
import pytest
from crash import (
    POINTS,
    Kill,
    Row,
    finish,
    kill_after,
    kill_at,
    lake_content,
    run_all,
    start,
    write_file,
    write_plant,
)
from deltalake import DeltaTable
from numpy.testing import assert_array_equal

from vae_anomaly import ModelPackage, VAEDetector
from vae_anomaly.config import Gate, PlantConfig, read_plant
from vae_anomaly.data.lake import READINGS, VERDICTS, Lake, rows
from vae_anomaly.data.windows import sorted_readings
from vae_anomaly.decisions.episodes import runs, timeline
from vae_anomaly.decisions.events import event_figures
from vae_anomaly.decisions.rates import Interval, OperatingPoint
from vae_anomaly.errors import InputError, PartsError, RegistryError
from vae_anomaly.steps.calibrate import calibrate
from vae_anomaly.steps.explain import explain_alarm, explain_table
from vae_anomaly.steps.figures import Areas, Figures
from vae_anomaly.steps.gate import PROMOTED, WAITING, on_test_part, ruling
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.register import register
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import latest_trained, train
from vae_anomaly.tracking import open_tracking

STEPS = ("ingest", "train", "calibrate", "register", "score")


def verdicts(plant: PlantConfig) -> list[Row]:
    table = Lake(plant.lake, plant.contract).open(VERDICTS)
    found = [row for batch in rows(table) for row in batch.to_pylist()]
    return sorted(found, key=lambda row: (row["asset"], row["time"]))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plant folder after the whole loop; copy it before changing it."""
    folder = tmp_path_factory.mktemp("done")
    run_all(read_plant(write_plant(folder)))
    return folder


@pytest.fixture
def plant(done: Path, tmp_path: Path) -> PlantConfig:
    """A copy of that folder; its MLflow database and artifacts know only absolute paths."""
    shutil.copytree(done, tmp_path / "p")
    for name in ("mlflow", "packages", "models", "verdicts", "alarms"):
        shutil.rmtree(tmp_path / "p/lake/crash" / name)
    return read_plant(tmp_path / "p/plant.yml")


@pytest.mark.slow
def test_page_of_a_version_shows_tables_and_leads_to_its_pictures(done: Path) -> None:
    tracking = open_tracking(read_plant(done / "plant.yml"))
    (version,) = tracking.versions()
    assert tuple(version.tags)[:1] == ("threshold",), "a list of versions shows the first tags"
    page = tracking.client.get_model_version("crash", version.version).description.split("\n")
    for title, header in (("Calibration", "| scorer |"), ("Test part", "| method |")):
        rest = [*page[page.index(f"**{title}**") :], ""]
        head = next(i for i, line in enumerate(rest) if line.startswith("|"))
        assert rest[head].startswith(header)
        assert rest[head - 1] == "", "else Markdown takes the table for text"
        assert {line.count("|") for line in rest[head : rest.index("", head)]} == {
            rest[head].count("|")
        }
    described = tracking.client.get_run(version.run_id)
    assert described.data.tags["mlflow.note.content"].split("\n") == page
    run = described.info
    place = f"(#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/pictures)"
    assert any(place in line for line in page)
    assert tracking.client.list_artifacts(version.run_id, "pictures")


@pytest.mark.slow
def test_every_accepted_row_has_one_verdict(done: Path) -> None:
    config = read_plant(done / "plant.yml")
    lake = Lake(config.lake, config.contract)
    read = [r for b in rows(lake.open(READINGS)) for r in b.to_pylist()]
    found = verdicts(config)
    assert [(r["asset"], r["time"]) for r in found] == sorted((r["asset"], r["time"]) for r in read)
    assert {r["status"] for r in found} <= {"normal", "anomaly"}
    assert {(r["line"], r["model_version"]) for r in found} == {("champion", "1")}


@pytest.mark.slow
def test_second_run_adds_no_row_and_trains_nothing(done: Path) -> None:
    config = read_plant(done / "plant.yml")
    before = lake_content(config.lake)
    run_all(config)
    assert train(config).registered == "1"
    assert score(config).n_rows == 0
    assert lake_content(config.lake) == before


@pytest.mark.slow
def test_scores_are_those_of_the_package_alone(done: Path) -> None:
    config = read_plant(done / "plant.yml")
    package = ModelPackage.read(latest_trained(config) / "package")
    lake = Lake(config.lake, config.contract)
    table = pa.Table.from_batches(list(rows(lake.open(READINGS)))).sort_by("time")
    alone = package.score(table.select(["asset", "time", "flow", "pressure", "power"]))
    got = sorted(
        zip(
            alone["asset"].to_pylist(),
            alone["time"].to_pylist(),
            alone["score"].to_pylist(),
            strict=True,
        )
    )
    assert got == [(r["asset"], r["time"], r["score"]) for r in verdicts(config)]


@pytest.mark.slow
def test_flow_pyfunc_estimator_and_package_give_the_same_bits(done: Path) -> None:
    config = read_plant(done / "plant.yml")
    lake = Lake(config.lake, config.contract)
    table = sorted_readings(pa.Table.from_batches(list(rows(lake.open(READINGS)))))
    frame = table.select(["asset", "time", "flow", "pressure", "power"]).to_pandas()
    frame["time"] = frame["time"].dt.tz_localize(None).astype("datetime64[ns]")
    flow = np.array([row["score"] for row in verdicts(config)], np.float32)

    tracking = open_tracking(config)
    champion = tracking.champion()
    assert champion is not None
    source = tracking.client.get_model_version_download_uri(champion.name, champion.version)
    served = mlflow.pyfunc.load_model(source)
    half = int((frame["asset"] == "a").sum())  # one asset, then the other
    pieces = [served.predict(frame[:half]), served.predict(frame[half:])]
    assert_array_equal(np.concatenate([p["score"] for p in pieces]).astype(np.float32), flow)

    package = ModelPackage.read(latest_trained(config) / "package")
    detector = VAEDetector(window=3, smoothing=0.5, training=config.training, random_state=0)
    values = frame[["flow", "pressure", "power"]].to_numpy()
    with pytest.warns(UserWarning, match="calibration rows support"):
        detector.fit(values[:300])
    detector.scorer_ = package.units["*"].scorer
    estimator = -detector.score_samples(values, groups=frame["asset"])
    assert_array_equal(estimator.astype(np.float32), flow)


@pytest.mark.slow
def test_scored_file_by_file_the_verdicts_are_the_same(done: Path, tmp_path: Path) -> None:
    """One go, or an hour at a time: windows and smoothing look back over the border."""
    whole = read_plant(done / "plant.yml")
    champion = ModelPackage.read(latest_trained(whole) / "package")
    pieces = read_plant(write_plant(tmp_path, n_files=0))
    lake = Lake(pieces.lake, pieces.contract)
    from vae_anomaly.steps.lines import line_verdicts

    found: list[Row] = []
    through = -1
    for number in range(4):
        write_file(tmp_path / f"incoming/{number}.csv", number, n_rows=400, seed=0)
        ingest(pieces)
        last = lake.open(READINGS).version()
        found += line_verdicts(lake, champion, through + 1, last).to_pylist()
        through = last
    found.sort(key=lambda row: (row["asset"], row["time"]))
    for one, other in zip(found, verdicts(whole), strict=True):
        for name in ("asset", "time", "score", "status", "p_value", "top_sensors", "late"):
            assert one[name] == other[name], name


@pytest.mark.slow
def test_late_rows_are_judged_marked_and_change_nothing(tmp_path: Path) -> None:
    config = read_plant(write_plant(tmp_path, n_files=3))
    late = tmp_path / "incoming/1.csv"
    shutil.move(late, tmp_path / "later.csv")
    run_all(config)
    before, alarms = verdicts(config), lake_content(config.lake)["alarms"]
    shutil.move(tmp_path / "later.csv", late)
    ingest(config)
    report = score(config)
    assert report.n_late == report.n_rows > 0
    after = verdicts(config)
    assert [row for row in after if not row["late"]] == before
    assert lake_content(config.lake)["alarms"] == alarms
    assert report.alarms.n_late_over > 0


@pytest.mark.slow
def test_the_peak_of_an_alarm_is_explained_by_the_version_that_raised_it(done: Path) -> None:
    config = read_plant(done / "plant.yml")
    alarm = max(lake_content(config.lake)["alarms"], key=lambda row: row["peak_score"])
    found = explain_alarm(config, str(alarm["alarm_id"])[:8])
    assert (found.alarm_id, found.asset) == (alarm["alarm_id"], alarm["asset"])
    assert found.change.before == pytest.approx(alarm["peak_score"], rel=1e-5)
    (verdict,) = (
        row for row in verdicts(config)
        if (row["asset"], row["time"]) == (alarm["asset"], alarm["peak_time"])
    )  # fmt: skip
    assert found.change.reached
    assert found.change.after <= verdict["threshold"]
    assert 0 < len(found.sensors) <= 3
    own = dict(zip(found.sensors, map(float, found.read), strict=True))
    table = Lake(config.lake, config.contract).open(READINGS)
    (reading,) = (
        row for batch in rows(table) for row in batch.to_pylist()
        if (row["asset"], row["time"]) == (alarm["asset"], alarm["peak_time"])
    )  # fmt: skip
    assert own == pytest.approx({sensor: reading[sensor] for sensor in own}, rel=1e-3)
    assert "normal would be" in explain_table(found).columns
    with pytest.raises(InputError, match="no alarm has the id 'zz'"):
        explain_alarm(config, "zz")


@pytest.mark.slow
def test_two_scores_at_once_add_no_row_twice(done: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    config = read_plant(write_plant(folder))
    for step in STEPS[:-1]:
        assert finish(start(folder / "plant.yml", step))
    for process in [start(folder / "plant.yml", "score") for _ in range(2)]:
        assert finish(process)
    found = verdicts(config)
    assert len(found) == len({(row["asset"], row["time"]) for row in found})
    assert lake_content(config.lake) == lake_content(done / "lake/crash")


@pytest.mark.slow
def test_every_step_killed_leaves_the_lake_of_an_undisturbed_run(
    done: Path, tmp_path: Path
) -> None:
    plant = write_plant(tmp_path)
    assert finish(start(plant, "ingest"))
    n_kills = 0
    for step in STEPS[1:]:
        for point in POINTS[step]:
            n_kills += kill_at(plant, step, Kill(point, after=False, count=1))
    n_kills += kill_after(plant, "score", 2.0)
    assert n_kills >= 5
    assert lake_content(tmp_path / "lake/crash") == lake_content(done / "lake/crash")


@pytest.mark.slow
def test_training_killed_and_resumed_gives_the_same_package(done: Path, tmp_path: Path) -> None:
    plant = write_plant(tmp_path)
    assert finish(start(plant, "ingest"))
    for count in (1, 2, 3):
        assert not finish(start(plant, "train", Kill(POINTS["train"][1], True, count)))
    config = read_plant(plant)
    report = train(config)
    assert report.resumed
    calm = latest_trained(read_plant(done / "plant.yml"))
    ours, theirs = (ModelPackage.read(f / "draft") for f in (report.folder, calm))
    assert ours.digest == theirs.digest
    assert not list(report.folder.glob("checkpoint*"))
    assert json.loads((report.folder / "history.json").read_text()).keys() == {"*"}


@pytest.mark.slow
def test_new_data_make_a_challenger_that_the_gate_judges(done: Path, tmp_path: Path) -> None:
    config = read_plant(write_plant(tmp_path))
    run_all(config)
    first = verdicts(config)
    write_file(tmp_path / "incoming/4.csv", 4, n_rows=400, seed=0)
    ingest(config)
    trained = train(config)
    assert trained.registered is None
    calibrate(config, trained.folder)
    report = register(config, trained.folder)
    assert report.version.version == "2"
    assert report.alias == ("challenger" if report.reasons else "champion")
    scored = score(config)
    assert scored.n_rows > 0
    assert scored.model_version == ("1" if report.reasons else "2")
    after = verdicts(config)
    assert [row for row in after if row in first] == first, "history is not scored again"


@pytest.mark.slow
def test_one_model_an_asset(tmp_path: Path) -> None:
    path = write_plant(tmp_path)
    path.write_text(path.read_text() + "model: {per: asset}\n")
    config = read_plant(path)
    run_all(config)
    package = ModelPackage.read(latest_trained(config) / "package")
    assert set(package.units) == {"a", "b"}
    thresholds = {row["asset"]: row["threshold"] for row in verdicts(config)}
    assert thresholds == {
        name: np.float32(limit.value) for name, limit in package.thresholds.items()
    }
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    lines = [f"{(begin + timedelta(seconds=i)).isoformat()},c,0,0,0" for i in range(3)]
    new = tmp_path / "incoming/new.csv"
    new.write_text("\n".join(["time,asset,flow,pressure,power", *lines]) + "\n")
    ingest(config)
    assert score(config).statuses == {"not_scored": 3}


@pytest.mark.slow
def test_steps_out_of_order_say_what_to_run(tmp_path: Path) -> None:
    config = read_plant(write_plant(tmp_path, n_files=1, n_rows=60))
    with pytest.raises(RegistryError, match="vae-anomaly train"):
        latest_trained(config)
    ingest(config)
    with pytest.raises(RegistryError, match="vae-anomaly run"):
        score(config)
    assert not DeltaTable.is_deltatable(f"{config.lake}/verdicts")


def test_too_few_rows_to_train_are_refused(tmp_path: Path) -> None:
    config = read_plant(write_plant(tmp_path, n_files=1, n_rows=48))
    ingest(config)
    with pytest.raises(PartsError, match="part 'stop' holds no rows"):
        train(config)
    config = config.model_copy(update={"window": 1})
    with pytest.raises(PartsError, match=r"part 'stop' has \d normal rows and needs 5"):
        train(config)


# --------------------------------------------------------------------------------------- the gate


def figures(far: float, detected: float, area: float, *, n_anomalous: int = 100) -> Figures:
    def exactly(value: float) -> Interval:
        return Interval(value, value, value)

    point = OperatingPoint(
        exactly(1.0), exactly(far), exactly(detected), exactly(1.0), 1000, n_anomalous
    )
    rows = timeline(["a"], [0.0])
    events = event_figures(runs([False], rows), rows, label=[0])
    areas = Areas(*[exactly(area)] * 3) if n_anomalous else None
    return Figures("x", areas, point, events)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (figures(0.01, 0.90, 0.95), ()),
        (figures(0.012, 0.89, 0.945), ()),
        (figures(0.016, 0.90, 0.95), ("1.5 times the champion's",)),
        (
            figures(0.01, 0.87, 0.95),
            ("87.0% is 3.0 percentage points below the champion's 90.0%; at most 2.0 may",),
        ),
        (
            figures(0.01, 0.90, 0.93),
            ("AUROC: 0.930 is 0.020 below the champion's 0.950; at most 0.010 may",),
        ),
        (
            figures(0.07, 0.80, 0.90),
            ("above max_false_alarm_rate 5.00% and", "detection", "AUROC"),
        ),
        (figures(0.01, float("nan"), 0.0, n_anomalous=0), ()),
    ],
)
def test_gate_holds_or_says_what_is_worse(ours: Figures, expected: tuple[str, ...]) -> None:
    said = ruling(Gate(), on_test_part(Gate(), ours, figures(0.01, 0.90, 0.95)))
    assert (said.decision == PROMOTED) == (not expected)
    reasons = said.reasons
    assert len(reasons) == len(expected)
    for reason, part in zip(reasons, expected, strict=True):
        assert part in reason


def test_gate_without_evidence_promotes_nobody() -> None:
    better = on_test_part(Gate(), figures(0, 1, 1), figures(1, 0, 0))
    assert ruling(Gate(), better).decision == PROMOTED
    assert ruling(Gate(promote="manual"), better).decision == WAITING
    assert ruling(Gate(), better, missing=["a week beside the champion"]).decision == WAITING
