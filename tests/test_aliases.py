"""Whatever is done at once, and whoever is killed: the aliases end as the table says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from judged_plant import champion_of, plant_with, registered, version_of, with_versions
from turns import Process, take_turns

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import Lake
from vae_anomaly.steps import aliases as steps_aliases
from vae_anomaly.steps.aliases import DONE, apply_promotions, settle
from vae_anomaly.steps.promote import archive
from vae_anomaly.steps.promotions import Promotion, append_promotion, read_promotions, standing
from vae_anomaly.tracking import Tracking, open_tracking


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, database: Path) -> PlantConfig:
    """Version 3 judges; that 1 is to judge stands in the table, and no alias says so yet."""
    plant = plant_with(tmp_path_factory.mktemp("template"), database)
    for letter in "abc":
        registered(plant, letter)
    champion_of(plant, version_of(plant, 3))
    append_promotion(plant, Promotion("promoted", "", "1", "ann", "test"))
    return plant


@pytest.fixture
def plants(tmp_path: Path, template: PlantConfig) -> Iterator[PlantConfig]:
    """As many plants as are wanted that begin like the template."""
    return (begun(tmp_path / str(number), template) for number in count())


def begun(folder: Path, template: PlantConfig) -> PlantConfig:
    plant = with_versions(folder, template)
    shutil.copytree(Path(template.lake, "promotions"), Path(plant.lake, "promotions"))
    return plant


def held(plant: PlantConfig) -> dict[str, str]:
    """Version of each alias."""
    return {alias: v.version for v in open_tracking(plant).versions() for alias in v.aliases}


def settled(plant: PlantConfig) -> str:
    """Version that judges after the next scoring: aliases and table agree, by nobody's hand."""
    settle(plant, open_tracking(plant))
    entries = read_promotions(Lake(plant.lake, plant.contract))
    assert "found" not in {entry.action for entry in entries}
    now = standing(entries)
    wanted = {"champion": now.champion, "previous": now.previous("123")}
    assert held(plant) == {alias: version for alias, version in wanted.items() if version}
    return now.champion


def overtaken(plant: PlantConfig, before: int, after: int) -> bool:
    """Kill who sets aliases after so many calls, of which another promotes 2 in between.

    True where it had no more calls to make.
    """
    slow = Process(lambda: apply_promotions(plant, open_tracking(plant)))
    slow.go(before)
    champion_of(plant, version_of(plant, 2))
    slow.go(after)
    had_ended = slow.is_over
    slow.kill()
    return had_ended


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 3])
def test_who_is_overtaken_and_killed_undoes_no_promotion(
    after: int, plants: Iterator[PlantConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its calls: an alias of an older table is not taken for one that was moved."""
    take_turns(monkeypatch)
    for before, plant in enumerate(plants):
        had_ended = overtaken(plant, before, after)
        assert settled(plant) == "2", f"killed {after} calls after its call {before}"
        if had_ended:
            break
    assert before > 8


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_three_at_once_in_any_order_of_their_calls(
    seed: int, plants: Iterator[PlantConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two promote, one settles; each is killed at some call, or lives."""
    take_turns(monkeypatch)
    any_order(next(plants), seed)


def any_order(plant: PlantConfig, seed: int) -> None:
    draw = np.random.default_rng(seed)
    two, three = version_of(plant, 2), version_of(plant, 3)
    work = (
        lambda: champion_of(plant, two),
        lambda: champion_of(plant, three),
        lambda: settle(plant, open_tracking(plant)),
    )
    alive = [Process(each) for each in work]
    lives = {process: int(draw.integers(5, 60)) for process in alive}
    while alive:
        process = alive[draw.integers(len(alive))]
        process.go(int(draw.integers(1, 12)))
        if process.n_calls > lives[process]:
            process.kill()
        if process.is_over:
            alive.remove(process)
    settled(plant)


# ------------------------------------------------------------------------------------------ by hand


def killed(plant: PlantConfig) -> Tracking:
    """Kill who lets 1 judge once its alias is set, and promote 2."""
    tracking = open_tracking(plant)
    process = Process(lambda: apply_promotions(plant, open_tracking(plant)))
    while held(plant)["champion"] != "1":
        process.go()
    process.kill()
    champion_of(plant, version_of(plant, 2))
    return tracking


def last(plant: PlantConfig) -> tuple[str, str]:
    entry = read_promotions(Lake(plant.lake, plant.contract))[-1]
    return entry.action, entry.to_version


def test_what_is_moved_by_hand_is_found_though_others_were_killed(
    plants: Iterator[PlantConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_turns(monkeypatch)
    plant = next(plants)
    tracking = killed(plant)
    tracking.set_alias("champion", version_of(plant, 3))
    settle(plant, tracking)
    assert last(plant) == ("found", "3")
    assert held(plant) == {"champion": "3", "previous": "2"}


def test_what_is_moved_by_hand_is_found_before_a_change_is_finished(
    plants: Iterator[PlantConfig],
) -> None:
    plant = next(plants)
    tracking = open_tracking(plant)
    tracking.set_alias("champion", version_of(plant, 2))
    settle(plant, tracking)
    assert last(plant) == ("found", "2")
    assert held(plant) == {"champion": "2", "previous": "1"}


def test_what_a_killed_one_may_have_set_is_taken_back_until_it_is_gone(
    plants: Iterator[PlantConfig],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    take_turns(monkeypatch)
    plant = next(plants)
    tracking = killed(plant)
    one = version_of(plant, 1)
    for _ in range(2):
        tracking.set_alias("champion", one)
        assert settled(plant) == "2"
        assert "version 2 judges, as the table says" in caplog.text
        caplog.clear()
    monkeypatch.setattr(steps_aliases, "GONE", timedelta(seconds=-1))
    assert settled(plant) == "2"
    assert not caplog.text, "there was nothing to finish"
    assert list(tracking.notes()) == [DONE]
    tracking.set_alias("champion", one)
    settle(plant, tracking)
    assert last(plant) == ("found", "1")


@pytest.mark.parametrize("number", ["1", "2"])
def test_challenger_that_judges_or_is_archived_does_not_contend(
    number: str, plants: Iterator[PlantConfig]
) -> None:
    """Who let it contend was killed before it looked again."""
    plant = next(plants)
    archive(plant, "2")
    tracking = open_tracking(plant)
    tracking.set_challenger(version_of(plant, int(number)))
    assert settled(plant) == "1"
    tracking.set_challenger(version_of(plant, 3))
    settle(plant, tracking)
    assert held(plant)["challenger"] == "3"
