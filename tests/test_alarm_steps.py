"""The table of alarms is the same however the verdicts came, and each alarm stands there once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from vae_anomaly.config import AlarmRule, Alarms, Contract, Exclusion, PlantConfig, Source
from vae_anomaly.data.lake import ALARMS, VERDICTS, Lake, commit, rows
from vae_anomaly.data.schemas import TABLES
from vae_anomaly.decisions.alarms import Evidence, episodes
from vae_anomaly.errors import InputError, LakeError
from vae_anomaly.steps.alarm_list import alarm_list, alarms_table
from vae_anomaly.steps.alarms import ALARM_RULE, AlarmReport, raise_alarms
from vae_anomaly.steps.label import label_alarms

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RULE = AlarmRule(raise_after=2, out_of=3, clear_after=3, clear_p_value=0.05, min_gap_s=240)


def plant_in(folder: Path, *maintenance: Exclusion) -> PlantConfig:
    return PlantConfig(
        name="p",
        lake=str(folder / "lake"),
        source=Source(path="incoming"),
        contract=Contract(time="time", asset="asset", sensors=("flow", "power")),
        alarms=Alarms(maintenance=maintenance),
    )


def stream(seed: int, *, n: int = 240, assets: Sequence[str] = "abc") -> pa.Table:
    """Verdicts of some assets, minute by minute, in the order of time."""
    generator = np.random.default_rng(seed)
    entries = []
    for minute in range(n):
        for asset in assets:
            status = generator.choice(
                ["normal", "anomaly", "off", "not_scored", "unseen_mode"],
                p=[0.66, 0.26, 0.02, 0.04, 0.02],
            )
            over = status == "anomaly"
            p_value = 0.001 if over else float(generator.uniform(0.01, 1))
            share = float(generator.random())
            entries.append(
                {
                    "line": "champion",
                    "asset": asset,
                    "time": BEGIN + minute * MINUTE,
                    "score": float(generator.uniform(5, 9)) if over else 1.0,
                    "threshold": 5.0,
                    "p_value": p_value if status in ("normal", "anomaly") else None,
                    "status": str(status),
                    "top_sensors": ["flow", "power"] if over else None,
                    "top_contributions": [share, 1 - share] if over else None,
                    "top_directions": ["high", "low"] if over else None,
                    "late": False,
                    "model_version": "1",
                }
            )
    return pa.Table.from_pylist(entries, schema=TABLES[VERDICTS])


def write(plant: PlantConfig, verdicts: pa.Table, rule: AlarmRule = RULE) -> None:
    """One commit of the champion's line, as `score` makes it."""
    table = Lake(plant.lake, plant.contract).writable(VERDICTS)
    number = (table.transaction_version("champion") or 0) + 1
    assert commit(table, verdicts, {"champion": number}, note={ALARM_RULE: rule.model_dump_json()})


def content(plant: PlantConfig) -> list[dict[str, object]]:
    """The table of alarms in the order of their begin, without when it was written."""
    table = Lake(plant.lake, plant.contract).open(ALARMS)
    found = pa.Table.from_batches(list(rows(table)), pa.schema(table.schema().to_arrow()))
    entries = found.drop_columns(["updated_at"]).to_pylist()
    return sorted(entries, key=lambda row: (row["asset"], row["start"]))


def pieces(verdicts: pa.Table, generator: np.random.Generator) -> Iterator[pa.Table]:
    """Spans of time of all assets, or of one after another."""
    cuts = np.sort(generator.integers(0, 240, size=int(generator.integers(1, 9))))
    for first, last in zip([0, *cuts], [*cuts, 240], strict=True):
        inside = pc.and_(
            pc.greater_equal(verdicts["time"], pa.scalar(BEGIN + int(first) * MINUTE)),
            pc.less(verdicts["time"], pa.scalar(BEGIN + int(last) * MINUTE)),
        )
        span = verdicts.filter(inside)
        if generator.random() < 0.5:
            yield span
        else:
            yield from (span.filter(pc.field("asset") == asset) for asset in "cab")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    plant = plant_in(tmp_path_factory.mktemp("whole"))
    write(plant, stream(0))
    raise_alarms(plant)
    return content(plant)


def test_alarms_are_those_of_the_rule_on_each_asset(whole: list[dict[str, object]]) -> None:
    verdicts = stream(0)
    assert len(whole) > 10
    for asset in "abc":
        own = verdicts.filter(pc.field("asset") == asset)
        own = own.filter(pc.field("status").isin(["normal", "anomaly", "off"]))
        status = np.array(own["status"].to_pylist())
        p_value = pc.fill_null(own["p_value"], 0).to_numpy().astype(float)
        evidence = Evidence.of(
            own["time"].cast(pa.int64()).to_numpy(), status == "anomaly", status == "off",
            p_value, RULE,
        )  # fmt: skip
        expected = episodes(evidence, RULE)
        found = [row for row in whole if row["asset"] == asset]
        assert [(row["n_rows"], row["state"], row["n_raised"]) for row in found] == [
            (alarm.n_over, alarm.state, alarm.n_raised) for alarm in expected
        ]
        micros = [int(row["start"].timestamp()) * 10**6 for row in found]  # type: ignore[attr-defined]
        assert micros == [alarm.start for alarm in expected]


@pytest.mark.parametrize("seed", range(4))
def test_alarms_are_the_same_however_the_verdicts_came(
    seed: int, whole: list[dict[str, object]], tmp_path: Path
) -> None:
    """In pieces, taken in now and then: kills between the two tables are among them."""
    generator = np.random.default_rng(seed)
    plant = plant_in(tmp_path)
    raised = 0
    for piece in pieces(stream(0), generator):
        write(plant, piece)
        if generator.random() < 0.6:
            raised += len(raise_alarms(plant).raised)
    raised += len(raise_alarms(plant).raised)
    assert content(plant) == whole
    assert raised == len(whole), "each alarm is told once"
    assert raise_alarms(plant).raised == ()


def test_what_an_alarm_says_is_the_sum_of_its_rows(whole: list[dict[str, object]]) -> None:
    verdicts = stream(0).to_pylist()
    for alarm in whole:
        own = [
            row for row in verdicts
            if row["asset"] == alarm["asset"] and row["status"] == "anomaly"
            and alarm["start"] <= row["time"] <= alarm["end"]
        ]  # fmt: skip
        if alarm["n_raised"] == 1:
            assert len(own) == alarm["n_rows"]
            assert alarm["peak_score"] == max(row["score"] for row in own)
            shares = dict(zip(alarm["top_sensors"], alarm["top_contributions"], strict=True))  # type: ignore[call-overload]
            flow = [row["top_contributions"][0] for row in own]
            assert shares["flow"] == pytest.approx(np.mean(flow))
        assert sorted(alarm["top_sensors"]) == ["flow", "power"]  # type: ignore[call-overload]


def test_late_verdicts_change_no_alarm(whole: list[dict[str, object]], tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    write(plant, stream(0))
    raise_alarms(plant)
    again = stream(5, n=50)
    late = again.set_column(
        again.schema.get_field_index("late"), "late", pa.repeat(True, len(again))
    )
    write(plant, late)
    report = raise_alarms(plant)
    assert report.raised == report.ended == ()
    assert report.n_late_over == pc.sum(pc.equal(late["status"], "anomaly")).as_py() > 0
    assert content(plant) == whole


def test_a_new_champion_brings_its_own_rule(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    verdicts = stream(1)
    write(plant, verdicts.slice(0, 360))
    write(plant, verdicts.slice(360), AlarmRule(raise_after=3, out_of=3, clear_after=1))
    raise_alarms(plant)
    border = BEGIN + 120 * MINUTE
    after = [row for row in content(plant) if row["start"] > border]  # type: ignore[operator]
    assert after
    assert all(row["n_rows"] >= 3 for row in after)  # type: ignore[operator]
    assert any(row["n_rows"] == 2 for row in content(plant))


def test_an_alarm_names_who_raised_it_and_who_gave_its_peak(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    verdicts = stream(1, n=40, assets="a").to_pylist()
    for minute in range(10, 30):
        score = 20.0 if minute == 25 else 6.0
        verdicts[minute] |= {
            "status": "anomaly",
            "score": score,
            "p_value": 0.001,
            "top_sensors": [],
            "top_contributions": [],
            "top_directions": [],
        }
    for minute in range(20, 40):
        verdicts[minute]["model_version"] = "2"
    for part in (verdicts[:20], verdicts[20:]):
        write(plant, pa.Table.from_pylist(part, schema=TABLES[VERDICTS]))
        raise_alarms(plant)
    (alarm,) = (row for row in content(plant) if row["peak_score"] == 20.0)
    assert (alarm["model_version"], alarm["peak_version"]) == ("1", "2")
    assert alarm["peak_time"] == BEGIN + 25 * MINUTE


def test_maintenance_of_an_asset_raises_nothing_there(tmp_path: Path) -> None:
    window = Exclusion(start=BEGIN, end=BEGIN + 200 * MINUTE, assets=("a*",))
    plant = plant_in(tmp_path, window)
    write(plant, stream(0))
    raise_alarms(plant)
    found = content(plant)
    assert min(r["start"] for r in found if r["asset"] == "a") >= window.end
    assert min(r["start"] for r in found if r["asset"] == "b") < BEGIN + 60 * MINUTE


def test_what_was_noted_is_gone_is_said(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    write(plant, stream(0, n=20))
    raise_alarms(plant)
    for file in sorted(Path(plant.lake, ALARMS, "_delta_log").glob("*.json"))[1:]:
        text = file.read_text().replace("alarm_states", "other_states")
        file.write_text(text)
    write(plant, stream(0, n=20))
    with pytest.raises(LakeError, match="move the folder alarms aside"):
        raise_alarms(plant)


def test_what_is_committed_meanwhile_changes_no_rule(
    whole: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rival's verdicts under another rule, and a compaction, while the alarms are taken in."""
    plant = plant_in(tmp_path)
    lake = Lake(plant.lake, plant.contract)
    write(plant, stream(0).slice(0, 300))
    write(plant, stream(0).slice(300))
    opened = Lake.open

    def opened_then_disturbed(self: Lake, name: str, *, version: int | None = None) -> DeltaTable:
        table = opened(self, name, version=version)
        if name == VERDICTS and version is not None:
            monkeypatch.setattr(Lake, "open", opened)
            write(plant, stream(0).slice(0, 0), AlarmRule())
            lake.writable(VERDICTS).optimize.compact()
        return table

    monkeypatch.setattr(Lake, "open", opened_then_disturbed)
    raise_alarms(plant)
    assert content(plant) == whole


def test_alarms_of_before_the_period_are_listed_and_not_counted_in_its_rate(
    tmp_path: Path,
) -> None:
    plant = plant_in(tmp_path)
    write(plant, stream(0))
    raise_alarms(plant)
    for minutes in (10, 20, 40):
        found = alarm_list(plant, days=minutes / 1440)
        raised = [moment >= found.since for moment in found.alarms["raised"].to_pylist()]
        assert found.load is not None
        assert found.load.n_alarms == sum(raised)


def test_scoring_nothing_raises_nothing(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    write(plant, stream(0).slice(0, 0))
    assert raise_alarms(plant) == AlarmReport()


def test_list_has_the_latest_first_and_what_they_ask_of_people(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    write(plant, stream(0))
    raise_alarms(plant)
    found = alarm_list(plant, days=1)
    starts = found.alarms["start"].to_pylist()
    assert starts == sorted(starts, reverse=True)
    assert len(starts) == len(content(plant))
    assert found.load is not None
    assert found.load.n_alarms == len(starts)
    assert found.load.per_asset_day.value == pytest.approx(len(starts) / (3 * 239 / 1440))
    text = alarms_table(found).markdown()
    assert f"{len(starts)} alarms of {found.n_rows_over:,} rows over the threshold" in text
    assert "flow high" in text
    only = alarm_list(plant, asset="b", days=1)
    assert set(only.alarms["asset"].to_pylist()) == {"b"}
    recent = alarm_list(plant, days=30 / 1440)
    assert 0 < recent.alarms.num_rows < len(starts)


def test_list_can_leave_out_what_people_have_answered(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    write(plant, stream(0))
    raise_alarms(plant)
    (first, *others) = alarm_list(plant, days=1).alarms["alarm_id"].to_pylist()
    label_alarms(plant, [first], "unknown", who="ann")
    said = alarms_table(alarm_list(plant, days=1))
    assert dict.fromkeys([first], "unknown") == {r[1]: r[-1] for r in said.rows if r[-1]}
    waiting = alarm_list(plant, days=1, unsaid_only=True)
    assert waiting.alarms["alarm_id"].to_pylist() == others
    assert waiting.load == alarm_list(plant, days=1).load
    assert alarms_table(waiting).summary.startswith(f"{len(others)} alarms without an answer of")


def test_list_refuses_what_nobody_scored(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    write(plant, stream(0, n=30))
    raise_alarms(plant)
    with pytest.raises(InputError, match="no verdict of the last 30 days is of asset 'z'"):
        alarm_list(plant, asset="z")
    with pytest.raises(InputError, match="days=0"):
        alarm_list(plant, days=0)
