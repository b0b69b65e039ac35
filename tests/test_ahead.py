"""A row that lies after the moment of its ingest is refused, and makes no later row late."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from judged_plant import (
    N,
    judged_by_the_first,
    moment,
    plant_with,
    registered,
    take_in,
    verdicts_of,
)

from vae_anomaly.config import ANY_TIME, PlantConfig, Sensor, Source, read_plant, settings_digest
from vae_anomaly.data.lake import FILES, QUARANTINE, READINGS, VERDICTS, Lake, rows
from vae_anomaly.steps.alarm_list import alarm_list
from vae_anomaly.steps.check import check
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.ingest_page import ingest_table
from vae_anomaly.steps.lines import last_judged
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import plant_settings

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)

PLANT = """
name: pumps
source: {path: incoming, settle_s: 0}
contract: {time: time, asset: pump, sensors: [flow]}
"""


def plant_of(folder: Path, *times: datetime, text: str = PLANT) -> PlantConfig:
    """A plant with one file of a reading at each of these times."""
    (folder / "incoming").mkdir()
    lines = [f"{time.isoformat()},a,{i}" for i, time in enumerate(times)]
    (folder / "incoming" / "a.csv").write_text("\n".join(["time,pump,flow", *lines]) + "\n")
    (folder / "plant.yml").write_text(text)
    return read_plant(folder / "plant.yml")


def without_limit(plant: PlantConfig) -> PlantConfig:
    source = plant.source.model_copy(update={"max_ahead_s": None})
    return plant.model_copy(update={"source": source})


def times_of(plant: PlantConfig, table: str) -> list[datetime]:
    found = rows(Lake(plant.lake, plant.contract).open(table), columns=["time"])
    return sorted(time for batch in found for time in batch["time"].to_pylist())


# ---------------------------------------------------------------------------------------- ingest


def test_a_row_may_lie_a_day_after_the_ingest_and_no_further(tmp_path: Path) -> None:
    last = NOW + DAY
    plant = plant_of(tmp_path, NOW, last, last + timedelta(microseconds=1), NOW + SECOND)
    report = ingest(plant, now=NOW)
    assert report.counts.complete
    assert report.reasons == {"time_ahead": 1}
    assert times_of(plant, READINGS) == [NOW, NOW + SECOND, last]
    (row,) = [
        r for b in rows(Lake(plant.lake, plant.contract).open(QUARANTINE)) for r in b.to_pylist()
    ]
    assert row["time"] == last + timedelta(microseconds=1)
    assert (row["row"], row["reason"]) == (3, "time_ahead")
    assert "lies after 2026-03-03 12:00:00 UTC" in row["detail"]


def test_by_default_the_moment_is_now(tmp_path: Path) -> None:
    plant = plant_of(tmp_path, datetime.now(UTC), datetime.now(UTC) + 2 * DAY)
    assert ingest(plant).reasons == {"time_ahead": 1}


def test_check_says_what_an_ingest_would_do(tmp_path: Path) -> None:
    plant = plant_of(tmp_path, NOW, NOW, NOW + 2 * DAY, NOW + 2 * DAY)
    (found,) = check(plant, now=NOW).files
    assert (found.n_read, found.n_accepted, found.n_conflicting) == (4, 2, 1)
    assert {reason: refused.n_rows for reason, refused in found.refused.items()} == {
        "time_ahead": 2
    }
    assert ingest(plant, now=NOW).reasons == {"time_ahead": 2, "conflicting": 1}


def test_a_file_without_any_row_before_now_says_what_to_look_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one with day and month the wrong way round."""
    plant = plant_of(tmp_path, *(NOW + 30 * DAY + i * SECOND for i in range(1200)))
    report = ingest(plant, now=NOW)
    assert report.counts.n_quarantined == 1200
    for said in (caplog.text, ingest_table(report).markdown()):
        assert "all 1,200 rows lie after now" in said
        assert "order of day and month" in said
        assert "max_ahead_s: null" in said
    assert ingest(plant, now=NOW).with_status("unchanged")


def test_a_replay_ahead_of_the_clock_is_taken_where_the_plant_says_so(tmp_path: Path) -> None:
    text = PLANT.replace("settle_s: 0", "settle_s: 0, max_ahead_s: null")
    plant = plant_of(tmp_path, NOW, NOW + 9000 * DAY, text=text)
    assert ingest(plant, now=NOW).counts.n_accepted == 2
    assert check(plant, now=NOW).is_clean


def test_another_limit_lets_refused_rows_in_and_doubles_none(tmp_path: Path) -> None:
    plant = plant_of(tmp_path, NOW, NOW + 2 * DAY)
    assert ingest(plant, now=NOW).reasons == {"time_ahead": 1}
    assert ingest(plant, now=NOW + 3 * DAY).with_status("unchanged")
    counts = ingest(without_limit(plant), now=NOW).counts
    assert (counts.n_accepted, counts.n_quarantined, counts.n_duplicate) == (1, 0, 1)
    assert times_of(plant, READINGS) == [NOW, NOW + 2 * DAY]


def write_rows(plant: PlantConfig, *entries: tuple[datetime, float]) -> None:
    lines = [f"{time.isoformat()},a,{flow}" for time, flow in entries]
    (Path(plant.source.path) / "a.csv").write_text("\n".join(["time,pump,flow", *lines]) + "\n")


def flows_of(plant: PlantConfig) -> list[float]:
    found = rows(Lake(plant.lake, plant.contract).open(READINGS), columns=["flow"])
    return sorted(flow for batch in found for flow in batch["flow"].to_pylist())


def test_a_row_once_refused_in_a_file_that_grows_stays_so_and_the_true_one_comes_in(
    tmp_path: Path,
) -> None:
    """When its time has come it is no truer than before."""
    plant, then = plant_of(tmp_path, NOW), NOW + timedelta(hours=30)
    seen = [(NOW, 0.0), (then, 666.0)]
    write_rows(plant, *seen)
    assert ingest(plant, now=NOW).reasons == {"time_ahead": 1}
    seen.append((NOW + timedelta(hours=8), 1.0))
    write_rows(plant, *seen)
    report = ingest(plant, now=NOW + timedelta(hours=8))
    assert (report.reasons, report.counts.n_accepted) == ({"time_ahead": 1}, 1)
    seen.append((then, 2.0))
    write_rows(plant, *seen)
    report = ingest(plant, now=then)
    assert (report.reasons, report.counts.n_accepted) == ({"time_ahead": 1}, 1)
    assert flows_of(plant) == [0.0, 1.0, 2.0]


def test_a_row_once_refused_comes_in_where_the_plant_allows_as_much(tmp_path: Path) -> None:
    plant, then = plant_of(tmp_path, NOW), NOW + timedelta(hours=30)
    write_rows(plant, (NOW, 0.0), (then, 1.0))
    assert ingest(plant, now=NOW).reasons == {"time_ahead": 1}
    source = plant.source.model_copy(update={"max_ahead_s": 29 * 3600.0})
    assert ingest(plant.model_copy(update={"source": source}), now=then).reasons == {
        "time_ahead": 1
    }
    source = plant.source.model_copy(update={"max_ahead_s": 30 * 3600.0})
    assert ingest(plant.model_copy(update={"source": source}), now=NOW).counts.n_accepted == 1
    assert flows_of(plant) == [0.0, 1.0]


def test_a_row_once_refused_stays_so_when_the_contract_gains_a_column(tmp_path: Path) -> None:
    plant, then = plant_of(tmp_path, NOW), NOW + timedelta(hours=30)
    write_rows(plant, (NOW, 0.0), (then, 666.0))
    assert ingest(plant, now=NOW).reasons == {"time_ahead": 1}
    wider = plant.contract.model_copy(
        update={"sensors": (*plant.contract.sensors, Sensor(name="power"))}
    )
    file = Path(plant.source.path) / "a.csv"
    header, *lines = file.read_text().splitlines()
    file.write_text("\n".join([f"{header},power", *(f"{line},1" for line in lines)]) + "\n")
    report = ingest(plant.model_copy(update={"contract": wider}), now=then)
    assert report.reasons == {"time_ahead": 1}


def test_the_limit_trains_nothing_anew_and_by_default_reads_no_file_again(tmp_path: Path) -> None:
    plant = plant_of(tmp_path, NOW)
    assert plant_settings(without_limit(plant)) == plant_settings(plant)
    ingest(plant, now=NOW)
    names = {"format", "delimiter", "decimal", "encoding", "skip_lines", "header", "sheet"}
    before = settings_digest(plant.contract, plant.source.model_dump(mode="json", include=names))
    (file,) = [r for b in rows(Lake(plant.lake, plant.contract).open(FILES)) for r in b.to_pylist()]
    assert file["contract_digest"] == before, "as lakes have it that know of no limit"


def test_a_limit_may_be_as_far_away_as_one_likes() -> None:
    assert Source(path="in", max_ahead_s=None).latest(NOW) == ANY_TIME
    assert Source(path="in", max_ahead_s=float("inf")).latest(NOW) == ANY_TIME
    assert Source(path="in", max_ahead_s=float("inf")).limit(NOW).latest == ANY_TIME
    assert Source(path="in", max_ahead_s=0).latest(NOW) == round(NOW.timestamp() * 1e6)


def test_a_sample_that_lies_ahead_makes_no_later_sample_late(tmp_path: Path) -> None:
    """The latest sample of an asset says how far its readings are formed."""
    text = PLANT.replace(
        "sensors", "sampling: {period_s: 60, max_gap_s: 300, resample: last}, sensors"
    )
    minute = timedelta(minutes=1)
    plant = plant_of(tmp_path, NOW, NOW + minute, NOW + 9000 * DAY, text=text)
    assert ingest(plant, now=NOW).reasons == {"time_ahead": 1}
    lines = [f"{(NOW + i * minute).isoformat()},a,{i}" for i in range(2, 6)]
    (tmp_path / "incoming/b.csv").write_text("\n".join(["time,pump,flow", *lines]) + "\n")
    shaped = ingest(plant, now=NOW).shaped
    assert shaped is not None
    assert (shaped.n_readings, shaped.n_late) == (4, 0)


# ------------------------------------------------------------- a lake that holds such a row already


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, database: Path) -> PlantConfig:
    plant = plant_with(tmp_path_factory.mktemp("template"), database)
    registered(plant, "a")
    return plant


@pytest.fixture
def plant(tmp_path: Path, template: PlantConfig) -> PlantConfig:
    """Its version judged a row of 2099 of pump a, before rows after now were refused."""
    plant = judged_by_the_first(tmp_path, template)
    file = Path(plant.source.path) / "0.csv"
    header, first, *_ = file.read_text().splitlines()
    assert ",a," in first.replace('"', "")
    ahead = "2099-01-01 00:00:00.000000," + first.partition(",")[2]
    (Path(plant.source.path) / "ahead.csv").write_text(f"{header}\n{ahead}\n")
    assert ingest(without_limit(plant)).counts.n_accepted == 1
    score(plant)
    return plant


def test_rows_that_come_later_are_not_late_and_raise_alarms(plant: PlantConfig) -> None:
    take_in(plant, 1)
    found = score(plant)
    assert found.n_late == 0
    assert found.alarms.n_late_over == 0
    take_in(plant, 2)
    late = score(without_limit(plant))
    assert late.n_late == N // 2, "where a row of 2099 counts, those of its pump are late"


def test_the_last_verdict_is_none_of_a_wrong_clock(plant: PlantConfig) -> None:
    verdicts = Lake(plant.lake, plant.contract).open(VERDICTS)
    limit = plant.source.latest(datetime.now(UTC))
    assert last_judged(verdicts, limit=limit) == moment(N - 1)
    last = last_judged(verdicts)
    assert last is not None
    assert last.year == 2099
    assert alarm_list(plant).until == moment(N - 1)
    assert Counter(row["late"] for row in verdicts_of(plant)) == {False: N + 1}
