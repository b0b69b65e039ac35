"""The run condition: its grammar, what it says of rows, and what becomes of rows outside it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import naive
import numpy as np
import pyarrow as pa
import pytest
from crash import run_all
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from vae_anomaly import ModelPackage
from vae_anomaly.config import Contract, PlantConfig, read_plant
from vae_anomaly.config.condition import (
    Both,
    Compared,
    Condition,
    Either,
    Missing,
    Not,
    OneOf,
    parse,
    text_of,
)
from vae_anomaly.data.aside import set_aside
from vae_anomaly.data.condition import truth
from vae_anomaly.data.lake import READINGS, VERDICTS, Lake, rows
from vae_anomaly.errors import ConfigError, InputError
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import latest_trained

numbers = st.integers(-3, 3).map(float) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_characters="'", exclude_categories=["Cs"]), max_size=5)
number_column = st.sampled_from(["speed", "PT-101", "oil temp", "and"])
text_column = st.sampled_from(["mode", "Größe"])
tests = (
    st.builds(Compared, number_column, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers)
    | st.builds(Compared, text_column, st.sampled_from(["==", "!="]), texts)
    | st.builds(OneOf, number_column, st.lists(numbers, min_size=1, max_size=3).map(tuple))
    | st.builds(OneOf, text_column, st.lists(texts, min_size=1, max_size=3).map(tuple))
    | st.builds(Missing, number_column | text_column)
)
trees: st.SearchStrategy[Condition] = st.recursive(
    tests,
    lambda part: (
        st.builds(Not, part)
        | st.builds(Both, st.lists(part, min_size=2, max_size=3).map(tuple))
        | st.builds(Either, st.lists(part, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=12,
)


@given(tree=trees)
def test_what_is_written_is_read_again(tree: Condition) -> None:
    assert parse(text_of(tree)) == tree


@given(
    tree=trees,
    entries=st.lists(
        st.fixed_dictionaries(
            dict.fromkeys(["speed", "PT-101", "oil temp", "and"], st.none() | numbers)
            | dict.fromkeys(["mode", "Größe"], st.none() | texts)
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_rows_are_told_apart_as_a_loop_does(
    tree: Condition, entries: list[dict[str, object]]
) -> None:
    kinds = {name: pa.float64() for name in ("speed", "PT-101", "oil temp", "and")}
    schema = pa.schema([*kinds.items(), ("mode", pa.string()), ("Größe", pa.string())])
    found = truth(tree, pa.Table.from_pylist(entries, schema)).to_pylist()
    assert found == [naive.held(tree, row) for row in entries]


@given(
    text=st.text(max_size=60)
    | st.lists(
        st.sampled_from(["(", ")", "not ", "a ", "> ", "1 ", "'x' ", "and ", "or ", "in ", "is ",
                         "missing ", ",", "`", "1e999 ", "\n"])
    ).map("".join)
)  # fmt: skip
@settings(max_examples=300)
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        tree = parse(text)
    except ConfigError:
        return
    assert parse(text_of(tree)) == tree


@pytest.mark.parametrize("text", ["(" * 5000, "not " * 2000 + "a > 1", "a > 1 and " * 5000])
def test_depth_and_length_have_an_end(text: str) -> None:
    with pytest.raises(ConfigError, match=r"levels of|characters"):
        parse(text)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("speed >", r"character 8; there may stand a finite number"),
        ("speed = 3", r"character 7"),
        (
            "speed > 'x'",
            r"character 9; there may stand a finite number\n  speed > 'x'\n          \^",
        ),
        ("speed > 1 speed", r"character 11; there may stand 'and', 'or' or the end"),
        ("speed > 1 and speed == 'x'", "against a number and against a text"),
        ("flow == 'x'", "holds numbers and is held against a text"),
        ("time == 'x'", "is the time, the asset or the label"),
        ("mode == 'AUTO'", "contract.mode"),
    ],
)
def test_a_wrong_condition_is_refused_and_its_place_shown(when: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Contract(time="time", sensors=("flow",), run_condition=when)


# ---------------------------------------------------------------------------------------- rows


def test_start_up_counts_from_each_start_also_after_a_gap() -> None:
    contract = Contract(
        time="time",
        sensors=("flow",),
        sampling={"max_gap_s": 5},
        run_condition={"when": "speed > 1", "start_up_s": 2},
    )
    seconds = [0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22]
    speed = [9, 9, 9, 0, 9, 9, 9, None, 9, 9, 9]
    table = pa.table(
        {
            "asset": ["a"] * len(seconds),
            "time": pa.array([s * 10**6 for s in seconds], pa.timestamp("us", "UTC")),
            "speed": pa.array(speed, pa.float64()),
        }
    )
    said = [""] * len(seconds)
    for entry in set_aside(table, contract):
        for at in np.flatnonzero(entry.mask):
            said[at] = entry.reason.partition(" ")[0]
    on, start = "", "start-up"
    assert said == [start, start, on, "outside", start, start, on, "unknown", start, start, on]


# ------------------------------------------------------------------------------------ whole plants


def write_plant(folder: Path, *, garbage: float = 0.0, extra: str = "") -> Path:
    """A machine that stands still for 20 of every 100 seconds, warms up 5, and winds down 3."""
    rng = np.random.default_rng(0)
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    lines = ["time,asset,flow,power,speed,state"]
    for i in range(800):
        load, noise = rng.normal(), 0.1 * rng.normal(size=2)
        runs = i % 100 >= 20
        is_odd = not runs or i % 100 < 25 or i % 100 >= 97
        values = [load + noise[0], -load + noise[1]]
        if is_odd:
            values = [v + garbage * (1 + i % 7) for v in values]
        state = "AUTO" if runs else "STOP"
        cells = ",".join(f"{v:.6f}" for v in values)
        lines.append(
            f"{(begin + timedelta(seconds=i)).isoformat()},pump,{cells},{100 * runs},{state}"
        )
    (folder / "incoming").mkdir(parents=True)
    (folder / "incoming" / "a.csv").write_text("\n".join(lines) + "\n")
    plant = folder / "plant.yml"
    plant.write_text(
        "name: runs\nsource: {path: incoming}\ncontract:\n  time: time\n  asset: asset\n"
        "  sensors: [flow, power]\n"
        "  run_condition: {when: speed > 50 and state == 'AUTO', start_up_s: 5, shut_down_s: 3}\n"
        "window: 3\nsmoothing: 0.5\ncalibration: {false_alarm_rate: 0.05}\n"
        "training: {epochs: 2, min_steps: 60, batch_size: 64, checks: 6}\n" + extra
    )
    return plant


def done(folder: Path, garbage: float) -> PlantConfig:
    plant = read_plant(write_plant(folder, garbage=garbage))
    run_all(plant)
    return plant


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlantConfig, PlantConfig]:
    """The same plant, once with garbage wherever the machine does not run steadily."""
    folder = tmp_path_factory.mktemp("runs")
    return done(folder / "calm", 0.0), done(folder / "garbage", 1e4)


def verdicts(plant: PlantConfig) -> list[dict[str, object]]:
    table = Lake(plant.lake, plant.contract).open(VERDICTS)
    found = [row for batch in rows(table) for row in batch.to_pylist()]
    return sorted(found, key=lambda row: row["time"])


def test_nothing_is_learnt_from_rows_outside(pair: tuple[PlantConfig, PlantConfig]) -> None:
    calm, garbage = (ModelPackage.read(latest_trained(p) / "package") for p in pair)
    a, b = (p.units["*"].scorer.state_dict() for p in (calm, garbage))
    assert list(a) == list(b)
    for name, tensor in a.items():
        assert_array_equal(tensor, b[name])
    assert calm.thresholds == garbage.thresholds
    assert any("left out by the run condition" in note for note in calm.provenance.notes)
    assert any("left out by a stop that follows" in note for note in calm.provenance.notes)


def test_rows_outside_are_off_and_change_no_other_verdict(
    pair: tuple[PlantConfig, PlantConfig],
) -> None:
    calm, garbage = (verdicts(plant) for plant in pair)
    for i, (one, other) in enumerate(zip(calm, garbage, strict=True)):
        if i % 100 < 25:
            assert (one["status"], one["score"]) == ("off", None)
            is_start = i % 100 >= 20
            assert one["reason"] == "start-up" if is_start else "outside" in str(one["reason"])
        elif i % 100 < 97:
            assert (one["status"], one["score"]) == (other["status"], other["score"])
            assert one["status"] in ("normal", "anomaly")


def test_package_alone_says_the_same_and_needs_the_columns_of_the_condition(
    pair: tuple[PlantConfig, PlantConfig],
) -> None:
    calm = pair[0]
    package = ModelPackage.read(latest_trained(calm) / "package")
    lake = Lake(calm.lake, calm.contract)
    readings = pa.Table.from_batches(list(rows(lake.open(READINGS)))).sort_by("time")
    given = readings.select(["asset", "time", "flow", "power", "speed", "state"])
    alone = package.score(given).select(["status", "reason", "score"]).to_pylist()
    told = [{name: row[name] for name in ("status", "reason", "score")} for row in verdicts(calm)]
    assert alone == told
    for name in ("speed", "state", "time"):
        with pytest.raises(InputError, match=f"column '{name}' is missing"):
            package.score(given.drop_columns([name]))


def test_a_condition_can_ask_for_the_mode() -> None:
    contract = Contract(
        time="time", mode="recipe", sensors=("speed",),
        run_condition={"when": "recipe in ('A', 'B') and not speed < 1"},
    )  # fmt: skip
    assert contract.carried == {}
    table = pa.table(
        {
            "asset": ["a"] * 4,
            "time": pa.array([0, 1, 2, 3], pa.timestamp("us", "UTC")),
            "speed": [5.0, 5.0, 0.5, 5.0],
            "mode": ["A", "C", "B", None],
        }
    )
    held = truth(parse(contract.run_condition.when), table, contract.mode)
    assert held.to_pylist() == [True, False, False, None]


@pytest.mark.slow
def test_a_stream_cut_anywhere_gives_the_same_verdicts(
    pair: tuple[PlantConfig, PlantConfig], tmp_path: Path
) -> None:
    """Later rows arrive at once, or in files that begin at each kind of place of a cycle."""
    told = []
    for name, cuts in (("whole", []), ("cut", [1, 19, 20, 21, 24, 25, 26, 27, 40, 97, 100, 122])):
        folder = tmp_path / name
        shutil.copytree(Path(pair[0].work_path).parents[1], folder)
        header, *lines = (folder / "incoming" / "a.csv").read_text().splitlines()
        later = []
        for i, line in enumerate(lines[:180]):
            moment = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=800 + i)
            later.append(moment.isoformat() + line[line.index(",") :])
        plant = read_plant(folder / "plant.yml")
        for low, high in zip([0, *cuts], [*cuts, len(later)], strict=True):
            path = folder / "incoming" / f"b{low}.csv"
            path.write_text("\n".join([header, *later[low:high]]) + "\n")
            ingest(plant)
            score(plant)
        told.append([(row["time"], row["status"], row["score"]) for row in verdicts(plant)])
    assert len(told[0]) == 980
    assert told[0] == told[1]
