"""Rows under alarms are learnt as people say, and not at all while nobody has said anything."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from test_alarm_steps import BEGIN, MINUTE, write

from vae_anomaly.config import AlarmRule, Contract, PlantConfig, read_plant
from vae_anomaly.data.lake import ALARMS, READINGS, VERDICTS, Lake, rows
from vae_anomaly.data.parts import Interval, read_part
from vae_anomaly.data.schemas import TABLES
from vae_anomaly.data.told import FOREVER, Told, confirmed, disjoint
from vae_anomaly.data.windows import sorted_readings
from vae_anomaly.package import ModelPackage
from vae_anomaly.report import evaluation_table
from vae_anomaly.steps.alarms import raise_alarms
from vae_anomaly.steps.calibrate import calibrate
from vae_anomaly.steps.evaluate import evaluate
from vae_anomaly.steps.feedback import Feedback, read_feedback, with_feedback
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.label import label_alarms
from vae_anomaly.steps.said import Said, append, raised_alarms
from vae_anomaly.steps.train import Trained, train

LATCHED = AlarmRule(clear_after=3, latched=True)

#: Rows of each asset, and those in which asset a has a lasting fault; all of them in part `train`.
N_ROWS, FAULT = 400, slice(100, 160)

told_spans = st.lists(
    st.builds(
        lambda start, length, label: Told(start, start + length, label),
        st.integers(0, 30), st.integers(1, 12), st.integers(0, 3),
    ),
    max_size=8,
)  # fmt: skip


@given(told=told_spans)
def test_disjoint_spans_say_of_each_moment_what_was_said_last(told: list[Told]) -> None:
    found = disjoint(told)
    assert all(a.end <= b.start for a, b in pairwise(found))
    for moment in range(45):
        last = [t.label for t in told if t.start <= moment < t.end][-1:]
        assert [t.label for t in found if t.start <= moment < t.end] == last


def test_what_reaches_on_is_not_over() -> None:
    assert disjoint([Told(5, FOREVER, 1), Told(7, 9, 0)])[-1] == Told(9, FOREVER, 1)


def test_open_alarms_are_cut_from_what_is_learnt_and_stay_in_the_test_part() -> None:
    times = {"a": np.arange(20)}
    intervals = [Interval("train", "a", 0, 0, 9, 10), Interval("test", "a", 10, 12, 19, 8)]
    open_alarm = Told(5, FOREVER, 1, counts=False)
    said = Told(2, 3, 2)
    feedback = Feedback({"a": (said,)}, {"a": (said, open_alarm)})
    cut = with_feedback(intervals, feedback, times)
    assert [(i.part, i.start, i.end) for i in cut.intervals] == [("train", 0, 4), ("test", 12, 19)]
    assert cut.lost == {"train": 5}
    assert cut.intervals[0].told == (said, open_alarm)
    assert cut.intervals[1].told == ()
    assert cut.content == (["train", "a", 2, 3, 2, True], ["train", "a", 5, FOREVER, 1, False])
    assert with_feedback(intervals, Feedback(), times).content == ()


# ----------------------------------------------------------------------------------- a real plant


def plant_at(folder: Path, *, more: str = "", model: str = "baseline: mahalanobis") -> PlantConfig:
    """A plant of two assets with readings; asset a has a fault that lasts for an hour."""
    generator = np.random.default_rng(4)
    (folder / "incoming").mkdir(parents=True)
    for asset in "ab":
        cause = generator.normal(size=N_ROWS)
        noise = 0.3 * generator.normal(size=(3, N_ROWS))
        flow, pressure, power = (w * cause + e for w, e in zip((1, 2, -1), noise, strict=True))
        if asset == "a":
            flow[FAULT] += 6
        lines = ["time,asset,flow,pressure,power"]
        for i in range(N_ROWS):
            stamp = (BEGIN + i * MINUTE).isoformat()
            lines.append(f"{stamp},{asset},{flow[i]:.4f},{pressure[i]:.4f},{power[i]:.4f}")
        (folder / "incoming" / f"{asset}.csv").write_text("\n".join(lines) + "\n")
    (folder / "plant.yml").write_text(
        "name: told\nsource: {path: incoming, settle_s: 0}\n"
        "contract: {time: time, asset: asset, sensors: [flow, pressure, power]}\n"
        f"model: {{{model}}}\ncalibration: {{false_alarm_rate: 0.05}}\nwindow: 3\n"
        f"training: {{epochs: 2, min_steps: 60, batch_size: 64, checks: 6}}\n{more}"
    )
    plant = read_plant(folder / "plant.yml")
    ingest(plant)
    return plant


def raise_in(plant: PlantConfig, span: slice, *, ends: bool = True) -> str:
    """An alarm on rows of asset a, as scoring raises it; its id."""
    over = np.zeros(N_ROWS, bool)
    over[span] = True
    entries = [
        {
            "line": "champion", "asset": "a", "time": BEGIN + i * MINUTE, "score": 9.0 * over[i],
            "threshold": 5.0, "p_value": 0.001 if over[i] else 0.5,
            "status": "anomaly" if over[i] else "normal", "late": False, "model_version": "1",
        }
        for i in range(N_ROWS if ends else span.stop)
    ]  # fmt: skip
    write(plant, pa.Table.from_pylist(entries, schema=TABLES[VERDICTS]), LATCHED)
    (alarm,) = raise_alarms(plant).raised
    return next(
        a.alarm_id for a in raised_alarms(lake_of(plant)).values() if a.asset == alarm.asset
    )


def lake_of(plant: PlantConfig) -> Lake:
    return Lake(plant.lake, plant.contract)


def scores(plant: PlantConfig, folder: Path) -> np.ndarray:
    """Scores of asset a by the model that a training left."""
    package = ModelPackage.read(calibrate(plant, folder).package)
    table = pa.Table.from_batches(list(rows(lake_of(plant).open(READINGS))))
    table = sorted_readings(table).select(["asset", "time", "flow", "pressure", "power"])
    return package.score(table)["score"].to_numpy()[:N_ROWS]


def label_counts(plant: PlantConfig, trained: Trained) -> dict[int, int]:
    """Rows of each label in the part `train`, of asset a, as training reads them."""
    own = [i for i in trained.intervals if i.part == "train" and i.asset == "a"]
    part = read_part(lake_of(plant).open(READINGS), own)
    label = part.table["label"].fill_null(-1).to_numpy()[part.judged]
    values, counts = np.unique(label, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


@pytest.mark.slow
def test_a_lasting_fault_under_an_open_alarm_is_not_learnt(tmp_path: Path) -> None:
    """The model is that of a plant that excludes these rows, to the bit."""
    begin, end = (f"{BEGIN + t:%FT%TZ}" for t in (FAULT.start * MINUTE, timedelta(days=1)))
    without = f"exclusions: [{{start: {begin}, end: {end}, assets: [a]}}]\n"
    never, plant = plant_at(tmp_path / "never", more=without), plant_at(tmp_path / "plant")
    unlearnt = scores(never, train(never).folder)
    learnt = scores(plant, train(plant).folder)
    # scored half way through the fault: the rows behind are of the alarm as well
    raise_in(plant, slice(FAULT.start, FAULT.start + 30), ends=False)
    done = train(plant)
    found = scores(plant, done.folder)
    assert_array_equal(found, unlearnt)
    assert done.trained.told["train"] == 100
    assert any("alarms and what was said" in note for note in done.notes)
    ratio = np.median(found[FAULT]) / np.median(learnt[FAULT])
    print(f"\nscore of the fault: {ratio:.1f} times that of the model that learnt it")
    assert ratio > 2


@pytest.mark.slow
def test_what_people_say_decides_what_rows_are_learnt_as(tmp_path: Path) -> None:
    plant = plant_at(tmp_path)
    first = train(plant)
    name = raise_in(plant, FAULT)
    waiting = train(plant)
    assert waiting.trained.fingerprint != first.trained.fingerprint
    label_alarms(plant, [name], "fault", fault="stuck valve", who="ada")
    fault = train(plant)
    assert label_counts(plant, fault.trained) == {-1: 140, 2: 60}
    assert fault.trained.told == {}
    label_alarms(plant, [name], "maintenance", who="ada")
    away = train(plant)
    assert label_counts(plant, away.trained) == {-1: 140}
    assert away.trained.fingerprint == waiting.trained.fingerprint, "the same rows are left out"
    label_alarms(plant, [name], "false-alarm", who="ada")
    normal = train(plant)
    # of a plant without labels: as unlabelled as its other normal rows
    assert label_counts(plant, normal.trained) == {-1: 200}
    label_alarms(plant, [name], "false-alarm", who="ben", comment="again")
    assert train(plant).trained == normal.trained, "who said it, and when, trains nothing anew"


@pytest.mark.slow
def test_rows_that_look_back_on_an_open_alarm_set_no_threshold(tmp_path: Path) -> None:
    plant = plant_at(tmp_path)
    n_before = len(_reference(plant))
    raise_in(plant, slice(300, 304))
    # four rows of the alarm, and two whose windows of three rows reach back to it
    assert len(_reference(plant)) == n_before - 6


def _reference(plant: PlantConfig) -> np.ndarray:
    package = ModelPackage.read(calibrate(plant, train(plant).folder).package)
    calibration = package.units["*"].calibration
    assert calibration is not None
    return calibration.reference


@pytest.mark.slow
def test_confirmed_faults_reach_the_label_head(tmp_path: Path) -> None:
    plant = plant_at(tmp_path, model="variant: gaussian")
    name = raise_in(plant, FAULT)
    plain = ModelPackage.read(train(plant).folder / "draft")
    assert plain.units["*"].scorer.head is None
    label_alarms(plant, [name], "fault", who="ada")
    told = ModelPackage.read(train(plant).folder / "draft")
    assert told.units["*"].scorer.head is not None


@pytest.mark.slow
def test_one_named_fault_leaves_normal_rows_to_judge_false_alarms_by(tmp_path: Path) -> None:
    plant = plant_at(tmp_path)
    done = train(plant)
    package = ModelPackage.read(calibrate(plant, done.folder).package)
    before = evaluate(plant, done.trained, package)
    assert before is not None
    name = raise_in(plant, slice(N_ROWS - 30, N_ROWS - 10))  # in the part `test`
    label_alarms(plant, [name], "fault", who="ada")
    told = train(plant)
    after = evaluate(plant, told.trained, package)
    assert after is not None
    n_rows = before.model.operating_point.n_normal
    point = after.model.operating_point
    assert (point.n_anomalous, point.n_normal) == (20, n_rows - 20)
    assert after.rows.n_assumed == n_rows - 20
    assert "nobody said anything of count as normal" in evaluation_table(after).markdown()
    assert before.rows.n_assumed == 0


def test_spans_of_files_are_laid_over_what_was_said_before(tmp_path: Path) -> None:
    lake = Lake(tmp_path, Contract(time="time", sensors=("flow",)))
    append(lake, lambda _: [Said("a", 0, 99, "unknown"), Said("a", 10, 19, "fault", fault="7")])
    append(lake, lambda _: [Said("a", 15, 15, "false_alarm")])
    found = read_feedback(lake, numbered=True).said["a"]
    assert [(t.start, t.end, t.label, t.counts) for t in found] == [
        (0, 10, 1, False), (10, 15, 7, True), (15, 16, 0, True), (16, 20, 7, True),
        (20, 100, 1, False),
    ]  # fmt: skip
    assert lake.found(ALARMS) is None


def test_a_failure_within_a_fault_is_of_that_fault(tmp_path: Path) -> None:
    lake = Lake(tmp_path, Contract(time="time", sensors=("flow",)))
    append(lake, lambda _: [Said("a", 10, 19, "fault"), Said("a", 30, 39, "false_alarm")])
    append(lake, lambda _: [Said("a", at, at, "failure") for at in (15, 35, 50)])
    found = read_feedback(lake, numbered=True)
    assert [(t.start, t.end, t.label, t.counts) for t in found.said["a"]] == [
        (10, 20, 1, True), (30, 35, 0, True), (35, 36, 1, False), (36, 40, 0, True),
        (50, 51, 1, False),
    ]  # fmt: skip
    assert found.with_open == found.said
    assert [(t.start, t.end) for t in confirmed(found.said["a"])] == [(10, 20)]


def test_entries_about_one_event_are_one_fault(tmp_path: Path) -> None:
    lake = Lake(tmp_path, Contract(time="time", sensors=("flow",)))
    append(lake, lambda _: [Said("a", 10, 19, "fault", fault="leak"), Said("a", 15, 29, "fault")])
    append(lake, lambda _: [Said("a", 40, 49, "unknown"), Said("a", 60, 69, "fault")])
    found = confirmed(read_feedback(lake, numbered=False).said["a"])
    assert [(t.start, t.end) for t in found] == [(10, 30), (60, 70)]
