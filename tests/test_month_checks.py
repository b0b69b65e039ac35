"""Claims of the simulated month: each holds for a month that went well, and for no broken one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import month.schedule
import psutil
import pytest
from month.checks import (
    Check,
    Keys,
    alarm_checks,
    death_checks,
    drift_checks,
    judge_checks,
    known_rows,
    microseconds_of,
    row_checks,
    told_checks,
    version_checks,
)
from month.operator import known_faults
from month.receiver import Received, Text
from month.record import Death, Month, Record
from month.runner import KILLED, Runner
from month.schedule import Run, kill_worker
from month.story import BROKEN, BROKEN_ASSET, DAYS, Story, moment, write_plant
from simulated_month import live_hour

from pipelines.names import score_name
from pipelines.stack.processes import identified
from pipelines.stack.state import Stack, write_state
from vae_anomaly.config import read_plant
from vae_anomaly.steps.announcement_texts import AlarmFacts, Links, alarm_message
from vae_anomaly.steps.outbox import Message
from vae_anomaly.steps.said import Alarm
from vae_anomaly.steps.score import ScoreReport

SIMULATION = Story(60).simulation

#: A step in which the runner is killed as soon as it may be: after 0.2 s.
QUICK = 26

#: Microseconds of a day, and when the month begins.
DAY, BEGIN = 86_400_000_000, microseconds_of(SIMULATION)[0.0]

SCORED = "score pumps 2026-02-07 00:00 → 2026-02-07 11:50, 216 rows"
NOTHING = "score pumps: nothing to score"


def held(checks: Iterator[Check], claim: str) -> bool:
    """Whether the one claim that has these words held."""
    (found,) = (check for check in checks if claim in check.claim)
    return found.held


# ------------------------------------------------------------------------------------- what died


def good_record() -> Record:
    """What is seen where all dies once, and all goes on."""
    record = Record()
    record.deaths = [Death(name, 100.0) for name in ("mlflow", "prefect", "postgres")]
    record.deaths += [Death("runner", 100.0, True), Death("worker", 100.0, True)]
    record.hours = [{"cached": True, "victim": "mlflow"}, {"cached": False, "victim": ""}]
    record.scheduled = [
        Run("a", SCORED, "COMPLETED", 50.0),
        Run("b", "score pumps", "CRASHED", 99.0),
        Run("c", "score pumps", "CANCELLED", 0.0),
        Run("d", SCORED, "COMPLETED", 120.0),
    ]
    return record


def test_claims_on_deaths_hold_where_all_goes_on() -> None:
    assert [check.claim for check in death_checks(good_record()) if not check.held] == []


@pytest.mark.parametrize(
    "run",
    [
        Run("d", "score pumps", "CANCELLED", 0.0),
        Run("d", "score pumps", "CANCELLED", 120.0),
        Run("d", "score pumps", "FAILED", 120.0),
        Run("d", "score pumps", "RUNNING", 120.0),
        Run("d", NOTHING, "COMPLETED", 120.0),
        Run("d", SCORED, "COMPLETED", 90.0),
    ],
)
def test_worker_has_gone_on_only_by_a_run_that_began_after_its_death_and_scored(run: Run) -> None:
    record = good_record()
    record.scheduled[-1] = run
    assert not held(death_checks(record), "by its schedule")


def test_worker_that_was_never_killed_has_not_gone_on_after_it() -> None:
    record = good_record()
    record.deaths = [death for death in record.deaths if death.name != "worker"]
    assert not held(death_checks(record), "by its schedule")


def test_names_of_runs_say_which_of_them_scored(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path, SIMULATION))
    found = ScoreReport("champion", "1", 2, 1)
    at = moment(SIMULATION, 3.0)
    for report, scored in (
        (found, False),
        (replace(found, statuses={"normal": 1_234_567}, first_time=at, last_time=at), True),
    ):
        assert Run("a", score_name(plant, report), "COMPLETED", 1.0).scored is scored


def test_worker_that_only_died_idle_is_none_that_died_with_a_run() -> None:
    record = good_record()
    record.deaths[-1] = Death("worker", 100.0)
    assert not held(death_checks(record), "each server")
    record.deaths.append(Death("worker", 110.0, True))
    (found,) = (check.found for check in death_checks(record) if "each server" in check.claim)
    assert "worker 1 with a run and 1 idle" in found


@pytest.mark.parametrize("name", ["mlflow", "prefect", "postgres", "runner", "worker"])
def test_nobody_may_be_left_alive(name: str) -> None:
    record = good_record()
    record.deaths = [death for death in record.deaths if death.name != name]
    assert not held(death_checks(record), "each server")


def test_scoring_has_to_go_on_each_time_that_mlflow_is_down() -> None:
    record = good_record()
    record.deaths.append(Death("mlflow", 200.0))
    assert not held(death_checks(record), "MLflow was down")


def test_a_champion_from_the_cache_while_mlflow_is_up_is_none_that_came_back() -> None:
    record = good_record()
    record.hours.append({"cached": True, "victim": ""})
    assert not held(death_checks(record), "MLflow was down")


def test_a_failure_of_the_runner_is_held_against_the_month() -> None:
    record = good_record()
    record.failures.append("day 3.00: hour, ended by itself, with exit status -6")
    assert not held(death_checks(record), "no flow or command")


# ------------------------------------------------------------------------------ how they are killed


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    """A runner, which takes no command before it has read a line."""
    runner = Runner({}, tmp_path / "log")
    yield runner
    runner.stop()


def test_runner_that_is_killed_as_asked_for_says_so(runner: Runner, tmp_path: Path) -> None:
    before = runner.process.pid
    assert runner.do("hour", tmp_path, kill_after_s=0.1)["error"] == KILLED
    assert not psutil.pid_exists(before)
    assert runner.process.poll() is None


@pytest.mark.parametrize("kill_after_s", [None, 30.0])
def test_runner_that_ends_by_itself_was_not_killed(
    kill_after_s: float | None, runner: Runner, tmp_path: Path
) -> None:
    os.kill(runner.process.pid, signal.SIGABRT)
    began = time.monotonic()
    answer = runner.do("hour", tmp_path, kill_after_s=kill_after_s)
    assert not answer["ok"]
    assert answer["ended"]
    assert answer["error"] == "ended by itself, with exit status -6"
    assert time.monotonic() - began < 10  # it waits for nothing that cannot come
    assert runner.process.poll() is None


def test_only_a_runner_that_was_killed_counts_as_one(runner: Runner, tmp_path: Path) -> None:
    lived = Month(Story(60), tmp_path)
    os.kill(runner.process.pid, signal.SIGABRT)
    assert not live_hour(lived, runner, QUICK, "runner")["ok"]
    assert lived.record.deaths == []
    (failure,) = lived.record.failures
    assert "ended by itself" in failure
    assert any("ended by itself" in line for line in lived.timeline)
    live_hour(lived, runner, QUICK, "runner")
    assert [(death.name, death.with_run) for death in lived.record.deaths] == [("runner", True)]
    assert lived.record.failures == [failure]


@pytest.mark.parametrize(
    ("has_process", "is_under_way"), [(True, True), (True, False), (False, True)]
)
def test_worker_dies_with_its_run_and_says_whether_it_had_one(
    has_process: bool, is_under_way: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(month.schedule, "WAIT_S", 0.2)
    run = "import subprocess; subprocess.run(['sleep', '60'])" if has_process else "input()"
    worker = subprocess.Popen([sys.executable, "-c", run], stdin=subprocess.PIPE)
    write_state(Stack(tmp_path).started(identified(worker.pid, "worker")))
    while has_process and not psutil.Process(worker.pid).children():
        time.sleep(0.01)
    runs = psutil.Process(worker.pid).children()
    died = kill_worker(tmp_path, lambda since: is_under_way, after_s=0.1)
    assert died is (has_process and is_under_way)
    assert not psutil.pid_exists(worker.pid)
    worker.wait()
    assert len(runs) == has_process
    assert psutil.wait_procs(runs, timeout=5)[1] == []


# ------------------------------------------------------------------------------- rows and verdicts


def test_rows_and_verdicts_have_to_be_all_those_that_the_plant_has_had() -> None:
    known = known_rows(SIMULATION)
    assert known.total() == 3 * (21 + DAYS) * 144
    assert all(check.held for check in row_checks(known, known, known))
    one = next(iter(known))
    less, twice = known - Counter([one]), known + Counter([one])
    other: Keys = less + Counter([("pump-01", datetime(1999, 1, 1, tzinfo=UTC))])
    for wrong in (less, twice, other):
        assert not held(row_checks(known, wrong, known), "was read")
        assert not held(row_checks(known, known, wrong), "one verdict")
        # a row that was never read is missed, though it has no verdict either
        assert not any(check.held for check in row_checks(known, wrong, wrong))


# ------------------------------------------------------------------------------------------ alarms


def alarm(name: str, asset: str, start: float, end: float) -> Alarm:
    """An alarm from a day of the month to another."""
    return Alarm(name, asset, BEGIN + round(start * DAY), BEGIN + round(end * DAY), "ended")


GOOD_ALARMS = (
    alarm("a", "pump-01", 3.35, 3.7),
    alarm("b", "pump-02", 5.3, 5.9),
    alarm("c", "pump-02", 23.15, 23.6),
    alarm("d", "pump-01", 27.5, 27.9),
)


def of_alarms(alarms: tuple[Alarm, ...]) -> list[bool]:
    """Whether each claim on alarms held."""
    found = alarm_checks(alarms, known_faults(SIMULATION), microseconds_of(SIMULATION))
    return [check.held for check in found]


def test_alarms_of_the_faults_are_enough() -> None:
    assert of_alarms(GOOD_ALARMS) == [True, True]


@pytest.mark.parametrize("missing", range(4))
def test_a_fault_without_an_alarm_is_missed(missing: int) -> None:
    assert not of_alarms(GOOD_ALARMS[:missing] + GOOD_ALARMS[missing + 1 :])[0]


def test_an_alarm_that_never_ends_is_of_no_fault() -> None:
    endless = tuple(alarm(name, name, 0.1, 30.0) for name in SIMULATION.assets)
    assert not of_alarms(endless)[0]


def test_false_alarms_count_also_after_the_last_promotion() -> None:
    late = tuple(alarm(f"x{n}", "pump-03", 26.5 + n / 100, 26.505 + n / 100) for n in range(40))
    assert of_alarms(GOOD_ALARMS + late) == [True, False]


# ------------------------------------------------------------------------------------------- drift


def window(day: int, kind: str, *, columns: tuple[str, ...] = ()) -> dict[str, object]:
    """What the monitor says of a day; a sensor is one of the pump whose sensor breaks."""
    kinds = dict.fromkeys(SIMULATION.assets, kind)
    if kind == "sensor":
        kinds = {name: kind if name == BROKEN_ASSET else "none" for name in SIMULATION.assets}
    return {
        "start": BEGIN + day * DAY,
        "plant": kind,
        "assets": kinds,
        "columns": {name: list(columns) for name in ("", *SIMULATION.assets)},
    }


def of_drift(windows: list[dict[str, object]]) -> list[bool]:
    """Whether each claim on drift held."""
    found = drift_checks(Record(windows=windows), microseconds_of(SIMULATION))
    return [check.held for check in found]


QUIET = [window(day, "none") for day in range(8)]
REGIME = [window(day, "regime") for day in range(8, 19)]
SENSOR = [window(day, "sensor", columns=(BROKEN,)) for day in (20, 21)]


def test_drift_that_is_called_what_it_is_holds() -> None:
    assert of_drift([*QUIET, *REGIME, *SENSOR]) == [True, True]


def test_no_look_before_the_regime_is_no_look_without_a_regime() -> None:
    assert not of_drift([*REGIME, *SENSOR])[0]


def test_a_regime_that_is_called_one_late_or_always_or_never_is_not_told_apart() -> None:
    late = [window(day, "none" if day < 14 else "regime") for day in range(8, 19)]
    always = [window(day, "regime") for day in range(8)]
    assert not of_drift([*QUIET, *late, *SENSOR])[0]
    assert not of_drift([*always, *REGIME, *SENSOR])[0]
    assert not of_drift([*QUIET, *SENSOR])[0]


def test_a_broken_sensor_among_all_sensors_or_on_all_days_is_not_named() -> None:
    every = [window(day, "sensor", columns=(BROKEN, "flow", "power")) for day in (20, 21)]
    always = [window(day, "sensor", columns=(BROKEN,)) for day in range(8)]
    assert not of_drift([*QUIET, *REGIME, *every])[1]
    assert not of_drift([*always, *REGIME, *SENSOR])[1]


def test_what_was_said_of_a_day_first_counts() -> None:
    again = [window(day, "regime") for day in (3, 20, 21)]
    assert of_drift([*QUIET, *REGIME, *SENSOR, *again]) == [True, True]


# ---------------------------------------------------------------------------------------- versions

CHANGES = [("first", "1"), ("promoted", "3"), ("rolled_back", "1"), ("promoted", "3")]


def versions() -> Record:
    """What is seen where versions come and go as they should."""
    record = Record()
    record.frozen = {"ok": True, "frozen": True}
    record.bad = {
        "alias": "challenger", "registered": "2", "reasons": ["false alarm rate 47% is above"],
    }  # fmt: skip
    record.retrained = {"alias": "challenger", "registered": "3", "reasons": ["by itself"]}
    return record


SHADOWED: Keys = Counter([("pump-01", moment(SIMULATION, 18.0))])


def test_claims_on_versions_hold_where_they_come_and_go_as_they_should() -> None:
    assert all(check.held for check in version_checks(versions(), SHADOWED, CHANGES))


def test_learning_in_spite_of_the_freeze_is_learning() -> None:
    record = versions()
    record.frozen["registered"] = "2"
    assert not held(version_checks(record, SHADOWED, CHANGES), "learnt")


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"ok": False, "error": "MLflow"},
        {"alias": "champion", "reasons": ["false alarm rate 47% is above"]},
        {"alias": "challenger", "reasons": ["by itself, so that it waits"]},
    ],
)
def test_a_challenger_that_only_waits_was_not_refused(bad: dict[str, object]) -> None:
    record = versions()
    record.bad = bad
    assert not held(version_checks(record, SHADOWED, CHANGES), "refused")


def test_a_bad_challenger_that_became_champion_was_not_refused() -> None:
    changes = [*CHANGES, ("promoted", "2")]
    assert not held(version_checks(versions(), SHADOWED, changes), "refused")


@pytest.mark.parametrize("shadowed", [Counter(), SHADOWED + SHADOWED])
def test_a_challenger_judges_each_row_once(shadowed: Keys) -> None:
    assert not held(version_checks(versions(), shadowed, CHANGES), "beside")


@pytest.mark.parametrize("changes", [CHANGES[:-1], [*CHANGES, CHANGES[-1]], CHANGES[::-1]])
def test_history_tells_each_change_once(changes: list[tuple[str, str]]) -> None:
    assert not held(version_checks(versions(), SHADOWED, changes), "history")


@pytest.mark.parametrize(("after", "holds"), [("3", True), ("1", False)])
def test_who_judged_has_to_follow_the_story(after: str, holds: bool) -> None:
    record = versions()
    for day in range(1, DAYS + 1):
        new = 19 < day <= 25 or day > 26
        record.champions[moment(SIMULATION, day - 0.01).isoformat()] = after if new else "1"
    told = {at: {version} for at, version in record.champions.items()}
    assert held(judge_checks(SIMULATION, record, told), "which model") is holds
    told[next(iter(told))] = {"2"}
    assert not held(judge_checks(SIMULATION, record, told), "which model")


# ------------------------------------------------------------------------------------------ people


def message(name: str, tmp_path: Path, *alarm_ids: str) -> Message:
    """The product's own message that alarms were raised, under a name."""
    at = moment(SIMULATION, 3.0)
    facts = [
        AlarmFacts(alarm_id, "pump-01", at, at, at, True, 1, 9.0, at, ("flow high",), "1")
        for alarm_id in alarm_ids
    ]
    links = Links(read_plant(write_plant(tmp_path, SIMULATION)), "plant.yml", "")
    return replace(alarm_message(links, "raised", facts), message_id=name)


def received(*messages: Message) -> Received:
    """What came where each message came once."""
    found = Received()
    for sent in messages:
        found.times[sent.message_id] += 1
        found.texts[sent.message_id] = Text("alarm.raised", sent.subject, sent.body)
    return found


def test_telling_of_each_alarm_once_holds_and_of_one_twice_or_never_does_not(
    tmp_path: Path,
) -> None:
    one, two = (message(name, tmp_path, name * 5) for name in ("a", "b"))
    again = replace(one, message_id="c")
    month = {"aaaaa", "bbbbb"}
    record = Record(received=received(one, two))
    assert all(check.held for check in told_checks(month, [one, two], record))
    assert not held(told_checks(set(), [one, two], record), "every alarm")
    record.received = received(one)
    assert not held(told_checks(month, [one, two], record), "every alarm")
    assert not held(told_checks(month, [one, two], record), "at the receiver")
    record.received = received(one, two, again)
    assert not held(told_checks(month, [one, two, again], record), "every alarm")
    assert not held(told_checks(month, [one, two], record), "at the receiver")


def test_a_message_that_came_twice_needs_a_kill_of_who_sent_it(tmp_path: Path) -> None:
    one = message("a", tmp_path, "aaaaa")
    record = Record(received=received(one), deaths=[Death("mlflow", 1.0), Death("worker", 1.0)])
    record.received.times["a"] += 1
    assert not held(told_checks({"aaaaa"}, [one], record), "at the receiver")
    record.deaths.append(Death("runner", 1.0, True))
    assert held(told_checks({"aaaaa"}, [one], record), "at the receiver")


def test_a_text_that_is_not_what_was_written_down_is_another_message(tmp_path: Path) -> None:
    one = message("a", tmp_path, "aaaaa")
    record = Record(received=received(replace(one, subject="")))
    assert not held(told_checks({"aaaaa"}, [one], record), "at the receiver")


def test_a_flood_tells_of_each_of_its_alarms(tmp_path: Path) -> None:
    one, flood = message("a", tmp_path, "aaaaa"), message("b", tmp_path, "bbbbb", "ccccc")
    month = {"aaaaa", "bbbbb", "ccccc"}
    record = Record(received=received(one, flood))
    assert all(check.held for check in told_checks(month, [one, flood], record))
    assert not held(told_checks({*month, "ddddd"}, [one, flood], record), "every alarm")
    record.received = received(one)
    assert not held(told_checks(month, [one, flood], record), "every alarm")
