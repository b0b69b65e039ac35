"""Drift from the lake to its evidence, each window once; and a challenger, on a real server."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import sealed
from crash import run_all, write_file, write_plant
from judged_plant import champion_of, plant_with, registered
from test_alarm_steps import RULE, plant_in, stream, write

from vae_anomaly.config import ANY_TIME, PlantConfig, read_plant
from vae_anomaly.data.lake import DRIFT, PARTS, READINGS, VERDICTS, Lake, commit, rows
from vae_anomaly.data.schemas import TABLES
from vae_anomaly.data.simulate import FOREVER, Fault, Simulation, plant_yaml, write_files
from vae_anomaly.decisions.diagnosis import Diagnosis
from vae_anomaly.errors import LakeError
from vae_anomaly.report import register_table
from vae_anomaly.steps import monitor as monitor_module
from vae_anomaly.steps.alarms import raise_alarms
from vae_anomaly.steps.drift_rows import Window
from vae_anomaly.steps.freeze import frozen
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.label import label_alarms
from vae_anomaly.steps.lines import judged_by_all
from vae_anomaly.steps.monitor import MonitorReport, monitor, note_told
from vae_anomaly.steps.monitor_page import event_figures, monitor_tables, write_monitor
from vae_anomaly.steps.promote import promote
from vae_anomaly.steps.register import register
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import latest_trained, plant_settings
from vae_anomaly.table import Table
from vae_anomaly.tracking import champion_package, open_tracking

DAY_ROWS, LEARNT_DAYS = 96, 14
QUICK = "training: {epochs: 3, min_steps: 150, checks: 5}\n"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlantConfig, MonitorReport]:
    """Two pumps, learnt in two weeks; one of them has a stuck sensor from the 16th day on."""
    folder = tmp_path_factory.mktemp("watched")
    plant = Simulation(n_assets=2, period_s=900.0, n_rows=LEARNT_DAYS * DAY_ROWS)
    stuck = Fault(
        kind="stuck", asset="pump-02", sensors=("power",), end=FOREVER,
        start=plant.time((LEARNT_DAYS + 2) * DAY_ROWS),
    )  # fmt: skip
    plant = Simulation(
        n_assets=2, period_s=900.0, n_rows=(LEARNT_DAYS + 4) * DAY_ROWS + 1, faults=(stuck,)
    )
    shares = {"end": plant.time(LEARNT_DAYS * DAY_ROWS).isoformat()}
    (folder / "plant.yml").write_text(
        plant_yaml(plant)
        + QUICK
        + "parts:\n  listed:\n"
        + "".join(
            f"    - {{part: {part}, share: [{low}, {high}], end: '{shares['end']}'}}\n"
            for part, low, high in (
                ("train", 0, 0.45),
                ("stop", 0.45, 0.55),
                ("calibrate", 0.55, 0.78),
            )
        )
    )
    write_files(plant, folder / "incoming")
    config = read_plant(folder / "plant.yml")
    run_all(config)
    return config, monitor(config)


@pytest.mark.slow
def test_a_stuck_sensor_is_said_at_its_asset_from_its_first_day_on(
    watched: tuple[PlantConfig, MonitorReport],
) -> None:
    _, report = watched
    assert report.n_new == len(report.windows) >= 4
    kinds = [window.diagnoses["pump-02"].kind for window in report.windows]
    assert kinds[-2:] == ["sensor", "sensor"]
    assert set(kinds[:-2]) == {"none"}
    assert {window.diagnoses["pump-01"].kind for window in report.windows} == {"none"}
    assert report.windows[-1].plant.columns == ("power",)
    assert "pump-02/frozen/power" in event_figures(report, report.windows[-1])
    assert "power: stuck" in monitor_tables(report)[0].markdown()


@pytest.mark.slow
def test_each_window_is_judged_once_and_evidence_is_read_back_as_it_was_written(
    watched: tuple[PlantConfig, MonitorReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, report = watched
    lake = Lake(plant.lake, plant.contract)
    before = lake.open(DRIFT).version()
    monkeypatch.setattr(monitor_module, "log_drift", lambda *_: None)
    again = monitor(plant)
    assert again.n_new == 0
    assert str(again.windows) == str(report.windows)  # NaN is no NaN's equal
    line = f"drift:{champion_package(plant).folder.name[:16]}:{86_400_000_000}"
    spare = next(rows(lake.open(DRIFT)))
    last = report.windows[-1].number
    assert monitor_module._store(lake, line, last, pa.Table.from_batches([spare]))
    assert lake.open(DRIFT).version() == before, "a rival's window is not written again"


@pytest.mark.slow
def test_what_was_judged_and_not_told_is_told_by_the_next_call(
    watched: tuple[PlantConfig, MonitorReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process killed between the two, or a call by hand, takes no event away."""
    plant, report = watched
    monkeypatch.setattr(monitor_module, "log_drift", lambda *_: None)
    again = monitor(plant)
    assert again.n_new == 0
    assert [w.number for w in again.untold] == [w.number for w in report.windows]
    note_told(plant, again)
    note_told(plant, report)
    assert monitor(plant).untold == ()


@pytest.mark.slow
def test_figures_of_every_window_stand_in_the_run_of_the_champion(
    watched: tuple[PlantConfig, MonitorReport], tmp_path: Path
) -> None:
    plant, report = watched
    tracking = open_tracking(plant)
    champion = tracking.champion()
    assert champion is not None
    logged = tracking.client.get_metric_history(champion.run_id, "drift/n_drifted")
    assert [metric.step for metric in logged] == [window.number for window in report.windows]
    assert logged[-1].value > 0
    write_monitor(report, tmp_path / "pictures", subject=plant.name)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "value.png", "residual.png", "score.png",
    }  # fmt: skip


def test_what_was_never_trained_here_is_said(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    lake = Lake(plant.lake, plant.contract)
    with pytest.raises(LakeError, match="vae-anomaly score"):
        judged_by_all(lake.writable(VERDICTS), ["a"], wait_us=1)


def seconds(verdicts: dict[str, int]) -> pa.Table:
    """Verdicts of the champion, the last one of each asset at so many seconds."""
    entries = [
        {"line": "champion", "asset": asset, "time": datetime.fromtimestamp(at, UTC), "late": False}
        for asset, last in verdicts.items()
        for at in range(last % 10, last + 1, 10)
    ]
    return pa.Table.from_pylist(entries, schema=TABLES[VERDICTS])


@pytest.mark.parametrize(
    ("last", "until"),
    [
        ({"a": 90, "b": 90}, 90),
        ({"a": 90, "b": 72}, 72),  # b comes later, and is waited for
        ({"a": 90, "b": 41}, 60),  # b is more than a window behind: it sends nothing any more
        ({"a": 90}, 60),
        ({"a": 90, "b": 72, "c": 50}, 72),  # the champion has not learnt c
        ({"a": 90, "b": 72, "c": 110}, 80),  # c is ahead, and shows what time it is
    ],
)
def test_windows_are_due_up_to_what_every_living_asset_has_passed(
    last: dict[str, int], until: int, tmp_path: Path
) -> None:
    plant = plant_in(tmp_path)
    write(plant, seconds(last))
    lake = Lake(plant.lake, plant.contract)
    assert judged_by_all(lake.open(VERDICTS), "ab", wait_us=30_000_000) == until * 1_000_000


def test_a_wrong_clock_makes_no_window_due(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    write(plant, seconds({"a": 90, "b": 72}))
    write(plant, seconds({"a": 4000})[-1:])
    verdicts = Lake(plant.lake, plant.contract).open(VERDICTS)
    for limit, until in ((1000, 72), (ANY_TIME // 1_000_000, 3970)):
        found = judged_by_all(verdicts, "ab", wait_us=30_000_000, limit=limit * 1_000_000)
        assert found == until * 1_000_000


HOUR_ROWS, LEARNT_HOURS = 60, 3


def deliver(plant: PlantConfig, asset: str, first_hour: int, last_hour: int) -> None:
    """Take in a reading a minute of an asset, from one hour to another, and judge them."""
    n = (last_hour - first_hour) * HOUR_ROWS
    table = sealed.rows(2 * n, seed=ord(asset)).slice(0, n)
    table = table.set_column(1, "pump", pa.array([asset] * n))
    minutes = [(first_hour * 60 + i + 1) * 60_000_000 for i in range(n)]
    table = table.set_column(0, "when", pa.array(minutes, pa.timestamp("us")))
    pacsv.write_csv(table, Path(plant.source.path) / f"{asset}{first_hour}.csv")
    ingest(plant)
    score(plant)


@pytest.mark.slow
def test_a_window_waits_for_the_asset_that_delivers_late(tmp_path: Path, database: Path) -> None:
    plant = plant_with(tmp_path, database)
    monitoring = plant.monitoring.model_copy(update={"window": "1 hour"})
    plant = plant.model_copy(update={"monitoring": monitoring})
    champion_of(plant, registered(plant, "a"))
    for asset in "ab":
        deliver(plant, asset, 0, LEARNT_HOURS)
    lake = Lake(plant.lake, plant.contract)
    end = datetime.fromtimestamp(LEARNT_HOURS * 3600 - 1, UTC)
    learnt = [
        {"fingerprint": "a" * 64, "part": "train", "asset": asset, "end": end,
         "start": datetime.fromtimestamp(0, UTC)} for asset in "ab"
    ]  # fmt: skip
    parts = lake.writable(PARTS)
    assert commit(parts, pa.Table.from_pylist(learnt, schema=lake.schema(PARTS)), {"parts": 1})
    deliver(plant, "a", LEARNT_HOURS, LEARNT_HOURS + 1)
    assert monitor(plant).windows == (), "pump b has no row of the hour yet"
    deliver(plant, "b", LEARNT_HOURS, LEARNT_HOURS + 1)
    (window,) = monitor(plant).windows
    assert window.number == LEARNT_HOURS
    rates = {a: c.figure.value for a, own in window.checks.items() for c in own if c.name == "rows"}
    assert rates == {"a": HOUR_ROWS, "b": HOUR_ROWS}
    deliver(plant, "a", LEARNT_HOURS + 1, LEARNT_HOURS + 3)  # and b has died
    assert [w.number for w in monitor(plant).new] == [LEARNT_HOURS + 1]


def test_settings_of_monitoring_train_nothing_anew(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    other = plant.model_copy(update={"monitoring": plant.monitoring.model_copy(
        update={"window": "7 days", "retrain": False})})  # fmt: skip
    assert other.monitoring.length == timedelta(days=7)
    assert plant_settings(other) == plant_settings(plant)


def test_learning_is_frozen_until_every_open_alarm_is_answered(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    assert not frozen(plant)
    write(plant, stream(0), RULE.model_copy(update={"latched": True}))
    raise_alarms(plant)
    found = frozen(plant)
    assert found
    assert {alarm.state for alarm in found.alarms} <= {"active", "latched"}
    assert found.alarms[0].alarm_id in found.in_words()
    label_alarms(plant, [a.alarm_id for a in found.alarms], "false-alarm")
    assert not frozen(plant)


@pytest.mark.slow
def test_a_change_of_regime_asks_for_a_challenger(server: None, tmp_path: Path) -> None:
    """Event → automation → a run of the deployment; installed twice, it is there once."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    from pipelines.monitor import tell_regime
    from pipelines.retrain import install_automation

    file = write_plant(tmp_path)
    file.write_text(file.read_text().replace("name: crash", "name: regime"))
    install_automation(file)
    install_automation(file)
    window = Window(0, 86_400_000_000, {}, {"": Diagnosis("regime", ("flow",), "all moved")})
    report = MonitorReport("1", ("flow",), (window,), 1, 9)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("retrain/regime")
        ours = [a for a in client.read_automations() if "regime:" in a.name]
        assert len(ours) == 1
        tell_regime("another", report, window)
        tell_regime("regime", report, window)
        until = time.monotonic() + 180
        own = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        while not (runs := client.read_flow_runs(deployment_filter=own)):
            assert time.monotonic() < until, "no run of the deployment came"
            time.sleep(0.5)
        assert len(runs) == 1
        assert runs[0].parameters["parameters"]["plant"] == str(file)
        file.write_text(file.read_text() + "monitoring: {retrain: false}\n")
        install_automation(file)
        assert not [a for a in client.read_automations() if "regime:" in a.name]


@pytest.mark.slow
def test_what_is_retrained_is_a_challenger_and_an_open_alarm_forbids_it(
    server: None, tmp_path: Path
) -> None:
    from pipelines.artifacts import published
    from pipelines.retrain import RetrainParameters, retrain

    file = write_plant(tmp_path, baseline=True)
    file.write_text(file.read_text() + "alarms: {rule: {latched: true}}\n")
    plant = read_plant(file)
    run_all(plant)
    write_file(tmp_path / "incoming/4.csv", 4, n_rows=400, seed=0)
    ingest(plant)
    score(plant)
    tables: list[Table] = []
    with published(tables.append):
        held = retrain(RetrainParameters(plant=file))
    assert held.registered is None
    assert "Nothing trained: frozen: alarm" in tables[0].summary
    label_alarms(plant, [alarm.alarm_id for alarm in frozen(plant).alarms], "false-alarm")
    made = retrain(RetrainParameters(plant=file))
    assert made.registered is not None
    assert made.registered.alias == "challenger"
    assert "waits as a challenger" in made.registered.reasons[0]
    champion = open_tracking(plant).champion()
    assert champion is not None
    assert champion.version == "1"
    assert Lake(plant.lake, plant.contract).open(READINGS).version() > 0
    summary = register_table(made.registered).summary
    assert summary.endswith("is challenger, and raises no alarm before it is promoted.")
    promote(plant)
    again = register(plant, latest_trained(plant))
    assert (again.existed, again.reasons) == (True, ()), "a person has promoted it since"
