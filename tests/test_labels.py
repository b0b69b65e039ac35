"""What people say of alarms is kept, the last word holds, and files are taken in once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from test_alarm_steps import BEGIN, MINUTE, RULE, content, plant_in, stream, write

from vae_anomaly.cli import main
from vae_anomaly.config import AlarmRule, PlantConfig
from vae_anomaly.data.lake import ALARMS, READINGS, Lake, commit
from vae_anomaly.decisions.alarms import LATCHED
from vae_anomaly.errors import InputError, LakeError, SourceError
from vae_anomaly.steps.alarm_list import alarm_list, alarms_table
from vae_anomaly.steps.alarms import raise_alarms
from vae_anomaly.steps.label import import_labels, label_alarms, label_failure, label_table
from vae_anomaly.steps.said import Said, append, holding, read_said

LATCHING = AlarmRule(clear_after=2, latched=True)


def alarmed(folder: Path, rule: AlarmRule = RULE) -> PlantConfig:
    """A plant with a few minutes of readings, verdicts and alarms."""
    plant = plant_in(folder)
    lake = Lake(plant.lake, plant.contract)
    entries = [{"asset": asset, "time": BEGIN, "ingest": 1} for asset in "abc"]
    readings = pa.Table.from_pylist(entries, schema=lake.schema(READINGS))
    assert commit(lake.writable(READINGS), readings, {"ingest": 1})
    write(plant, stream(0, n=90), rule)
    raise_alarms(plant)
    return plant


def said(plant: PlantConfig) -> list[Said]:
    return read_said(Lake(plant.lake, plant.contract))


def test_the_last_word_holds_and_the_others_are_kept(tmp_path: Path) -> None:
    plant = alarmed(tmp_path)
    first, second = (str(row["alarm_id"]) for row in content(plant)[:2])
    label_alarms(plant, [first[:6], second], "fault", fault="worn bearing", who="ada")
    report = label_alarms(plant, [first], "false-alarm", who="ben", comment="start-up")
    assert report.written[0].number == 3
    assert [entry.number for entry in said(plant)] == [1, 2, 3]
    held = {entry.alarm_id: entry.in_words() for entry in holding(said(plant))}
    assert held == {first: "false alarm", second: "fault: worn bearing"}
    again = label_alarms(plant, [first], "false_alarm", who="ben", comment="start-up")
    assert (again.written, again.n_known) == ((), 1)
    back = label_alarms(plant, [first], "fault", fault="worn bearing", who="ada")
    assert len(back.written) == 1
    assert len({entry.label_id for entry in said(plant)}) == 4
    assert "1 label written." in label_table(back).markdown()
    (note,) = label_table(back).notes
    assert "`vae-anomaly recalibrate` sets the threshold by faults and false alarms" in note
    (note,) = label_table(label_alarms(plant, [first], "maintenance", who="ada")).notes
    assert "not learnt from" in note


def test_a_label_says_whose_alarm_it_was_and_when(tmp_path: Path) -> None:
    plant = alarmed(tmp_path)
    row = content(plant)[3]
    entry = label_alarms(plant, [str(row["alarm_id"])], "maintenance", who="ada").written[0]
    assert entry.asset == row["asset"]
    assert entry.start == row["start"].timestamp() * 1e6  # type: ignore[attr-defined]
    assert entry.end == row["end"].timestamp() * 1e6  # type: ignore[attr-defined]
    assert said(plant) == [entry]


def test_an_id_that_is_not_one_alarm_is_refused_with_those_near_it(tmp_path: Path) -> None:
    plant = alarmed(tmp_path)
    name = str(content(plant)[0]["alarm_id"])
    wrong = name[:-1] + ("0" if name[-1] != "0" else "1")
    with pytest.raises(InputError, match=f"no alarm has the id '{wrong}'; did you mean '{name}'"):
        label_alarms(plant, [wrong], "fault", who="ada")
    with pytest.raises(InputError, match="no alarm has the id 'xyz'; the latest are "):
        label_alarms(plant, ["xyz"], "fault", who="ada")
    with pytest.raises(InputError, match="no alarm has the id ''"):
        label_alarms(plant, [""], "fault", who="ada")
    digits = [str(row["alarm_id"])[0] for row in content(plant)]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(InputError, match=f"alarms begin with '{twice}': .*give more digits"):
        label_alarms(plant, [twice], "fault", who="ada")
    with pytest.raises(InputError, match="verdict 'fine' is not known"):
        label_alarms(plant, [name], "fine", who="ada")
    with pytest.raises(InputError, match="'worn' is named, but the verdict is 'unknown'"):
        label_alarms(plant, [name], "unknown", fault="worn", who="ada")
    assert said(plant) == []


def test_a_plant_without_alarms_says_so(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no table 'alarms'"):
        label_alarms(plant_in(tmp_path), ["a"], "fault", who="ada")


def test_rivals_get_numbers_of_their_own(tmp_path: Path) -> None:
    """A rival commits between the look and the write: the look is repeated."""
    lake = Lake(plant_in(tmp_path).lake, plant_in(tmp_path).contract)
    entry = Said("a", 0, 9, "fault", who="ada")
    looks = []

    def choose(before: object) -> list[Said]:
        looks.append(before)
        if len(looks) == 1:
            append(lake, lambda _: [replace(entry, who="ben")])
        return [entry]

    append(lake, choose)
    assert len(looks) == 2
    assert [(e.number, e.who) for e in read_said(lake)] == [(1, "ben"), (2, "ada")]


# ----------------------------------------------------------------------------------------- files


def test_own_file_is_taken_in_once(tmp_path: Path) -> None:
    plant = alarmed(tmp_path)
    name = str(content(plant)[0]["alarm_id"])
    file = tmp_path / "labels.csv"
    file.write_text(
        "alarm_id,asset,start,end,verdict,fault,comment,who\n"
        f"{name[:7]},,,,false-alarm,,,ben\n"
        "\n"
        ",b,2026-03-01T01:00:00+01:00,2026-03-01 00:30,fault,leak,,\n"
    )
    report = import_labels(plant, file, who="ada")
    assert [(e.alarm_id, e.in_words(), e.who) for e in report.written] == [
        (name, "false alarm", "ben"), (None, "fault: leak", "ada"),
    ]  # fmt: skip
    span = report.written[1]
    assert (span.start, span.end) == (
        BEGIN.timestamp() * 1e6,
        (BEGIN + 30 * MINUTE).timestamp() * 1e6,
    )
    label_alarms(plant, [name], "fault", who="cleo")
    again = import_labels(plant, file, who="dan")
    assert (again.written, again.n_known) == ((), 2)
    assert holding(said(plant))[-1].verdict == "fault", "an old file overrules nobody"


def test_spans_of_lookout_for_equipment_are_faults(tmp_path: Path) -> None:
    plant = alarmed(tmp_path)
    file = tmp_path / "labels.csv"
    file.write_text(
        "2026-03-01T00:10:00,2026-03-01T00:20:00\n2026-03-01T01:00:00Z,2026-03-01T01:01:00Z\n"
    )
    with pytest.raises(SourceError, match="row 1: no asset is named; allowed: a, b, c; or give"):
        import_labels(plant, file, who="ada")
    report = import_labels(plant, file, asset="b", who="ada")
    assert [(e.asset, e.verdict, e.end - e.start) for e in report.written] == [
        ("b", "fault", 600 * 10**6), ("b", "fault", 60 * 10**6),
    ]  # fmt: skip
    assert import_labels(plant, file, asset="b", who="ada").n_known == 2
    assert len(import_labels(plant, file, asset="c", who="ada").written) == 2


GOOD = "asset,start,end,verdict\na,2026-03-01T00:10,2026-03-01T00:20,unknown\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "z,2026-03-01,2026-03-02,fault\n", "row 3: asset 'z' is not known"),
        (GOOD + "a,soon,2026-03-02,fault\n", "row 3: 'soon' is not a time"),
        (GOOD + "a,2026-03-03,2026-03-02,fault\n", "row 3: start 2026-03-03 is behind end"),
        (GOOD + "a,2026-03-01,2026-03-02,good\n", "row 3: verdict 'good' is not known"),
        (GOOD + "a,2026-03-01,2026-03-02\n", "row 3: 3 cells, and there are 4 columns"),
        ("alarm_id,verdict\nnone,fault\n", "row 2: no alarm has the id 'none'"),
        ("asset,start,end\n", "column 'verdict' is missing"),
        ("asset,start,finish,verdict\n", "column 'finish' is not known"),
        ("", "says nothing"),
    ],
)
def test_a_bad_row_refuses_the_whole_file(text: str, message: str, tmp_path: Path) -> None:
    plant = alarmed(tmp_path)
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(SourceError, match=message):
        import_labels(plant, file, who="ada")
    assert said(plant) == []


# -------------------------------------------------------------------------- alarms that are latched


def test_an_answered_alarm_is_released_once_and_without_new_verdicts(tmp_path: Path) -> None:
    plant = alarmed(tmp_path, LATCHING)
    waiting = [row for row in content(plant) if row["state"] == LATCHED]
    assert waiting
    name = str(waiting[0]["alarm_id"])
    label_alarms(plant, [name], "unknown", who="ada")
    report = raise_alarms(plant)
    assert [(alarm.asset, alarm.episode.state) for alarm in report.ended] == [
        (waiting[0]["asset"], "ended")
    ]
    states = {row["alarm_id"]: row["state"] for row in content(plant)}
    assert states.pop(name) == "ended"
    assert all(states[row["alarm_id"]] == LATCHED for row in waiting[1:])
    table = Lake(plant.lake, plant.contract).open(ALARMS)
    assert raise_alarms(plant).ended == ()
    assert Lake(plant.lake, plant.contract).open(ALARMS).version() == table.version()


def test_an_alarm_answered_while_it_lasts_does_not_wait_when_it_is_over(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    rows = stream(0, n=40, assets="a")
    over = rows.filter(pc.field("status") == "anomaly").slice(0, 1).to_pylist()[0]
    normal = rows.filter(pc.field("status") == "normal").slice(0, 1).to_pylist()[0]

    def verdicts(first: int, *entries: dict[str, object]) -> pa.Table:
        timed = [{**e, "time": BEGIN + (first + i) * MINUTE} for i, e in enumerate(entries)]
        return pa.Table.from_pylist(timed, schema=rows.schema)

    write(plant, verdicts(0, normal, over, over), LATCHING)
    raise_alarms(plant)
    label_alarms(plant, [str(content(plant)[0]["alarm_id"])], "fault", who="ada")
    assert raise_alarms(plant).ended == ()
    write(plant, verdicts(3, normal, normal, over, normal, normal), LATCHING)
    raise_alarms(plant)
    assert [(row["n_rows"], row["state"]) for row in content(plant)] == [(2, "ended"), (1, LATCHED)]


def test_alarms_are_the_same_whether_the_answer_or_the_verdicts_are_taken_in_first(
    tmp_path: Path,
) -> None:
    found = []
    for taken_in_at_once in (False, True):
        plant = alarmed(tmp_path / str(taken_in_at_once), LATCHING)
        label_alarms(plant, [str(content(plant)[0]["alarm_id"])], "fault", who="ada")
        if taken_in_at_once:
            raise_alarms(plant)
        later = stream(7, n=40).to_pylist()
        for row in later:
            row["time"] += timedelta(minutes=90)
        write(plant, pa.Table.from_pylist(later, schema=stream(7, n=1).schema), LATCHING)
        raise_alarms(plant)
        found.append(content(plant))
    assert found[0] == found[1]


def test_the_list_shows_what_people_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = alarmed(tmp_path)
    name = str(content(plant)[0]["alarm_id"])
    label_alarms(plant, [name], "fault", fault="worn bearing", who="ada")
    found = alarm_list(plant, days=1)
    lines = alarms_table(found).markdown().splitlines()
    shown = [line for line in lines if "fault: worn bearing" in line]
    assert len(shown) == 1
    assert name in shown[0]


def test_the_list_says_how_early_alarms_told_of_failures(tmp_path: Path) -> None:
    plant = alarmed(tmp_path)
    assert alarm_list(plant, days=1).foretold is None
    # the last alarm of the asset that has most, and its failure just before that is over
    alarms = [row for row in content(plant) if row["asset"] == "a"]
    last = max(alarms, key=lambda row: row["raised"])
    failed = last["raised"] + timedelta(minutes=1)
    report = label_failure(plant, "a", failed.isoformat(), fault="seal", who="ada")
    assert report.written[0].in_words() == "failure: seal"
    (note,) = label_table(report).notes
    assert "`recalibrate` counts no failure as a fault" in note
    assert label_failure(plant, "a", failed.isoformat(), fault="seal", who="ada").n_known == 1
    found = alarm_list(plant, days=1, horizon_days=5 / 1440)
    assert found.foretold is not None
    assert (found.foretold.n_failures, found.foretold.n_warned) == (1, 1)
    assert found.foretold.leads_s == (60.0,)
    others = [row for row in content(plant) if row["alarm_id"] != last["alarm_id"]]
    near = [r for r in others if r["asset"] == "a" and r["raised"] > failed - timedelta(minutes=5)]
    assert found.foretold.n_false == len(others) - len(near)
    assert "1 of 1 failures foretold" in alarms_table(found).markdown()
    # a failure is no alarm's, and what was told of it leaves the alarm as it was
    assert {row["state"] for row in content(plant)} == {row["state"] for row in content(plant)}
    only_b = alarm_list(plant, asset="b", days=1)
    assert only_b.foretold is None, "nobody told of a failure of b"


def test_a_failure_is_of_an_asset_at_a_moment(tmp_path: Path) -> None:
    plant = alarmed(tmp_path)
    name = str(content(plant)[0]["alarm_id"])
    with pytest.raises(InputError, match="not of an alarm"):
        label_alarms(plant, [name], "failure", who="ada")
    with pytest.raises(InputError, match="asset 'z' is not known; allowed: a, b, c"):
        label_failure(plant, "z", "2026-03-01T00:10", who="ada")
    with pytest.raises(InputError, match="'soon' is not a time"):
        label_failure(plant, "a", "soon", who="ada")
    file = tmp_path / "labels.csv"
    file.write_text(f"alarm_id,verdict\n{name},failure\n")
    with pytest.raises(SourceError, match="a failure is of an asset at a moment"):
        import_labels(plant, file, who="ada")
    file.write_text("asset,start,end,verdict\na,2026-03-01T00:10,,failure\n")
    (entry,) = import_labels(plant, file, who="ada").written
    assert entry.start == entry.end == (BEGIN + 10 * MINUTE).timestamp() * 1e6
    with pytest.raises(InputError, match="horizon_days=0 is no period"):
        alarm_list(plant, horizon_days=0)


def test_command_labels_alarms_and_refuses_half_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = alarmed(tmp_path)
    file = tmp_path / "plant.yml"
    file.write_text(
        f"name: p\nlake: {plant.lake}\nsource: {{path: incoming}}\n"
        "contract: {time: time, asset: asset, sensors: [flow, power]}\n"
    )
    first, second = (str(row["alarm_id"]) for row in content(plant)[:2])
    assert main(["label", str(file), first, second, "--as", "false-alarm", "--who", "ada"]) == 0
    assert "2 labels written" in capsys.readouterr().out
    assert [entry.verdict for entry in said(plant)] == ["false_alarm"] * 2
    at = ["--asset", "a", "--at", "2026-03-01T00:10"]
    assert main(["label", str(file), "--as", "failure", *at, "--who", "ada"]) == 0
    assert "moment" in capsys.readouterr().out
    for wrong in (
        [],
        [first],
        [first, "--from", str(file)],
        ["--from", str(file), "--as", "fault"],
        [first, "--as", "failure"],
        ["--as", "failure", "--asset", "a"],
        [first, "--as", "fault", "--at", "2026-03-01"],
    ):
        assert main(["label", str(file), *wrong]) == 1
        assert "error: " in capsys.readouterr().err
