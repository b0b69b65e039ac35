"""Every change of the champion stands in the table once, and the aliases say what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_plant import (
    N,
    champion_of,
    moment,
    plant_with,
    registered,
    take_in,
    verdicts_of,
    version_of,
    with_versions,
)

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import Lake
from vae_anomaly.errors import InputError, PackageError, RegistryError, RegistryUnreachableError
from vae_anomaly.report import models_table
from vae_anomaly.steps import promotions
from vae_anomaly.steps.aliases import set_challenger, settle
from vae_anomaly.steps.history import history, history_table, judged_by, judged_table
from vae_anomaly.steps.promote import archive, promote, promote_table, rollback
from vae_anomaly.steps.promotions import (
    Promotion,
    part_played,
    read_promotions,
    speaker,
    standing,
)
from vae_anomaly.steps.score import score
from vae_anomaly.tracking import Tracking, open_tracking


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, database: Path) -> PlantConfig:
    """Four versions, of which the second asks for a higher score, and no alias."""
    plant = plant_with(tmp_path_factory.mktemp("template"), database)
    for letter, shift in zip("abcd", (0.0, 5.0, 0.0, 0.0), strict=True):
        registered(plant, letter, shift=shift)
    return plant


@pytest.fixture
def plant(tmp_path: Path, template: PlantConfig) -> PlantConfig:
    return with_versions(tmp_path, template)


def changes(plant: PlantConfig) -> list[tuple[str, str, str]]:
    found = read_promotions(Lake(plant.lake, plant.contract))
    assert [entry.number for entry in found] == list(range(1, len(found) + 1))
    return [(entry.action, entry.from_version, entry.to_version) for entry in found]


def aliases(plant: PlantConfig) -> dict[str, str]:
    return {a: v.version for v in open_tracking(plant).versions() for a in v.aliases}


# -------------------------------------------------------------------------------- what they come to


@given(st.lists(st.sampled_from(["1", "2", "3", "4", "back", "-1", "-2", "-3"]), max_size=14))
def test_rollbacks_go_further_back_and_never_to_and_fro(steps: list[str]) -> None:
    """Against a stack that is kept by hand."""
    known, stack, archived = {"1", "2", "3", "4"}, [], set[str]()
    entries: list[Promotion] = []
    for step in steps:
        now = standing(entries)
        if step == "back":
            below = [v for v in stack[:-1] if v not in archived and v != stack[-1]]
            assert now.previous(known) == (below[-1] if below else "")
            if not below:
                continue
            while stack[-1] != below[-1]:
                stack.pop()
            entries.append(Promotion("rolled_back", "", below[-1], "ann", ""))
        elif step.startswith("-"):
            if stack and stack[-1] == step[1:]:
                continue  # the champion is not archived
            archived.add(step[1:])
            entries.append(Promotion("archived", "", step[1:], "ann", ""))
        else:
            archived.discard(step)
            if not stack or stack[-1] != step:
                stack.append(step)
            entries.append(Promotion("promoted", "", step, "ann", ""))
    assert standing(entries).champions == tuple(stack)
    assert standing(entries).archived == archived
    parts = {version: part_played(version, entries) for version in known}
    ever = {entry.to_version for entry in entries if entry.action == "promoted"}
    assert {v for v, part in parts.items() if part == "archived"} == archived
    judging = {v for v, part in parts.items() if part in ("promoted", "rolled back to")}
    assert judging == set(stack[-1:])
    assert {v for v, part in parts.items() if not part} == known - ever - archived


def test_the_speaker_is_who_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_ANOMALY_USER", "ben")
    assert (speaker("ann"), speaker()) == ("ann", "ben")
    monkeypatch.delenv("VAE_ANOMALY_USER")
    assert speaker()


# ------------------------------------------------------------------------------------------ by hand


@pytest.mark.slow
def test_whole_life_of_three_versions(plant: PlantConfig) -> None:
    take_in(plant, 0)
    tracking = open_tracking(plant)
    promote(plant, "1", why="the first")
    score(plant)
    tracking.set_challenger(tracking.versions()[1])
    promote(plant, why="better", by="ben")
    assert aliases(plant) == {"champion": "2", "previous": "1"}
    take_in(plant, 1)
    assert score(plant).model_version == "2"
    promote(plant, "3")
    before = verdicts_of(plant)
    report = rollback(plant, why="too many alarms")
    assert (report.champion, report.previous, report.before) == ("2", "1", "3")
    assert promote_table(report).title == "Rollback"
    assert verdicts_of(plant) == before, "a rollback loses nothing"
    take_in(plant, 2)
    assert score(plant).model_version == "2"
    assert rollback(plant).champion == "1"
    assert aliases(plant) == {"champion": "1"}
    with pytest.raises(RegistryError, match="'previous' to go back to"):
        rollback(plant)
    assert changes(plant) == [
        ("first", "", "1"),
        ("promoted", "1", "2"),
        ("promoted", "2", "3"),
        ("rolled_back", "3", "2"),
        ("rolled_back", "2", "1"),
    ]
    first, second, *_ = history(plant)
    assert (second.by, second.why, second.scored_through) == ("ben", "better", 1)
    assert (first.scored_through, first.readings_version) == (None, 1)
    assert "too many alarms" in history_table(history(plant)).markdown()
    every = [(row["asset"], row["time"]) for row in verdicts_of(plant) if row["line"] == "champion"]
    assert len(every) == len(set(every)) == 3 * N


def test_archived_version_is_out_until_it_is_forced_back(plant: PlantConfig) -> None:
    for number in (1, 2, 3):
        champion_of(plant, version_of(plant, number))
    with pytest.raises(RegistryError, match="version 3 judges; promote another"):
        archive(plant, "champion")
    report = archive(plant, "2", why="its sensor is gone")
    assert (report.champion, report.previous) == ("3", "1")
    assert aliases(plant) == {"champion": "3", "previous": "1"}
    archive(plant, "2")
    assert changes(plant)[-1] == ("archived", "3", "2")
    assert len(changes(plant)) == 4
    table = models_table(plant, open_tracking(plant).versions(), history(plant))
    gates = {row[0]: row[-1] for row in table.rows}
    assert gates == {"1": "superseded by 2", "2": "archived", "3": "promoted", "4": "–"}
    assert promote_table(report).title == "Archive"
    with pytest.raises(RegistryError, match=r"version 2 is archived .*--force"):
        promote(plant, "2")
    promote(plant, "2", force=True)
    assert aliases(plant) == {"champion": "2", "previous": "3"}
    assert not any("vae_anomaly.archived" in v.tags for v in open_tracking(plant).versions())


def test_promote_refuses_what_may_not_judge(plant: PlantConfig) -> None:
    tracking = open_tracking(plant)
    with pytest.raises(RegistryError, match="no version or alias 'challenger'; there are: 1, 2"):
        promote(plant)
    champion_of(plant, version_of(plant, 1))
    _, two, three, four = tracking.versions()
    with pytest.raises(RegistryError, match="version 1 judges already"):
        promote(plant, "1")
    with pytest.raises(RegistryError, match=r"'12'; there are: 1 \(champion\), 2, 3, 4"):
        promote(plant, "12")
    tracking.set_tags(two, {"vae_anomaly.plant": "fans"})
    with pytest.raises(RegistryError, match="of plant 'fans', not 'pumps'"):
        promote(plant, "2")
    tracking.set_tags(three, {"vae_anomaly.package_digest": "0" * 64})
    with pytest.raises(RegistryError, match="not the one that was registered"):
        promote(plant, "3")
    tags = {"vae_anomaly.decision": "refused", "vae_anomaly.reasons": json.dumps(["AUROC 0.1"])}
    tracking.set_tags(four, tags)
    with pytest.raises(RegistryError, match=r"the gate refused version 4: AUROC 0\.1\. --force"):
        promote(plant, "4")
    tried = promote(plant, "4", dry_run=True)
    assert promote_table(tried).title == "Promotion"
    assert "AUROC 0.1" in promote_table(tried).markdown()
    assert changes(plant) == [("promoted", "", "1")]
    forced = promote(plant, "4", force=True)
    assert forced.champion == "4"
    assert "the gate had said: AUROC 0.1" in promote_table(forced).notes


def test_damaged_copy_on_the_disk_is_fetched_again(plant: PlantConfig) -> None:
    version = version_of(plant, 1)
    folder = open_tracking(plant).fetch_package(version, plant.work_path / "packages")
    (folder / "scorer-0.safetensors").write_bytes(b"damaged")
    assert promote(plant, "1").champion == "1"


def test_without_the_registry_nothing_is_half_done(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_of(plant, version_of(plant, 1))
    champion_of(plant, version_of(plant, 2))
    before = changes(plant), aliases(plant)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        for change in (promote, rollback, lambda plant: archive(plant, "1")):
            with pytest.raises(RegistryUnreachableError, match="does not answer"):
                change(plant)
    assert (changes(plant), aliases(plant)) == before


def test_the_list_calls_no_row_a_false_alarm_where_nothing_is_labelled(plant: PlantConfig) -> None:
    tracking = open_tracking(plant)
    unlabelled = plant.contract.model_copy(update={"label": None})
    plant = plant.model_copy(update={"contract": unlabelled})
    listed = models_table(plant, tracking.versions(), history(plant))
    assert "flagged" in listed.columns
    assert "false alarms" not in listed.columns
    tracking.set_tags(
        tracking.versions()[0], {"test_detection_rate": "0.5"}
    )  # people named a fault
    assert "false alarms" in models_table(plant, tracking.versions(), []).columns


# ------------------------------------------------------------------------- cut short, and by others


class CutError(Exception):
    """Stands for a kill: nothing of ours catches it."""


def cut(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, after: bool) -> None:
    """Break off before or after the next call of a function."""
    original: Callable[..., object] = getattr(owner, name)

    def broken(*args: object, **kwargs: object) -> object:
        if after:
            original(*args, **kwargs)
        raise CutError

    monkeypatch.setattr(owner, name, broken)


STEPS = [
    (promotions, "commit"),
    (Tracking, "set_alias"),
    (Tracking, "drop_alias"),
    (Tracking, "set_note"),
    (Tracking, "drop_note"),
    (Tracking, "fetch_package"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), STEPS)
def test_change_cut_short_is_finished_by_the_same_again(
    owner: object, name: str, after: bool, plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_of(plant, version_of(plant, 1))
    two = version_of(plant, 2)
    open_tracking(plant).set_challenger(two)
    with monkeypatch.context() as patch:
        cut(patch, owner, name, after=after)
        with pytest.raises(CutError):
            champion_of(plant, two)
    champion_of(plant, two)
    assert changes(plant) == [("promoted", "", "1"), ("promoted", "1", "2")]
    assert aliases(plant) == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), STEPS[:5])
def test_change_cut_short_is_finished_by_the_next_scoring(
    owner: object, name: str, after: bool, plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in(plant, 0)
    champion_of(plant, version_of(plant, 1))
    two = version_of(plant, 2)
    open_tracking(plant).set_challenger(two)
    with monkeypatch.context() as patch:
        cut(patch, owner, name, after=after)
        with pytest.raises(CutError):
            champion_of(plant, two)
    stands = changes(plant)[-1][2]
    assert score(plant).model_version == stands, "the table and who judges agree"
    assert aliases(plant)["champion"] == stands
    assert stands == "2" or (name == "commit" and not after)


# --------------------------------------------------------------------------- two at the same moment


def overtake(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, rival: Callable[[], object]
) -> None:
    """Let a rival do all of its own just before the next call of a function."""
    original: Callable[..., object] = getattr(owner, name)
    waiting = [rival]

    def overtaken(*args: object, **kwargs: object) -> object:
        while waiting:
            waiting.pop()()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, overtaken)


def test_version_archived_in_the_same_moment_does_not_judge(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_of(plant, version_of(plant, 1))
    open_tracking(plant).set_challenger(version_of(plant, 2))
    overtake(monkeypatch, promotions, "commit", lambda: archive(plant, "2", by="ann"))
    with pytest.raises(RegistryError, match=r"version 2 is archived \(.* by ann\)"):
        promote(plant)
    assert changes(plant) == [("promoted", "", "1"), ("archived", "1", "2")]
    assert aliases(plant) == {"champion": "1"}


def test_version_that_judges_since_the_same_moment_is_not_archived(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_of(plant, version_of(plant, 1))
    overtake(monkeypatch, promotions, "commit", lambda: promote(plant, "2"))
    with pytest.raises(RegistryError, match="version 2 judges; promote another one"):
        archive(plant, "2")
    assert changes(plant) == [("promoted", "", "1"), ("promoted", "1", "2")]
    assert aliases(plant) == {"champion": "2", "previous": "1"}


def test_version_archived_in_the_same_moment_does_not_contend(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_of(plant, version_of(plant, 1))
    tracking, two = open_tracking(plant), version_of(plant, 2)
    with monkeypatch.context() as patch:
        overtake(patch, Tracking, "set_challenger", lambda: archive(plant, "2"))
        with pytest.raises(RegistryError, match="version 2 is archived"):
            set_challenger(plant, tracking, two)
    assert aliases(plant) == {"champion": "1"}
    with pytest.raises(RegistryError, match="version 2 is archived"):
        set_challenger(plant, tracking, two)
    set_challenger(plant, tracking, version_of(plant, 3))
    assert aliases(plant) == {"champion": "1", "challenger": "3"}


def test_who_sets_aliases_by_an_older_table_looks_again(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = (version_of(plant, number) for number in (1, 2, 3))
    champion_of(plant, one)
    overtake(monkeypatch, Tracking, "set_alias", lambda: champion_of(plant, three))
    champion_of(plant, two)
    assert changes(plant)[1:] == [("promoted", "1", "2"), ("promoted", "2", "3")]
    assert aliases(plant) == {"champion": "3", "previous": "2"}
    assert open_tracking(plant).notes()["vae_anomaly.promotions"].startswith("3 of ")


@pytest.mark.slow
def test_whatever_is_done_at_once_the_table_holds_and_the_aliases_agree(
    plant: PlantConfig,
) -> None:
    """Three promote and archive the same versions as fast as they can."""
    versions = open_tracking(plant).versions()
    champion_of(plant, versions[0])

    def rival(turn: str) -> None:
        for word in turn.split():
            with suppress(RegistryError):  # which is an answer
                if word.startswith("-"):
                    archive(plant, word[1:])
                else:
                    champion_of(plant, versions[int(word) - 1])

    with ThreadPoolExecutor() as pool:
        list(pool.map(rival, ["2 -3 4 -1", "3 -2 1 -4", "4 3 -1 2"]))
    entries = read_promotions(Lake(plant.lake, plant.contract))
    assert len(entries) > 3
    for number, entry in enumerate(entries):
        before = standing(entries[:number])
        assert entry.from_version == before.champion
        assert entry.action in ("promoted", "archived"), "nobody moved an alias by hand"
        if entry.action == "archived":
            assert entry.to_version != before.champion
        else:
            assert entry.to_version not in before.archived
    now = standing(entries)
    wanted = {"champion": now.champion, "previous": now.previous("1234")}
    assert aliases(plant) == {alias: version for alias, version in wanted.items() if version}


def test_champion_named_in_mlflow_itself_is_written_down(plant: PlantConfig) -> None:
    champion_of(plant, version_of(plant, 1))
    tracking = open_tracking(plant)
    tracking.set_alias("champion", version_of(plant, 2))
    settle(plant, tracking)
    settle(plant, tracking)
    assert changes(plant) == [("promoted", "", "1"), ("found", "1", "2")]
    assert rollback(plant).champion == "1"


def test_champion_whose_alias_is_gone_gets_it_back(plant: PlantConfig) -> None:
    champion_of(plant, version_of(plant, 1))
    tracking = open_tracking(plant)
    tracking.drop_alias("champion")
    settle(plant, tracking)
    assert aliases(plant)["champion"] == "1"
    assert changes(plant) == [("promoted", "", "1")]


def test_champion_of_before_there_was_a_table_is_written_down(plant: PlantConfig) -> None:
    take_in(plant, 0)
    open_tracking(plant).set_alias("champion", version_of(plant, 1))
    score(plant)
    assert changes(plant) == [("found", "", "1")]


def test_lake_restored_from_a_copy_moves_no_alias_back(plant: PlantConfig) -> None:
    """The table lacks what the registry has seen: what judges stays, and is written down."""
    champion_of(plant, version_of(plant, 1))
    champion_of(plant, version_of(plant, 2))
    log = Path(plant.lake, "promotions", "_delta_log")
    sorted(log.glob("*.json"))[-1].unlink()
    settle(plant, open_tracking(plant))
    assert changes(plant) == [("promoted", "", "1"), ("found", "1", "2")]
    assert aliases(plant)["champion"] == "2"


# --------------------------------------------------------------------------------- who judged what


def test_the_verdicts_say_which_model_judged_an_asset(plant: PlantConfig) -> None:
    take_in(plant, 0)
    champion_of(plant, version_of(plant, 1))
    score(plant)
    champion_of(plant, version_of(plant, 2))
    take_in(plant, 1)
    score(plant)
    one, two = judged_by(plant, "a", "1970-01-01")
    assert (one.model_version, two.model_version) == ("1", "2")
    assert (one.first, one.last) == (moment(0), moment(N - 2))
    assert (two.first, two.last) == (moment(N), moment(2 * N - 2))
    assert one.package_digest != two.package_digest
    assert sum(one.statuses.values()) == N // 2
    own = [row for row in verdicts_of(plant) if row["asset"] == "b"]
    for number, version in ((1, "1"), (N - 1, "1"), (N + 1, "2"), (2 * N, "2")):
        (found,) = judged_by(plant, "b", moment(number).isoformat())
        stands = max((r for r in own if r["time"] <= moment(number)), key=lambda r: r["time"])  # type: ignore[operator, return-value, arg-type]
        assert (found.model_version, found.last) == (version, stands["time"])
        assert found.highest == stands["score"]
        assert found.first_readings == stands["readings_version"]
    assert "version 1 and version 2" in judged_table([one, two], "1970-01-01").markdown()
    with pytest.raises(InputError, match="no verdict is of asset 'z'; allowed: a, b"):
        judged_by(plant, "z", "1970-01-01")
    with pytest.raises(InputError, match="there are verdicts from 1970-01-01 00:00 to"):
        judged_by(plant, "a", "2026-01-01")
    with pytest.raises(InputError, match="'March' is not a time"):
        judged_by(plant, "a", "March")


def test_damaged_package_everywhere_is_an_error(tmp_path: Path, database: Path) -> None:
    plant = plant_with(tmp_path, database)
    registered(plant, "a")
    for file in plant.work_path.rglob("artifacts/**/scorer-0.safetensors"):
        file.write_bytes(b"damaged")
    with pytest.raises(PackageError, match="has changed"):
        promote(plant, "1")
    assert changes(plant) == []
