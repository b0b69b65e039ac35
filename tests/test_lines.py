"""Lines beside the champion: exactly once, by the same code, and nothing raised of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sealed
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_plant import (
    N,
    champion_of,
    judged_by_the_first,
    moment,
    plant_with,
    registered,
    take_in,
    verdicts_of,
    version_of,
    with_versions,
)

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import ALARMS, VERDICTS, Lake, rows
from vae_anomaly.data.schemas import TABLES
from vae_anomaly.errors import InputError, RegistryError, RegistryUnreachableError
from vae_anomaly.package import ModelPackage
from vae_anomaly.report import score_table
from vae_anomaly.steps import lines
from vae_anomaly.steps.alarm_list import alarm_list
from vae_anomaly.steps.alarms import CHAMPION
from vae_anomaly.steps.backfill import backfill, backfill_table
from vae_anomaly.steps.beside import beside_champion
from vae_anomaly.steps.feedback import read_feedback
from vae_anomaly.steps.history import judged_by
from vae_anomaly.steps.lines import last_judged
from vae_anomaly.steps.marked import marked_rows
from vae_anomaly.steps.promote import promote, promote_table
from vae_anomaly.steps.said import Said, append
from vae_anomaly.steps.score import score
from vae_anomaly.tracking import champion_package, open_tracking

#: What a verdict says, whoever asked for it.
SAID = ("asset", "time", "score", "threshold", "p_value", "status", "top_sensors", "late")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, database: Path) -> PlantConfig:
    """Two versions, of which the second takes nearly every row for an anomaly."""
    plant = plant_with(tmp_path_factory.mktemp("template"), database)
    registered(plant, "a")
    registered(plant, "b", shift=-50.0)
    return plant


@pytest.fixture
def plant(tmp_path: Path, template: PlantConfig) -> PlantConfig:
    return judged_by_the_first(tmp_path, template)


def of_line(plant: PlantConfig, line: str) -> list[dict[str, object]]:
    return [row for row in verdicts_of(plant) if row["line"] == line]


def said(entries: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return [tuple(str(row[name]) for name in SAID) for row in entries]


def alarms_of(plant: PlantConfig) -> list[dict[str, object]]:
    table = Lake(plant.lake, plant.contract).open(ALARMS)
    return sorted((r for b in rows(table) for r in b.to_pylist()), key=lambda r: r["alarm_id"])


# ------------------------------------------------------------------------------- the last verdict


def with_files(folder: Path, *files: list[tuple[str, int]]) -> DeltaTable:
    """Verdicts of (line, second), the lines of a file mixed as compaction leaves them."""
    table = Lake(str(folder), sealed.CONTRACT).writable(VERDICTS)
    for entries in files:
        known = {"line": [line for line, _ in entries], "time": [moment(n) for _, n in entries]}
        columns = [
            pa.array(known.get(field.name, [None] * len(entries)), field.type)
            for field in TABLES[VERDICTS]
        ]
        rows_of_file = pa.Table.from_arrays(columns, schema=TABLES[VERDICTS])
        write_deltalake(table, rows_of_file, mode="append")
    return table


a_file = st.lists(
    st.tuples(st.sampled_from(["backfill:1:a..b", CHAMPION, "shadow:2"]), st.integers(1, 20)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(files=st.lists(a_file, max_size=5), limit=st.integers(1, 20))
def test_last_verdict_of_the_champion_is_the_last_of_its_line(
    files: list[list[tuple[str, int]]], limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = with_files(tmp_path_factory.mktemp("lake"), *files)
    own = [n for entries in files for line, n in entries if line == CHAMPION and n <= limit]
    assert last_judged(table, limit=limit * 10**6) == (moment(max(own)) if own else None)


def test_last_verdict_is_found_without_reading_files_of_the_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = [range(start, start + 10) for start in (20, 0, 10)]
    mixed = [[(line, n) for n in span for line in (CHAMPION, "shadow:2")] for span in spans]
    table = with_files(tmp_path, *mixed)
    seen: list[datetime] = []

    def watched(
        table: DeltaTable, *, columns: list[str], where: pc.Expression
    ) -> Iterator[pa.RecordBatch]:
        for batch in rows(table, columns=columns, where=where):
            seen.extend(batch["time"].to_pylist())
            yield batch

    monkeypatch.setattr(lines, "rows", watched)
    assert last_judged(table) == moment(29)
    assert sorted(seen) == [moment(n) for n in range(20, 30)]


# ---------------------------------------------------------------------------------------- backfill


def test_backfill_says_what_the_champion_said_of_these_rows(plant: PlantConfig) -> None:
    """Left context before the range is read: from the lake, and from the same commit."""
    take_in(plant, 1)
    score(plant)
    start, end = moment(N // 2).isoformat(), moment(N + 7).isoformat()
    report = backfill(plant, start, end)
    inside = [moment(number) for number in range(N // 2, N + 7)]
    expected = [r for r in of_line(plant, "champion") if r["time"] in inside]
    assert report.n_rows == len(expected) == N // 2 + 7
    assert said(of_line(plant, report.line)) == said(expected)


def test_backfill_again_does_nothing_and_goes_on_after_a_kill(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in(plant, 1, 2)
    monkeypatch.setattr(lines, "GROUP_ROWS", N)
    first, last = "1970-01-01T00:00:10", "1970-01-01T00:05:00+00:00"

    def stop(done: int, last: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill(plant, first, last, model_version="2", asset="b", on_group=stop)
    rest = backfill(plant, first, last, model_version="2", asset="b")
    assert rest.first_version > 0
    judged = of_line(plant, rest.line)
    assert [row["time"] for row in judged] == [moment(i) for i in range(11, 300, 2)]
    assert {row["model_version"] for row in judged} == {"2"}
    again = backfill(plant, first, last, model_version="2", asset="b")
    assert again.n_rows == 0
    assert "Nothing to do" in backfill_table(again).summary
    assert of_line(plant, rest.line) == judged


def test_backfill_refuses_what_it_cannot_do(plant: PlantConfig) -> None:
    with pytest.raises(InputError, match="is not before --to"):
        backfill(plant, "1970-01-02", "1970-01-02")
    with pytest.raises(InputError, match="no reading is of asset 'z'; allowed: a, b"):
        backfill(plant, "1970-01-01", "1970-01-02", asset="z")
    reach = "no readings lie there; they reach from 1970-01-01 00:00:00 to 1970-01-01 00:"
    with pytest.raises(InputError, match=reach):
        backfill(plant, "2026-01-01", "2026-01-02")
    with pytest.raises(InputError, match="no readings of 'b' lie there; they reach from 1970"):
        backfill(plant, "2026-01-01", "2026-01-02", asset="b")
    with pytest.raises(RegistryError, match=r"'12'; there are: 1 \(champion\), 2"):
        backfill(plant, "1970-01-01", "1970-01-02", model_version="12")


# ------------------------------------------------------------------------------------------ shadow


def test_challenger_judges_what_the_champion_judges_from_then_on(plant: PlantConfig) -> None:
    score(plant)
    open_tracking(plant).set_challenger(version_of(plant, 2))
    assert score(plant).shadow is not None
    assert of_line(plant, "shadow:2") == []
    take_in(plant, 1, 2)
    report = score(plant)
    assert report.shadow is not None
    assert report.shadow.n_rows == report.n_rows == 2 * N
    ours, theirs = of_line(plant, "shadow:2"), of_line(plant, "champion")
    keys = [(r["asset"], r["time"]) for r in ours]
    assert keys == [(r["asset"], r["time"]) for r in theirs if r["time"] >= moment(N)]  # type: ignore[operator]
    assert sum(r["status"] == "anomaly" for r in ours) > N
    assert "challenger version 2 judged 240 rows" in score_table(report).markdown()


def test_challenger_s_trouble_costs_the_champion_nothing(
    plant: PlantConfig, caplog: pytest.LogCaptureFixture
) -> None:
    version = version_of(plant, 2)
    tracking = open_tracking(plant)
    tracking.set_challenger(version)
    tracking.set_tags(version, {"vae_anomaly.package_digest": "0" * 64})
    report = score(plant)
    assert report.n_rows == N
    assert report.shadow is not None
    assert "not the one that was registered" in report.shadow.trouble
    assert "did not judge beside the champion" in caplog.text
    assert "did not judge" in score_table(report).markdown()
    tracking.set_tags(version, {"vae_anomaly.package_digest": version.digest})
    assert score(plant).shadow.n_rows == N, "what was missed is made up for"  # type: ignore[union-attr]


def test_champion_whose_copy_is_damaged_is_fetched_again_and_judges_alike(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = champion_package(plant).folder
    gate, two = open_tracking(plant).config.gate, version_of(plant, 2)
    challenger = ModelPackage.read(
        open_tracking(plant).fetch_package(two, plant.work_path / "packages")
    )
    for judges in (
        lambda: score(plant).n_rows == N,
        lambda: beside_champion(plant, two, challenger, gate).figures == (),
    ):
        (package / "scorer-0.safetensors").write_bytes(b"damaged")
        caplog.clear()
        assert judges()
        assert "version 1 on this machine is damaged, and is fetched again" in caplog.text
    (package / "package.json").write_text("{}")
    take_in(plant, 1)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.raises(RegistryUnreachableError, match=r"version 1 cannot judge: .*json has"):
            score(plant)
    assert len(of_line(plant, "champion")) == N
    assert score(plant).n_rows == N


def test_kill_between_the_lines_loses_the_challenger_no_row(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_tracking(plant).set_challenger(version_of(plant, 2))

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vae_anomaly.steps.score.score_shadow", killed)
        with pytest.raises(KeyboardInterrupt):
            score(plant)
    assert len(of_line(plant, "champion")) == N
    score(plant)
    assert len(of_line(plant, "shadow:2")) == N


# ------------------------------------------------------ nobody who reads the champion sees another


@pytest.mark.slow
def test_other_lines_change_nothing_that_is_read_of_the_champion(
    plant: PlantConfig, tmp_path: Path, template: PlantConfig
) -> None:
    alone = with_versions(tmp_path / "alone", template)
    take_in(alone, 0)
    champion_of(alone, version_of(alone, 1))
    open_tracking(plant).set_challenger(version_of(plant, 2))
    for number in (1, 2):
        for own in (plant, alone):
            take_in(own, number)
            score(own)
        backfill(plant, "1970-01-01", "1970-01-02", model_version="2")
        backfill(plant, "1970-01-01", "1970-01-02", model_version="1")
    assert len(verdicts_of(plant)) > 2 * len(verdicts_of(alone))
    assert said(of_line(plant, "champion")) == said(of_line(alone, "champion"))
    for name in ("alarm_id", "start", "end", "state", "n_rows", "peak_score", "top_sensors"):
        assert [r[name] for r in alarms_of(plant)] == [r[name] for r in alarms_of(alone)]
    mine, theirs = (alarm_list(own) for own in (plant, alone))
    assert (mine.until, mine.n_rows_over, mine.load) == (
        theirs.until, theirs.n_rows_over, theirs.load,
    )  # fmt: skip
    assert judged_by(plant, "a", "1970-01-01") == judged_by(alone, "a", "1970-01-01")
    marked = []
    for own in (plant, alone):
        lake = Lake(own.lake, own.contract)
        package = ModelPackage.read(champion_package(own).folder)
        feedback = read_feedback(lake, numbered=False)
        marked.append(marked_rows(own, lake, package, {package.digest}, feedback)["*"])
    for one, other in zip(*marked, strict=True):
        np.testing.assert_array_equal(one.history.score, other.history.score)
        np.testing.assert_array_equal(one.history.time, other.history.time)


def test_list_of_alarms_ends_with_the_champion_s_last_verdict(plant: PlantConfig) -> None:
    score(plant)
    take_in(plant, 1)
    backfill(plant, "1970-01-01", "1970-01-02")
    assert alarm_list(plant).until == moment(N - 1)
    lake = Lake(plant.lake, plant.contract)
    lake.writable(VERDICTS).optimize.compact()
    assert alarm_list(plant).until == moment(N - 1)


# -------------------------------------------------------------------------------- the gate, beside


@pytest.mark.slow
@pytest.mark.parametrize(("number", "decision"), [(1, "promoted"), (2, "refused")])
def test_gate_rules_once_the_challenger_has_judged_for_long_enough(
    number: int, decision: str, plant: PlantConfig, tmp_path: Path
) -> None:
    """A twin of the champion is no worse; one that takes all for anomalies is."""
    days = 2 * N / 86_400 * 1.5  # two files are more, one is less
    (tmp_path / "mlflow.yml").write_text(f"gate: {{shadow_days: {days}}}\n")
    plant = plant.model_copy(update={"mlflow": str(tmp_path / "mlflow.yml")})
    version = registered(plant, "c") if number == 1 else version_of(plant, 2)
    tracking = open_tracking(plant)
    tracking.set_challenger(version)
    tracking.set_tags(version, {"vae_anomaly.decision": "waiting"})
    first = score(plant).shadow
    assert first is not None
    assert first.ruling is None
    take_in(plant, 1, 2)
    second = score(plant).shadow
    assert second is not None
    assert second.trouble == ""
    assert second.ruling is not None
    assert second.ruling.decision == decision
    expected = version.version if decision == "promoted" else "1"
    assert champion_package(plant).version == expected
    if decision == "refused":
        with pytest.raises(
            RegistryError, match="the gate refused version 2: rows over the threshold"
        ):
            promote(plant, "2")
        assert promote(plant, "2", dry_run=True).beside.asset_days > days


def test_entries_about_one_event_are_one_fault_beside_the_champion(plant: PlantConfig) -> None:
    two = version_of(plant, 2)
    open_tracking(plant).set_challenger(two)
    take_in(plant, 1)
    score(plant)
    first, failed, last = (int(moment(N + at).timestamp() * 1e6) for at in (10, 30, 60))
    spans = ((first, last, "fault"), (failed, failed, "failure"), (failed, last + 1, "fault"))
    said = [Said("a", start, end, verdict) for start, end, verdict in spans]
    append(Lake(plant.lake, plant.contract), lambda _: said)
    figures = {f.figure: f for f in promote(plant, "2", dry_run=True).beside.figures}
    assert figures["confirmed faults found in service"].n_faults == 1
    rows = {row[0]: row for row in promote_table(promote(plant, "2", dry_run=True)).rows}
    assert rows["confirmed faults found in service"][2] in ("0 of 1", "1 of 1")
    assert "(" not in rows["confirmed faults found in service"][3], "one fault has no interval"


def test_promote_refuses_what_is_worse_beside_the_champion(plant: PlantConfig) -> None:
    """The gate was never asked in service, and a person is not left to read the table."""
    tracking, version = open_tracking(plant), version_of(plant, 2)
    tracking.set_challenger(version)
    tracking.set_tags(version, {"vae_anomaly.decision": "waiting"})
    score(plant)
    take_in(plant, 1, 2)
    score(plant)
    with pytest.raises(RegistryError, match="version 2 is worse beside the champion: rows over"):
        promote(plant, "2")
    assert champion_package(plant).version == "1"
    assert promote(plant, "2", force=True).champion == "2"
